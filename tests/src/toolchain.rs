//! Which toolchains are there, and what happens where one is not.
//!
//! Keeps true: with `CI` set a missing toolchain fails the test that needs it; without, the test is left out with a
//! line on standard error that cannot be overlooked.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The first file of this name in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether a missing toolchain is a failure: in CI, or where the caller says so.
pub fn is_ci() -> bool {
    is_set("CI") || is_set("TEST_REQUIRE_ALL")
}

/// Whether what takes longer than a test run may is wanted too.
pub fn is_nightly() -> bool {
    is_set("TEST_NIGHTLY")
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// True when all `programs` are in `PATH`. Otherwise an error in CI, and elsewhere `false` after saying so.
pub fn require(what: &str, programs: &[&str]) -> Result<bool> {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    missing_is(what, &missing.join(", "))
}

/// What happens where something is not to be had: an error in CI, else `false` and a loud line.
pub fn missing_is(what: &str, missing: &str) -> Result<bool> {
    if is_ci() {
        bail!("{what}: {missing} missing, and CI is set");
    }
    let bar = "!".repeat(100);
    let line = format!("{bar}\n!! LEFT OUT: {what}\n!! missing here: {missing}\n{bar}\n");
    // Not eprintln: the test runner would keep it to itself as long as the test passes.
    std::io::stderr().write_all(line.as_bytes())?;
    Ok(false)
}
