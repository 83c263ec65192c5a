//! From the start of the process to its first answer; memory and processor of a broker that does nothing.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::measure::{Usage, median};
use crate::peers::{Plan, Run, Side};
use crate::report::{Bar, Line};

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut started = Vec::new();
    let mut memory = Vec::new();
    let mut processor = Vec::new();
    for _ in 0..plan.pick(10, 2) {
        let run = Run::start(plan, Side::Ours)?;
        started.push(run.broker.started_in().as_secs_f64() * 1e3);
    }
    for _ in 0..plan.runs {
        let run = Run::start(plan, Side::Ours)?;
        // What is filled ahead at the first start is not idleness.
        thread::sleep(Duration::from_secs(plan.pick(10, 1)));
        let before = Usage::of(run.pid()?)?;
        thread::sleep(Duration::from_secs_f64(plan.seconds));
        let after = Usage::of(run.pid()?)?;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        processor.push(100.0 * (after.cpu_s - before.cpu_s) / seconds);
        memory.push(Usage::memory(run.pid()?)? as f64 / 1e6);
    }
    Ok(vec![
        Line::new("start to first answer", "ms", median(&started)).bar(Bar::AtMost(150.0)).note("Kafka 2,700 ms"),
        Line::new("memory when idle", "MB", median(&memory)).bar(Bar::AtMost(40.0)).note("Kafka 377 MB"),
        Line::new("processor when idle", "% of a core", median(&processor)).bar(Bar::AtMost(0.5)).note("Kafka 3.5 %"),
    ])
}
