//! A slow disk and a wrong clock for one process, whatever the machine has: what `tests/preload/mishaps.c` is told.
//!
//! Keeps true: what is set holds at once, and over every start of the process, until it is set anew or this value ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// The numbers in the file, as the library reads them.
const CLOCK: u64 = 0;
const SYNC: u64 = 8;
const WRITE: u64 = 16;

/// The file that the library of one process has mapped.
#[derive(Debug)]
pub struct Mishaps {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Mishaps {
    /// None yet; the file is made anew.
    pub fn new(library: &Path, path: PathBuf) -> Result<Self> {
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let mishaps = Self { library: library.to_owned(), path, file };
        mishaps.end()?;
        Ok(mishaps)
    }

    /// What stands before a command so that its process has them.
    pub fn wrapper(&self) -> Vec<String> {
        let preload = format!("LD_PRELOAD={}", self.library.display());
        vec!["env".to_owned(), preload, format!("MISHAPS={}", self.path.display())]
    }

    /// The wall clock is off by so many milliseconds.
    pub fn clock(&self, off_ms: i64) -> Result<()> {
        self.set(CLOCK, off_ms.checked_mul(1_000_000).context("a clock that is off by centuries")?)
    }

    /// Every sync and every write takes so much longer.
    pub fn disk(&self, sync: Duration, write: Duration) -> Result<()> {
        self.set(SYNC, i64::try_from(sync.as_nanos())?)?;
        self.set(WRITE, i64::try_from(write.as_nanos())?)
    }

    /// All is as the machine has it.
    pub fn end(&self) -> Result<()> {
        self.clock(0)?;
        self.disk(Duration::ZERO, Duration::ZERO)
    }

    fn set(&self, position: u64, value: i64) -> Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), position).context("telling of a mishap")
    }
}
