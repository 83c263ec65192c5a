//! `rosettamq log inspect`: what is in the files of a data directory.

use std::path::Path;

/// Prints segments, entries and damage of a data directory.
pub(crate) fn run(directory: &Path, entries: bool) -> anyhow::Result<()> {
    let _ = (directory, entries);
    anyhow::bail!("not available in this build")
}
