//! Reading what was written, for the first time: the tail from memory, and more than any tail from files.

use anyhow::{Result, ensure};

use crate::measure::median;
use crate::peers::{Plan, Run, Side, alternating, figure, run_load};
use crate::report::{Bar, Line, number};

const SIDES: [Side; 2] = [Side::Ours, Side::Kafka];

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    megabytes_per_s: f64,
    broker_s_per_gb: f64,
    client_s_per_gb: f64,
}

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut lines = pairs(plan, "1 KiB from files", plan.pick(6_000_000_000, 100_000_000), "1024", 1)?;
    // Small enough for the tail; read again from the start by new connections, so that the run is long enough.
    lines.extend(pairs(plan, "1 KiB from memory", plan.pick(24_000_000, 8_000_000), "1024", plan.pick(40, 3))?);
    lines.extend(pairs(plan, "100 B from files", plan.pick(2_000_000_000, 50_000_000), "100", 1)?);
    Ok(lines)
}

/// Writes so many bytes, then reads them `times` times.
fn pairs(plan: &Plan, what: &str, bytes: u64, record_bytes: &str, times: u32) -> Result<Vec<Line>> {
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..plan.runs {
        for side in alternating(&SIDES, round) {
            let run = Run::start(plan, side)?;
            let bytes = bytes.to_string();
            let records = if record_bytes == "100" { "1000" } else { "100" };
            let produce = ["--topic", "t", "--connections", "4", "--depth", "4", "--seconds", "600", "--bytes", &bytes];
            let shape = ["--record-bytes", record_bytes, "--records", records];
            run_load(&mut run.load("produce", &[&produce[..], &shape].concat())?)?;
            let mut total = Measured::default();
            let (mut gigabytes, mut seconds, mut broker, mut client) = (0.0, 0.0, 0.0, 0.0);
            for _ in 0..times {
                let (measured, before, after) = run.measured("fetch", &["--topic", "t", "--connections", "4"])?;
                gigabytes += figure(&measured, "megabytes")? / 1e3;
                seconds += figure(&measured, "seconds")?;
                client += figure(&measured, "client_cpu_s")?;
                broker += after.cpu_s - before.cpu_s;
            }
            ensure!(gigabytes > 0.0, "nothing was read");
            total.megabytes_per_s = gigabytes * 1e3 / seconds;
            total.broker_s_per_gb = broker / gigabytes;
            total.client_s_per_gb = client / gigabytes;
            all[usize::from(side == Side::Kafka)].push(total);
        }
    }
    let of = |side: usize, field: fn(&Measured) -> f64| {
        let values: Vec<f64> = all[side].iter().map(field).collect();
        median(&values)
    };
    let client = |side: usize| number(of(side, |run| run.client_s_per_gb));
    Ok(vec![
        Line::new(format!("consume {what}"), "MB/s", of(0, |run| run.megabytes_per_s))
            .beside(of(1, |run| run.megabytes_per_s))
            .bar(Bar::AtLeast(1.0))
            .note(format!("client s/GB: ours {}, Kafka {}", client(0), client(1))),
        Line::new(format!("consume {what}: broker CPU"), "s/GB", of(0, |run| run.broker_s_per_gb))
            .beside(of(1, |run| run.broker_s_per_gb))
            .bar(Bar::AtMost(1.0)),
    ])
}
