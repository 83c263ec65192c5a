//! Ack latency of an open loop, linger.ms=0, from the time each record was due.

use anyhow::Result;

use crate::measure::median;
use crate::peers::{Plan, Run, Side, alternating, figure};
use crate::report::{Bar, Line};

const SIDES: [Side; 2] = [Side::Ours, Side::KafkaFlushing];
const FIGURES: [(&str, &str); 3] = [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")];

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let rate = plan.pick("50000", "5000");
    let mut all: [[Vec<f64>; FIGURES.len()]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| Vec::new()));
    let mut client = [Vec::new(), Vec::new()];
    for round in 0..plan.runs {
        for side in alternating(&SIDES, round) {
            let run = Run::start(plan, side)?;
            let seconds = plan.seconds.to_string();
            let arguments = ["--topic", "t", "--rate", rate, "--record-bytes", "100", "--seconds", &seconds];
            let (measured, ..) = run.measured("open-loop", &arguments)?;
            let place = usize::from(side != Side::Ours);
            for (values, (name, _)) in all[place].iter_mut().zip(FIGURES) {
                values.push(figure(&measured, name)?);
            }
            client[place].push(figure(&measured, "client_cpu_s")? / figure(&measured, "seconds")? * 100.0);
        }
    }
    let [ours, theirs] = all;
    let note = format!("client: ours {:.0} %, Kafka {:.0} % of a core", median(&client[0]), median(&client[1]));
    let lines = FIGURES.iter().zip(ours.iter().zip(&theirs)).map(|((name, shown), (ours, theirs))| {
        let bar = if *name == "p999_us" { Bar::Shown } else { Bar::AtMost(0.5) };
        Line::new(format!("ack latency at {rate} x 100 B/s, {shown}"), "us", median(ours))
            .beside(median(theirs))
            .bar(bar)
            .note(note.clone())
    });
    Ok(lines.collect())
}
