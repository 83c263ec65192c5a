//! Node's client `kafkajs` beside our program.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{copy, once, recipe_of};
use crate::{places, process};

/// A folder with `check.js` and its `node_modules`.
pub fn installed() -> Result<PathBuf> {
    let sources = places::client_sources().join("node");
    let files = ["package.json", "package-lock.json", "check.js"];
    once("node", &recipe_of(&sources, &files)?, |folder| {
        copy(&sources, &files, folder)?;
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        process::run(&mut npm, Duration::from_secs(600))?;
        Ok(())
    })
}
