//! Files of a broker: how much they are, their place in the page cache, and how fast the device gives them.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, OFlags, fadvise, statvfs};

/// What is read at a time, as `dd bs=1M` does.
const READ_BYTES: usize = 1 << 20;
/// What direct reads are aligned to.
const ALIGNMENT: usize = 4096;

/// A file and its length, holes included.
#[derive(Clone, Debug)]
pub(crate) struct Sized {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// All files below `dir` whose name ends so, in the order of their names. What goes meanwhile is left out.
pub(crate) fn files_below(dir: &Path, ending: &str) -> Result<Vec<Sized>> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| dir.display().to_string()),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(ending) {
                found.push(Sized { path: entry.path(), bytes: meta.len() });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The lengths of all files below `dir` whose name ends so.
pub(crate) fn bytes_below(dir: &Path, ending: &str) -> Result<u64> {
    Ok(files_below(dir, ending)?.iter().map(|file| file.bytes).sum())
}

/// What the file system that `dir` lies on has room for.
pub(crate) fn free_bytes(dir: &Path) -> Result<f64> {
    let stat = statvfs(dir)?;
    Ok(stat.f_bavail as f64 * stat.f_frsize as f64)
}

/// Lets the device finish what earlier runs left to it, so that no run pays for another.
pub(crate) fn page_cache_sync() -> Result<()> {
    tests::process::run(&mut Command::new("sync"), Duration::from_secs(300))?;
    Ok(())
}

/// Everything of these files leaves the page cache; what is dirty is written first.
pub(crate) fn drop_page_cache(dir: &Path) -> Result<()> {
    page_cache_sync()?;
    for file in files_below(dir, "")? {
        // A broker at work may have removed it meanwhile.
        if let Ok(file) = File::open(&file.path) {
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// How fast these files are read from their beginning to their end, one behind the other, up to so many bytes in all: as
/// `dd bs=1M` does it through an empty page cache, and past it. In MB/s, the better of the two.
pub(crate) fn sequential_megabytes_per_s(files: &[Sized], bytes_max: u64) -> Result<f64> {
    let mut best = 0.0_f64;
    for flags in [OFlags::empty(), OFlags::DIRECT] {
        let (started, mut read) = (Instant::now(), 0_u64);
        let mut room = vec![0; READ_BYTES + ALIGNMENT];
        let aligned = room.as_ptr().align_offset(ALIGNMENT);
        let buffer = &mut room[aligned..aligned + READ_BYTES];
        for file in files {
            let mut file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&file.path)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
            while read < bytes_max {
                match file.read(buffer)? {
                    0 => break,
                    count => read += count as u64,
                }
            }
        }
        ensure!(read > 0, "there is nothing to read");
        best = best.max(read as f64 / 1e6 / started.elapsed().as_secs_f64());
    }
    Ok(best)
}
