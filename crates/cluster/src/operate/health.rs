//! How the copies of a shard do, in words.

use record::{NodeId, ShardId};

use super::list;
use crate::hampered::are_too_many;
use crate::messages::{Led, Phase, ReplicaStatus};
use crate::node::Node;
use crate::placement::Placed;

/// A copy that is no more entries behind than this counts as up to date, as of the last status.
const BEHIND_MIN: u64 = 10_000;

/// Who leads a shard and is there: one that has died is known as the leader until another is.
pub(super) fn live_leader(node: &Node, shard: ShardId) -> Option<NodeId> {
    node.leader(shard).filter(|leader| *leader == node.id() || node.statuses.is_live(*leader))
}

/// Whether all of a shard's copies are there and have what its leader has.
pub(super) fn health(node: &Node, placed: &Placed, led: &Led) -> String {
    let is_here = |id: NodeId| id == node.id() || node.statuses.is_live(id);
    let Some(leader) = live_leader(node, placed.id) else { return "no leader is known".to_owned() };
    let ours = node.status().replicas;
    let last = |id: NodeId| {
        let replica = if id == node.id() {
            ours.iter().find(|replica| replica.shard == placed.id).cloned()
        } else {
            node.statuses.replica(id, placed.id)
        };
        replica.map(|replica| (replica.phase, replica.applied.0))
    };
    let front = last(leader).map_or(0, |(_, applied)| applied);
    let part = |id: &NodeId| match last(*id) {
        _ if !is_here(*id) => Some(format!("node {id} is silent")),
        None => Some(format!("node {id} has no replica yet")),
        Some((Phase::Failed, _)) => Some(format!("node {id} is out of service, its log says why")),
        Some((Phase::Installing, _)) => Some(format!("node {id} pulls what it lacks")),
        Some((Phase::Running, applied)) if applied + BEHIND_MIN < front => {
            Some(format!("node {id} is {} entries behind", front - applied))
        }
        Some((Phase::Running, _)) => None,
    };
    let mut parts: Vec<String> = led.voters.iter().filter_map(part).collect();
    let full = |id: &NodeId| node.is_full(*id);
    if are_too_many(&[led.voters.iter().copied().collect()], full, |id| is_here(*id) && !full(id)) {
        let full: Vec<NodeId> = led.voters.iter().copied().filter(full).collect();
        parts.insert(0, format!("takes no data: the disks of {} are full", list(&full)));
    }
    if parts.is_empty() { "settled".to_owned() } else { parts.join("; ") }
}

/// How far those are who are to get the vote.
pub(super) fn progress(node: &Node, placed: &Placed, learners: &[NodeId]) -> String {
    let leader = node.leader(placed.id).and_then(|leader| {
        if leader == node.id() {
            Some(node.shards.replica(placed.id)?.applied().0)
        } else {
            Some(node.statuses.replica(leader, placed.id)?.applied.0)
        }
    });
    let mut parts = Vec::new();
    for id in placed.voters.iter().filter(|id| !placed.actual.as_ref().is_some_and(|led| led.voters.contains(id))) {
        let known = if *id == node.id() {
            node.status().replicas.into_iter().find(|replica| replica.shard == placed.id)
        } else {
            node.statuses.replica(*id, placed.id)
        };
        let part = match (known, leader) {
            (None, _) => format!("node {id} has no replica yet"),
            (Some(ReplicaStatus { phase: Phase::Installing, pulled, .. }), _) => {
                let (bytes, total) = pulled.unwrap_or_default();
                let waits = if node.is_full(*id) { ", and has no room" } else { "" };
                format!("node {id} pulls what it lacks, {} of {} MiB{waits}", bytes >> 20, total >> 20)
            }
            (Some(replica), Some(leader)) => {
                let behind = leader.saturating_sub(replica.applied.0);
                let role = if learners.contains(id) { "follows" } else { "waits" };
                format!("node {id} {role}, {behind} entries behind")
            }
            (Some(_), None) => format!("node {id} waits for a leader"),
        };
        parts.push(part);
    }
    match placed.founder {
        _ if !parts.is_empty() => parts.join("; "),
        Some(_) => "it is new, and not in use yet".to_owned(),
        None => "old copies are let go".to_owned(),
    }
}
