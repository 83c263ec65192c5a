//! strace, as Debian ships it.

use std::path::PathBuf;

use anyhow::Result;

/// The program, installed as [`super::kcat`] is.
pub fn installed() -> Result<Option<PathBuf>> {
    super::kcat::package("strace", "strace")
}
