//! What a directory takes of its disk, looked at again and again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::plan::MIB;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// In which blocks are counted, whatever the file system's are.
const BLOCK_BYTES: u64 = 512;

/// Allocated bytes of all files in a directory and below.
pub fn taken(dir: &Path) -> u64 {
    by_folder(dir).values().sum()
}

/// The same for each folder. What goes away meanwhile counts as gone.
fn by_folder(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let (mut sizes, mut left) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = left.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                left.push(entry.path());
            } else {
                *sizes.entry(folder.clone()).or_insert(0) += about.blocks() * BLOCK_BYTES;
            }
        }
    }
    sizes
}

#[derive(Debug, Default)]
struct Seen {
    greatest: u64,
    by_folder: BTreeMap<PathBuf, u64>,
    looks: u64,
}

/// Looks at a directory in a thread of its own, which ends with this value.
#[derive(Debug)]
pub struct Sampler {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    pub fn start(dir: PathBuf) -> Self {
        let (seen, is_over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let thread = thread::spawn({
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let by_folder = by_folder(&dir);
                    let all = by_folder.values().sum();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.looks += 1;
                    if all > seen.greatest {
                        (seen.greatest, seen.by_folder) = (all, by_folder);
                    }
                    drop(seen);
                    thread::sleep(PAUSE);
                }
            }
        });
        Self { seen, is_over, thread: Some(thread) }
    }

    /// The greatest size that was seen, and in how many looks.
    pub fn seen(&self) -> (u64, u64) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.greatest, seen.looks)
    }

    /// What the folders had when it was greatest, as lines.
    pub fn where_greatest(&self) -> String {
        let mut lines = String::new();
        for (folder, bytes) in &self.seen.lock().unwrap_or_else(PoisonError::into_inner).by_folder {
            let _infallible = writeln!(lines, "{:6} MiB {}", bytes / MIB, folder.display());
        }
        lines
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _over = thread.join();
        }
    }
}
