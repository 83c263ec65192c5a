//! Reading what was written, for the first time: the tail from memory, and more than any tail from files; as they lie
//! after the writing, where Kafka's are still in the page cache, and with nothing of either in it.

use anyhow::{Result, ensure};

use crate::measure::{drop_page_cache, median};
use crate::peers::{Plan, Run, Side, alternating, figure, run_load};
use crate::report::{Bar, Line, number};

const SIDES: [Side; 2] = [Side::Ours, Side::Kafka];

/// What is written and how it is read.
#[derive(Clone, Copy, Debug)]
struct Shape {
    what: &'static str,
    bytes: u64,
    record_bytes: u32,
    /// Records of a batch.
    records: u32,
    /// How often all of it is read.
    times: u32,
    /// Whether the page cache is emptied between writing and reading.
    is_cold: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    megabytes_per_s: f64,
    broker_s_per_gb: f64,
    client_s_per_gb: f64,
}

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let files = Shape {
        what: "1 KiB from files",
        bytes: plan.pick(6_000_000_000, 100_000_000),
        record_bytes: 1024,
        records: 100,
        times: 1,
        is_cold: false,
    };
    // Small enough for the tail; read again and again, so that the run is long enough.
    let memory =
        Shape { what: "1 KiB from memory", bytes: 24_000_000, times: plan.pick(1000, 3), is_cold: false, ..files };
    let cold = Shape { what: "1 KiB from files, none in the page cache", is_cold: true, ..files };
    let small = Shape {
        what: "100 B from files",
        bytes: plan.pick(2_000_000_000, 50_000_000),
        record_bytes: 100,
        records: 1000,
        ..files
    };
    let mut lines = Vec::new();
    for shape in [memory, files, cold, small] {
        lines.extend(pairs(plan, shape)?);
    }
    Ok(lines)
}

fn pairs(plan: &Plan, shape: Shape) -> Result<Vec<Line>> {
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..plan.runs {
        for side in alternating(&SIDES, round) {
            all[usize::from(side == Side::Kafka)].push(measure(plan, side, shape)?);
        }
    }
    let of = |side: usize, field: fn(&Measured) -> f64| {
        let values: Vec<f64> = all[side].iter().map(field).collect();
        median(&values)
    };
    let client = |side: usize| number(of(side, |run| run.client_s_per_gb));
    Ok(vec![
        Line::new(format!("consume {}", shape.what), "MB/s", of(0, |run| run.megabytes_per_s))
            .beside(of(1, |run| run.megabytes_per_s))
            .bar(Bar::AtLeast(1.0))
            .note(format!("client s/GB: ours {}, Kafka {}", client(0), client(1))),
        Line::new(format!("consume {}: broker CPU", shape.what), "s/GB", of(0, |run| run.broker_s_per_gb))
            .beside(of(1, |run| run.broker_s_per_gb))
            .bar(Bar::AtMost(1.0)),
    ])
}

fn measure(plan: &Plan, side: Side, shape: Shape) -> Result<Measured> {
    let run = Run::start(plan, side)?;
    let [bytes, record_bytes, records] =
        [shape.bytes, shape.record_bytes.into(), shape.records.into()].map(|number: u64| number.to_string());
    let load = ["--topic", "t", "--connections", "4", "--depth", "4", "--seconds", "600", "--bytes", &bytes];
    let batches = ["--record-bytes", &record_bytes, "--records", &records];
    run_load(&mut run.load("produce", &[&load[..], &batches].concat())?)?;
    if shape.is_cold {
        drop_page_cache(&run.broker.data())?;
    }
    let times = shape.times.to_string();
    let (measured, before, after) =
        run.measured("fetch", &["--topic", "t", "--connections", "4", "--times", &times])?;
    let gigabytes = figure(&measured, "megabytes")? / 1e3;
    ensure!(gigabytes > 0.0, "nothing was read");
    Ok(Measured {
        megabytes_per_s: figure(&measured, "megabytes_per_s")?,
        broker_s_per_gb: (after.cpu_s - before.cpu_s) / gigabytes,
        client_s_per_gb: figure(&measured, "client_cpu_s")? / gigabytes,
    })
}
