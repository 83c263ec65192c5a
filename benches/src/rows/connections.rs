//! Memory of connections that do nothing, and of clients that stop in the middle of a large request.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::measure::{Usage, allow_open_files};
use crate::peers::{Held, Plan, Run, Side, figure};
use crate::report::{Bar, Line, number};

/// The budget that the broker is given for this row.
const MEMORY_BYTES: u64 = 256 << 20;
/// What a broker needs beside its budget: program, threads, page tables.
const BESIDE_BUDGET_MB: f64 = 64.0;

pub(super) fn idle(plan: &Plan) -> Result<Vec<Line>> {
    let connections = plan.pick(10_000_u64, 500);
    // Both ends are on this machine; the broker inherits the limit.
    allow_open_files(connections + 1000)?;
    let run = Run::start(plan, Side::Ours)?;
    let (held, ready_s) = Held::start(run.load("idle", &["--connections", &connections.to_string()])?)?;
    thread::sleep(Duration::from_secs(3));
    let megabytes = Usage::memory(run.pid()?)? as f64 / 1e6;
    ensure!(tests::broker::answers(run.broker.address()), "no answer beside idle connections");
    drop(held);
    let line = Line::new(format!("{connections} idle connections"), "MB", megabytes);
    Ok(vec![line.bar(Bar::OwnAtMost(200.0)).note(format!("opened in {} s", number(ready_s)))])
}

pub(super) fn stopped(plan: &Plan) -> Result<Vec<Line>> {
    let connections = plan.pick(1000_u64, 50);
    allow_open_files(connections + 1000)?;
    let run = Run::start_with(plan, Side::Ours, |settings| settings.memory_bytes = Some(MEMORY_BYTES))?;
    run.measured("produce", &["--topic", "t", "--seconds", "1"])?;
    let arguments = ["--topic", "t", "--connections", &connections.to_string()];
    let (held, _ready_s) = Held::start(run.load("stopped", &arguments)?)?;
    thread::sleep(Duration::from_secs(3));
    let peak = Usage::memory_peak(run.pid()?)? as f64 / 1e6;
    // The others must still be served.
    let (measured, ..) = run.measured("produce", &["--topic", "t", "--seconds", "2"])?;
    let acks = figure(&measured, "acks_per_s")?;
    drop(held);
    let budget = MEMORY_BYTES as f64 / 1e6;
    let line = Line::new(format!("{connections} clients that stop in the middle of 100 MiB"), "MB", peak);
    Ok(vec![line.bar(Bar::OwnAtMost(budget + BESIDE_BUDGET_MB)).note(format!(
        "memory_bytes_max {} MB; another producer beside them: {} acks/s",
        number(budget),
        number(acks)
    ))])
}
