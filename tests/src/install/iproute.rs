//! `ip` and `tc`, as Debian ships them.

use std::path::PathBuf;

use anyhow::Result;

/// The program `ip`, installed as [`super::kcat`] is.
pub fn installed() -> Result<Option<PathBuf>> {
    super::kcat::package("iproute2", "ip")
}
