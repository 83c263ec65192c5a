//! The longest time without acks when the node that leads dies, or stops without closing anything.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{PARTITIONS, busiest, longest_gaps, sides, with_load};
use crate::load::ensure_replicated;
use crate::measure::median;
use crate::nodes::Nodes;
use crate::peers::{Plan, Side};
use crate::report::{Bar, Line, number};

/// What happens to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Kill,
    Stop,
}

/// Produced before the harm.
const BEFORE: Duration = Duration::from_secs(2);
/// Kafka's gaps are ten times as long, and known well enough.
const KAFKA_TRIES: usize = 3;

pub(in crate::rows) fn kill(plan: &Plan) -> Result<Vec<Line>> {
    run(plan, Harm::Kill, "kill -9", 1.0)
}

pub(in crate::rows) fn stop(plan: &Plan) -> Result<Vec<Line>> {
    run(plan, Harm::Stop, "SIGSTOP", 2.0)
}

fn run(plan: &Plan, harm: Harm, name: &str, bar: f64) -> Result<Vec<Line>> {
    let mut all: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let mut others = 0.0_f64;
    for side in sides(plan) {
        let mut nodes = Nodes::start(plan, *side)?;
        ensure_replicated(&nodes.servers(), "t", PARTITIONS, 3)?;
        let is_ours = *side == Side::Ours;
        for _ in 0..if is_ours { plan.tries } else { plan.tries.min(KAFKA_TRIES) } {
            nodes.settle_topic("t", PARTITIONS)?;
            let gaps = one(plan, &mut nodes, harm, if is_ours { 8.0 } else { 30.0 })?;
            all[usize::from(!is_ours)].push(gaps.0 / 1e3);
            if is_ours {
                others = others.max(gaps.1);
            }
        }
    }
    let longest = |gaps: &[f64]| gaps.iter().copied().fold(0.0, f64::max);
    let met = all[0].iter().filter(|gap| **gap < bar).count();
    let list = |gaps: &[f64]| gaps.iter().map(|gap| number(*gap)).collect::<Vec<_>>().join(" ");
    let note = format!(
        "{met} of {} below the bar, median {} s: {}; Kafka: {}; of partitions led elsewhere {} ms",
        all[0].len(),
        number(median(&all[0])),
        list(&all[0]),
        list(&all[1]),
        number(others)
    );
    let line =
        Line::new(format!("three nodes, longest gap without acks after {name} of a leader"), "s", longest(&all[0]));
    Ok(vec![line.beside(longest(&all[1])).bar(Bar::OwnAtMost(bar)).note(with_load(&note))])
}

/// The longest gap of the partitions that the node led, and of the others, in ms.
fn one(plan: &Plan, nodes: &mut Nodes, harm: Harm, seconds: f64) -> Result<(f64, f64)> {
    let (id, place) = busiest(nodes, "t")?;
    let seconds = if plan.is_quick { seconds / 2.0 } else { seconds };
    let mut load = nodes.load("gap", &["--topic", "t", "--seconds", &seconds.to_string()])?;
    let load = load.stdout(Stdio::piped()).spawn()?;
    thread::sleep(BEFORE);
    match harm {
        Harm::Kill => nodes.kill(place)?,
        Harm::Stop => nodes.signal(place, Signal::STOP)?,
    }
    let measured: serde_json::Value = serde_json::from_slice(&load.wait_with_output()?.stdout)?;
    match harm {
        Harm::Kill => nodes.restart(place)?,
        Harm::Stop => nodes.signal(place, Signal::CONT)?,
    }
    longest_gaps(&measured, id)
}
