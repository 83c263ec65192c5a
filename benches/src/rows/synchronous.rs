//! Producers with one record in flight: acks per second, and the broker's processor time for each.

use anyhow::Result;

use crate::measure::median;
use crate::peers::{Plan, Run, Side, alternating, figure};
use crate::report::{Bar, Line, number};

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    acks_per_s: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    client_us: f64,
}

pub(super) fn many(plan: &Plan) -> Result<Vec<Line>> {
    let sides = [Side::Ours, Side::KafkaFlushing, Side::Kafka];
    let [ours, flushing, default] = measure(plan, &sides, "256", "1024")?;
    Ok(vec![
        Line::new("256 synchronous producers / Kafka with flush per message", "acks/s", ours.acks_per_s)
            .beside(flushing.acks_per_s)
            .bar(Bar::AtLeast(8.0))
            .note(latencies(&ours, &flushing)),
        Line::new("256 synchronous producers: broker CPU / with flush per message", "us/ack", ours.cpu_us)
            .beside(flushing.cpu_us)
            .bar(Bar::AtMost(0.2)),
        Line::new("256 synchronous producers / Kafka without", "acks/s", ours.acks_per_s)
            .beside(default.acks_per_s)
            .bar(Bar::AtLeast(1.5))
            .note(latencies(&ours, &default)),
        Line::new("256 synchronous producers: broker CPU / without", "us/ack", ours.cpu_us).beside(default.cpu_us),
    ])
}

pub(super) fn one(plan: &Plan) -> Result<Vec<Line>> {
    let [ours, flushing] = measure(plan, &[Side::Ours, Side::KafkaFlushing], "1", "1024")?;
    Ok(vec![
        Line::new("one synchronous producer / Kafka with flush per message", "acks/s", ours.acks_per_s)
            .beside(flushing.acks_per_s)
            .bar(Bar::AtLeast(1.5))
            .note(latencies(&ours, &flushing)),
        Line::new("one synchronous producer: broker CPU", "us/ack", ours.cpu_us).beside(flushing.cpu_us),
    ])
}

fn latencies(ours: &Measured, theirs: &Measured) -> String {
    let side = |measured: &Measured| {
        format!(
            "p50 {} p99 {} ms, client {} us/ack",
            number(measured.p50_ms),
            number(measured.p99_ms),
            number(measured.client_us)
        )
    };
    format!("ours: {}; Kafka: {}", side(ours), side(theirs))
}

fn measure<const N: usize>(plan: &Plan, sides: &[Side; N], connections: &str, bytes: &str) -> Result<[Measured; N]> {
    let mut all: [Vec<Measured>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..plan.runs {
        for side in alternating(sides, round) {
            let run = Run::start(plan, side)?;
            let seconds = plan.seconds.to_string();
            let arguments =
                ["--topic", "t", "--connections", connections, "--record-bytes", bytes, "--seconds", &seconds];
            let (measured, before, after) = run.measured("produce", &arguments)?;
            let acks = figure(&measured, "requests")?;
            let place = sides.iter().position(|known| *known == side).unwrap_or(0);
            all[place].push(Measured {
                acks_per_s: figure(&measured, "acks_per_s")?,
                cpu_us: (after.cpu_s - before.cpu_s) * 1e6 / acks,
                p50_ms: figure(&measured, "p50_us")? / 1e3,
                p99_ms: figure(&measured, "p99_us")? / 1e3,
                client_us: figure(&measured, "client_cpu_s")? * 1e6 / acks,
            });
        }
    }
    Ok(all.map(|runs| {
        let of = |field: fn(&Measured) -> f64| median(&runs.iter().map(field).collect::<Vec<f64>>());
        Measured {
            acks_per_s: of(|run| run.acks_per_s),
            cpu_us: of(|run| run.cpu_us),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            client_us: of(|run| run.client_us),
        }
    }))
}
