//! Tasks of the repository that cargo has no command for: `cargo xtask TASK`.
//!
//! A task prints what it runs, so that each step can be run by hand. `tidy` is a test too and runs with the others.

mod docs;
mod fuzz;
mod process;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask TASK

  tidy            check layers, module pages, file sizes, banned words
  tidy --shrink   lower the recorded sizes of files that have become smaller
  docs            write the generated pages anew
  test [ARGS]     build the release binary, then run all tests against it; ARGS go to cargo test
  fuzz TARGET SECONDS [ARGS]
                  fuzz one target; ARGS go to libFuzzer
  fuzz-all SECONDS
                  fuzz every target in turn";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["tidy", "--shrink"] => tidy::shrink(),
        ["docs"] => docs::run(),
        ["test", rest @ ..] => test::run(rest),
        ["fuzz", target, seconds, rest @ ..] => fuzz::run(target, seconds.parse()?, rest),
        ["fuzz-all", seconds] => fuzz::run_all(seconds.parse()?),
        _ => bail!("{USAGE}"),
    }
}
