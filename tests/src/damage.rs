//! What a crash leaves at the end of a commit log, made by hand between two runs.
//!
//! A kill keeps the page cache, so that nothing is ever torn by it. Here the end of the log is found as
//! `rosettamq log inspect` tells it, and half a write is put behind it: what the power's loss leaves of a write that
//! nobody was promised.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::broker::rosettamq_binary;
use crate::ledger::Chance;
use crate::process;

/// Where the next frame would begin.
#[derive(Clone, Debug)]
pub struct End {
    pub file: PathBuf,
    pub position: u64,
}

/// The end of the log in a data folder that no broker uses.
pub fn end_of_log(data: &Path) -> Result<End> {
    let mut inspect = Command::new(rosettamq_binary()?);
    inspect.args(["log", "inspect"]).arg(data);
    let text = process::run(&mut inspect, Duration::from_secs(60))?.text();
    let line = text.lines().rev().find(|line| line.starts_with("end ")).context("no line `end` of log inspect")?;
    let field = |name: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        found.with_context(|| format!("no {name} in {line:?}"))
    };
    let file = PathBuf::from(field("file=")?);
    let file = if file.is_absolute() { file } else { data.join(file) };
    Ok(End { file, position: field("position=")?.parse()? })
}

/// Half of a frame: the first bytes are of a real one, the rest never reached the disk.
pub fn append_torn_frame(data: &Path, chance: &mut Chance) -> Result<()> {
    let end = end_of_log(data)?;
    let frame = bytes_like_a_frame(&end)?;
    let kept = usize::try_from(chance.between(1, frame.len() as u64))?;
    write(&end, &frame[..kept])
}

/// A whole frame in which bits are not what was written.
pub fn append_flipped_frame(data: &Path, chance: &mut Chance) -> Result<()> {
    let end = end_of_log(data)?;
    let mut frame = bytes_like_a_frame(&end)?;
    let position = usize::try_from(chance.between(0, frame.len() as u64 - 1))?;
    frame[position] ^= 1 << chance.between(0, 7);
    write(&end, &frame)
}

/// Flips one bit at a position of a file.
pub fn flip_bit(file: &Path, position: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, position)?;
    Ok(())
}

/// The last bytes before the end, which are frames.
fn bytes_like_a_frame(end: &End) -> Result<Vec<u8>> {
    let from = end.position.saturating_sub(4096);
    let mut bytes = vec![0; usize::try_from(end.position - from)?];
    ensure!(!bytes.is_empty(), "nothing before the end at {} of {}", end.position, end.file.display());
    File::open(&end.file)?.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

fn write(end: &End, bytes: &[u8]) -> Result<()> {
    let room = fs::metadata(&end.file)?.len().saturating_sub(end.position);
    let fits = bytes.len().min(usize::try_from(room)?);
    File::options().write(true).open(&end.file)?.write_all_at(&bytes[..fits], end.position)?;
    Ok(())
}
