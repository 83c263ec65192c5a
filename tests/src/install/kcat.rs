//! kcat, as Debian ships it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::{process, toolchain};

const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The program; in CI it is installed with apt-get where it is missing, elsewhere nothing on the machine is changed.
pub fn installed() -> Result<Option<PathBuf>> {
    package("kcat", "kcat")
}

/// A program of a Debian package of that name.
pub(super) fn package(name: &str, program: &str) -> Result<Option<PathBuf>> {
    if let Some(found) = toolchain::find(program) {
        return Ok(Some(found));
    }
    if toolchain::is_ci() && toolchain::find("apt-get").is_some() {
        let apt = |arguments: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
            process::run(&mut apt, INSTALL_LIMIT)
        };
        apt(&["update"])?;
        apt(&["install", "--no-install-recommends", name])?;
    }
    match toolchain::find(program) {
        Some(found) => Ok(Some(found)),
        None => toolchain::missing_is(&format!("what needs {name}"), program).map(|_| None),
    }
}
