//! One body that goes to many streams, on one shard: the example `shared` of `replica`, since Kafka's protocol has no such request.

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{places, process};

use crate::peers::Plan;
use crate::report::{Bar, Line};

/// So much for the body, and so much for each stream.
const BODY_BYTES_MAX: f64 = 3.0 * 1024.0;
const STREAM_BYTES_MAX: f64 = 64.0;
const STREAMS: u32 = 1000;

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(places::workspace()).args(["run", "--quiet", "--package", "replica", "--example", "shared"]);
    cargo.arg("--target-dir").arg(places::target());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.arg("--").arg(plan.dir.join("shared")).args([plan.pick("20000", "3000"), &STREAMS.to_string()]);
    let text = process::run(&mut cargo, Duration::from_secs(1800))?.text();
    let (written, rest) = text
        .trim()
        .strip_prefix("written ")
        .and_then(|text| text.split_once(" bytes a record, "))
        .with_context(|| format!("not what the example prints: {text}"))?;
    let line = Line::new(format!("1 KiB to {STREAMS} streams: bytes written, per shard"), "bytes", written.parse()?);
    Ok(vec![line.bar(Bar::OwnAtMost(BODY_BYTES_MAX + STREAM_BYTES_MAX * f64::from(STREAMS))).note(rest)])
}
