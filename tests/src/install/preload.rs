//! The library that gives a process a slow disk and a wrong clock, made with the machine's compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::{process, toolchain};

const SOURCE: &str = include_str!("../../preload/mishaps.c");
const COMPILE_LIMIT: Duration = Duration::from_secs(60);

/// The library; `None` where there is no compiler, which is an error in CI.
pub fn installed() -> Result<Option<PathBuf>> {
    if !toolchain::require("slow disks and wrong clocks", &["cc"])? {
        return Ok(None);
    }
    let folder = super::once("preload", SOURCE, |folder| {
        let source = folder.join("mishaps.c");
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        process::run(compile.arg(folder.join("mishaps.so")).arg(source), COMPILE_LIMIT).map(drop)
    })?;
    Ok(Some(folder.join("mishaps.so")))
}
