//! All tests: the release binary is built once, and the tests that start a broker start that one.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{cargo, run as run_command};
use crate::tree::root;

/// Which broker the tests start.
const BINARY_VARIABLE: &str = "TEST_BINARY";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let mut build = cargo();
    build.current_dir(root());
    run_command(build.args(["build", "--release", "--locked", "--package", "server"]))?;
    let mut test = cargo();
    test.current_dir(root());
    test.env(BINARY_VARIABLE, target().join("release/rosettamq"));
    run_command(test.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(arguments))
}

/// Where cargo puts what it builds, as an absolute path.
pub(crate) fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(chosen)
}
