//! From the start after a kill -9 to the first answer, with much data.

use anyhow::Result;

use crate::measure::median;
use crate::peers::{Plan, Run, Side, run_load};
use crate::report::{Bar, Line};

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let gigabytes = plan.pick(10.0, 0.2);
    let bytes = (gigabytes * 1e9).to_string();
    let mut run = Run::start(plan, Side::Ours)?;
    let shape = ["--topic", "t", "--connections", "4", "--depth", "8", "--records", "100"];
    let until = ["--seconds", "1200", "--bytes", &bytes];
    run_load(&mut run.load("produce", &[&shape[..], &until].concat())?)?;
    let mut seconds = Vec::new();
    for _ in 0..plan.runs {
        // Something is under way when it is killed.
        let mut load = run.load("produce", &["--topic", "t", "--seconds", "60", "--connections", "16"])?;
        let mut producing = load.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        run.broker.kill()?;
        producing.wait()?;
        run.broker.restart()?;
        // An answer to Produce, not only to the handshake.
        let started = run.broker.started_in().as_secs_f64();
        let first = std::time::Instant::now();
        run_load(&mut run.load("produce", &["--topic", "t", "--seconds", "0.01"])?)?;
        seconds.push(started + first.elapsed().as_secs_f64());
    }
    let line = Line::new(format!("restart after kill -9 with {gigabytes} GB"), "s", median(&seconds));
    Ok(vec![line.bar(Bar::AtMost(2.0)).note("to the first ack; Kafka 12.5 s with 5.8 GB")])
}
