//! Processor and memory of three nodes that nobody asks anything.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{sides, with_load};
use crate::nodes::Nodes;
use crate::peers::{Plan, Side};
use crate::report::{Bar, Line, number};

/// What is filled ahead at the first start, and the moves of the beginning, are not idleness.
const SETTLED_AFTER: Duration = Duration::from_secs(15);

pub(in crate::rows) fn run(plan: &Plan) -> Result<Vec<Line>> {
    // The largest of the three, of each side.
    let (mut processor, mut memory) = ([0.0_f64; 2], [0.0_f64; 2]);
    let mut note = String::new();
    for side in sides(plan) {
        let nodes = Nodes::start_cold(plan, *side, 3, None)?;
        thread::sleep(if plan.is_quick { Duration::from_secs(1) } else { SETTLED_AFTER });
        let before = nodes.usage()?;
        thread::sleep(Duration::from_secs_f64(plan.seconds));
        let after = nodes.usage()?;
        let at = usize::from(*side != Side::Ours);
        let used = before.iter().zip(&after).map(|(before, after)| {
            100.0 * (after.cpu_s - before.cpu_s) / after.at.duration_since(before.at).as_secs_f64()
        });
        let used: Vec<f64> = used.collect();
        processor[at] = used.iter().copied().fold(0.0, f64::max);
        memory[at] = nodes.memory()?.into_iter().max().unwrap_or(0) as f64 / 1e6;
        if *side == Side::Ours {
            note = used.iter().map(|used| number(*used)).collect::<Vec<_>>().join(" ");
        }
    }
    let line = |what, unit, figures: [f64; 2], bar| {
        Line::new(what, unit, figures[0]).beside(figures[1]).bar(Bar::OwnAtMost(bar))
    };
    Ok(vec![
        line("three idle nodes: processor of the busiest", "% of a core", processor, 2.0)
            .note(with_load(&format!("each: {note}"))),
        line("three idle nodes: memory of the largest", "MB", memory, 60.0),
    ])
}
