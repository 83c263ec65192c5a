//! From the start after a kill -9 to the first ack, with much data.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measure::median;
use crate::peers::{Plan, Run, Side, run_load};
use crate::report::{Bar, Line};

const SIDES: [Side; 2] = [Side::Ours, Side::Kafka];

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let gigabytes = plan.pick(10.0, 0.2);
    let mut medians = Vec::new();
    // Each side is filled once and killed as often as there are runs: filling is not what is measured.
    for side in SIDES {
        let bytes = (gigabytes * 1e9).to_string();
        let mut run = Run::start(plan, side)?;
        let shape = ["--topic", "t", "--connections", "4", "--depth", "8", "--records", "100"];
        let until = ["--seconds", "1200", "--bytes", &bytes];
        run_load(&mut run.load("produce", &[&shape[..], &until].concat())?)?;
        let mut seconds = Vec::new();
        for _ in 0..plan.runs {
            seconds.push(restart(&mut run)?);
        }
        medians.push(median(&seconds));
    }
    let line = Line::new(format!("restart after kill -9 with {gigabytes} GB, to the first ack"), "s", medians[0]);
    Ok(vec![line.beside(medians[1]).bar(Bar::OwnAtMost(2.0))])
}

fn restart(run: &mut Run) -> Result<f64> {
    // Something is under way when it is killed.
    let mut load = run.load("produce", &["--topic", "t", "--seconds", "60", "--connections", "16"])?;
    let mut producing = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    thread::sleep(Duration::from_millis(500));
    run.broker.kill()?;
    producing.wait()?;
    run.broker.restart()?;
    // An answer to Produce, not only to the handshake.
    let started = run.broker.started_in().as_secs_f64();
    let first = Instant::now();
    run_load(&mut run.load("produce", &["--topic", "t", "--seconds", "0.01"])?)?;
    Ok(started + first.elapsed().as_secs_f64())
}
