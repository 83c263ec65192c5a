//! Clusters of several nodes on this machine, beside three of Kafka's.

pub(super) mod drain;
pub(super) mod gap;
pub(super) mod idle;
pub(super) mod moving;
pub(super) mod produce;
pub(super) mod steady;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::measure::load_average;
use crate::nodes::Nodes;
use crate::peers::{Plan, Side};
use crate::report::number;

/// Partitions of the topics of these rows: four for each node to lead.
const PARTITIONS: i32 = 12;

/// The sides that are measured.
fn sides(plan: &Plan) -> &'static [Side] {
    if plan.is_alone { &[Side::Ours] } else { &[Side::Ours, Side::Kafka] }
}

/// What stands beside a figure: it is worth what the machine was free for it.
fn with_load(note: &str) -> String {
    format!("{note}{}load average {}", if note.is_empty() { "" } else { "; " }, number(load_average()))
}

/// The id of the node that leads most partitions of a topic, and its place.
fn busiest(nodes: &Nodes, topic: &str) -> Result<(i32, usize)> {
    let topology = nodes.topology(topic)?;
    let led = |id: &i32| topology.leaders.values().filter(|leader| leader.node == *id).count();
    let id = *topology.addresses.keys().max_by_key(|id| led(id)).context("no node")?;
    Ok((id, nodes.place_of(id)?))
}

/// The longest gap of the partitions that a node led when it began, and of the others, in ms.
fn longest_gaps(measured: &Value, leader: i32) -> Result<(f64, f64)> {
    let mut longest = (0.0_f64, 0.0_f64);
    for gap in measured["gaps"].as_array().context("gaps")? {
        let ms = gap["gap_ms"].as_f64().context("gap_ms")?;
        if gap["leader"].as_i64() == Some(i64::from(leader)) {
            longest.0 = longest.0.max(ms);
        } else {
            longest.1 = longest.1.max(ms);
        }
    }
    Ok(longest)
}
