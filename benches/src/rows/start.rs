//! From the start of the process to its first answer; memory and processor of a broker that does nothing.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::measure::{Usage, median};
use crate::peers::{Plan, Run, Side, alternating};
use crate::report::{Bar, Line};

const SIDES: [Side; 2] = [Side::Ours, Side::Kafka];

#[derive(Debug, Default)]
struct Measured {
    started_ms: Vec<f64>,
    memory_mb: Vec<f64>,
    processor: Vec<f64>,
}

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut all = [Measured::default(), Measured::default()];
    for round in 0..plan.runs {
        for side in alternating(&SIDES, round) {
            let measured = &mut all[usize::from(side == Side::Kafka)];
            let run = Run::start_cold(plan, side)?;
            measured.started_ms.push(run.broker.started_in().as_secs_f64() * 1e3);
            // What is filled ahead at the first start is not idleness.
            thread::sleep(Duration::from_secs(plan.pick(10, 1)));
            let before = Usage::of(run.pid()?)?;
            thread::sleep(Duration::from_secs_f64(plan.seconds));
            let after = Usage::of(run.pid()?)?;
            let seconds = after.at.duration_since(before.at).as_secs_f64();
            measured.processor.push(100.0 * (after.cpu_s - before.cpu_s) / seconds);
            measured.memory_mb.push(Usage::memory(run.pid()?)? as f64 / 1e6);
        }
    }
    let [ours, kafka] = all;
    let line = |what, unit, field: fn(&Measured) -> &Vec<f64>, bar| {
        Line::new(what, unit, median(field(&ours))).beside(median(field(&kafka))).bar(Bar::OwnAtMost(bar))
    };
    Ok(vec![
        line("start to first answer", "ms", |side| &side.started_ms, 150.0),
        line("memory when idle", "MB", |side| &side.memory_mb, 40.0),
        line("processor when idle", "% of a core", |side| &side.processor, 0.5),
    ])
}
