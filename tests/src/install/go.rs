//! Go's two clients, each compiled into one program of ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{once, recipe_of};
use crate::{places, process};

/// The compiled program of `tests/clients/NAME`.
pub fn installed(name: &str) -> Result<PathBuf> {
    let sources = places::client_sources().join(name);
    let mut files = vec!["go.mod", "go.sum", "main.go"];
    files.extend(["history.go"].iter().filter(|file| sources.join(file).exists()));
    let folder = once(name, &recipe_of(&sources, &files)?, |folder| {
        let mut go = Command::new("go");
        go.current_dir(&sources).args(["build", "-mod=readonly", "-o"]).arg(folder.join("check")).arg(".");
        process::run(&mut go, Duration::from_secs(900))?;
        Ok(())
    })?;
    Ok(folder.join("check"))
}
