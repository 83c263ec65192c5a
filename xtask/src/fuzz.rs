//! Fuzzing on the pinned toolchain: libFuzzer with LLVM's coverage instrumentation, which needs no nightly compiler.
//!
//! Each target has seeds in `fuzz/seeds/TARGET`, which are kept small and are in the tree. What a run finds new goes to
//! `fuzz/corpus/TARGET`, an input that fails to `fuzz/artifacts/TARGET`; both are left out of the tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{cargo, output, run as run_command, say};
use crate::test::target as target_folder;
use crate::tree::root;

/// Coverage of edges, values that are compared, and where the program counters lie. No sanitizer for memory: the code
/// under test has no unsafe block of its own.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// An input that takes longer, in seconds, is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// A decoder that takes more memory than this, in MiB, is a finding.
const MEMORY_MIB_MAX: u32 = 1024;

pub(crate) fn run(target: &str, seconds: u32, arguments: &[&str]) -> Result<()> {
    let targets = targets()?;
    ensure!(
        targets.iter().any(|known| known == target),
        "there is no target {target}; there are {}",
        targets.join(", ")
    );
    let host = build()?;
    fuzz(&host, target, seconds, arguments)
}

pub(crate) fn run_all(seconds: u32) -> Result<()> {
    let host = build()?;
    let mut failed = Vec::new();
    for target in targets()? {
        if let Err(error) = fuzz(&host, &target, seconds, &[]) {
            say(&format!("{error:#}"));
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("findings in {}; see fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

/// The targets are the files of `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if let (Some(name), Some("rs")) = (path.file_stem(), path.extension().and_then(|end| end.to_str())) {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// Builds all targets; returns the host's triple, which names the folder that they lie in.
fn build() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names no host")?.to_owned();
    let mut build = cargo();
    build.current_dir(root().join("fuzz"));
    build.env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    build.env("CARGO_TARGET_DIR", target_folder().join("fuzz"));
    // With a target named, build scripts and macros stay without instrumentation.
    run_command(build.args(["build", "--release", "--target", &host]))?;
    Ok(host)
}

fn fuzz(host: &str, target: &str, seconds: u32, arguments: &[&str]) -> Result<()> {
    let folder = |kind: &str| root().join("fuzz").join(kind).join(target);
    let (corpus, artifacts, seeds) = (folder("corpus"), folder("artifacts"), folder("seeds"));
    for made in [&corpus, &artifacts] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let binary = target_folder().join("fuzz").join(host).join("release").join(target);
    let mut fuzzer = Command::new(binary);
    fuzzer.arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    fuzzer.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzzer.args(["-print_final_stats=1", "-verbosity=1"]);
    fuzzer.args(arguments);
    fuzzer.arg(&corpus);
    if Path::new(&seeds).exists() {
        fuzzer.arg(&seeds);
    }
    run_command(&mut fuzzer).with_context(|| format!("{target} has a finding in {}", artifacts.display()))
}
