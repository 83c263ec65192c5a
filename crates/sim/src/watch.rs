//! Looks into the nodes that run: who leads what, whether states are equal, whether all is settled.

use std::sync::Arc;

use base::time::{Duration, sleep};
use cluster::METADATA;
use record::{NodeId, ObjectKey, ShardId};
use replica::Replica;

use crate::invariants::Vote;
use crate::machine::Running;
use crate::world::World;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(40);
/// One look in so many compares states.
const STATES_ONE_IN: u64 = 5;

/// Looks on until the task is aborted.
pub async fn run(world: Arc<World>) {
    for round in 0_u64.. {
        sleep(PAUSE).await;
        if round.is_multiple_of(STATES_ONE_IN) {
            note_recycled(&world);
        }
        for (node, replica) in replicas(&world) {
            let leadership = *replica.leadership().borrow();
            if leadership.is_self {
                world.observe(|invariants| invariants.leads(replica.shard_id(), leadership.term, node));
            }
            if let Some((term, for_whom, leads)) = replica.durable_vote() {
                let vote = Vote { term, for_whom, leads };
                world.observe(|invariants| invariants.voted(replica.shard_id(), node, vote));
            }
            if round.is_multiple_of(STATES_ONE_IN) && replica.failure().borrow().is_none() {
                let objects: Vec<ObjectKey> = replica.state().objects().iter().map(|object| object.key).collect();
                let compacted = |state: &shard::Shard| -> Vec<ObjectKey> {
                    state.compacted_objects().iter().map(|compacted| compacted.object.key).collect()
                };
                let compacted = compacted(&replica.state());
                world.count(|counts| {
                    counts.objects.extend(objects);
                    counts.compacted.extend(compacted);
                });
                let (applied, digest) = replica.digest();
                world.observe(|invariants| invariants.state(replica.shard_id(), applied, digest, node));
            }
            if let Some(failure) = &*replica.failure().borrow()
                && let replica::OutOfService::Assertion { .. } = failure
            {
                world.fail(format!("node {node}: {failure}"));
            }
        }
    }
}

/// Counts the segments that were used again, life by life.
fn note_recycled(world: &World) {
    for machine in &world.machines {
        let Some(Running { cluster, life, .. }) = machine.running() else { continue };
        let recycled = cluster.log_stats().segments_recycled;
        world.count(|counts| {
            counts.recycled.insert((machine.place, life), recycled);
        });
    }
}

fn running(world: &World) -> Vec<Running> {
    world.machines.iter().filter_map(|machine| machine.running()).collect()
}

fn replicas(world: &World) -> Vec<(NodeId, Replica)> {
    let mut replicas = Vec::new();
    for Running { cluster, .. } in running(world) {
        let node = cluster.node_id();
        replicas.extend(cluster.replica(METADATA).map(|replica| (node, replica)));
        replicas.extend(cluster.replicas().into_iter().map(|replica| (node, replica)));
    }
    replicas
}

/// What is not settled yet, in words: a shard without leader, with changing or missing voters, or with
/// a voter that is behind.
#[must_use]
pub fn unsettled(world: &World) -> Option<String> {
    let running = running(world);
    if running.len() < world.machines.len() {
        let missing: Vec<String> = world
            .machines
            .iter()
            .filter(|machine| machine.running().is_none())
            .map(|machine| {
                format!(
                    "{}: {}",
                    crate::machine::host(machine.place),
                    machine.exit().unwrap_or_else(|| "not ready".to_owned())
                )
            })
            .collect();
        return Some(format!("not all nodes run: {missing:?}"));
    }
    let first = &running.first()?.cluster;
    #[expect(clippy::needless_collect, reason = "the state is locked while it is iterated over")]
    let shards: Vec<(ShardId, Vec<NodeId>)> =
        first.metadata().shard_records().iter().map(|record| (record.id, record.voters.clone())).collect();
    // One without voters was given up before anybody had it.
    let mut used = shards.into_iter().filter(|(_, voters)| !voters.is_empty());
    used.find_map(|(shard, wanted)| unsettled_shard(world, shard, wanted))
}

fn unsettled_shard(world: &World, shard: ShardId, mut wanted: Vec<NodeId>) -> Option<String> {
    let copies: Vec<(NodeId, Replica)> =
        replicas(world).into_iter().filter(|(_, replica)| replica.shard_id() == shard).collect();
    let Some((leader, led)) = copies.iter().find(|(_, replica)| replica.is_leader()) else {
        return Some(format!("shard {shard} has no leader"));
    };
    let members = led.members();
    let mut voters: Vec<NodeId> = members.voters.iter().flatten().copied().collect();
    voters.sort_unstable();
    wanted.sort_unstable();
    if members.is_changing() || (shard != METADATA && voters != wanted) {
        return Some(format!("shard {shard} has the voters {voters:?}, wanted are {wanted:?}"));
    }
    if voters.len() < world.machines.len().min(3) {
        return Some(format!("shard {shard} has {} voters only", voters.len()));
    }
    if let Some((node, _)) = copies.iter().find(|(node, _)| shard != METADATA && !voters.contains(node)) {
        return Some(format!("shard {shard} is still on node {node}, which it has let go of"));
    }
    for node in running(world) {
        let named = node.cluster.shard(shard).leader();
        if named != Some(*leader) {
            let node = node.cluster.node_id();
            return Some(format!("shard {shard} is led by node {leader}, node {node} names {named:?}"));
        }
    }
    let last = led.last_log_index();
    for voter in voters {
        let Some((_, copy)) = copies.iter().find(|(node, _)| *node == voter) else {
            return Some(format!("shard {shard} has no replica on node {voter}"));
        };
        if let Some(failure) = &*copy.failure().borrow() {
            return Some(format!("shard {shard} on node {voter}: {failure}"));
        }
        let missing = copy.objects().missing;
        if missing > 0 {
            return Some(format!("shard {shard}: node {voter} lacks {missing} objects"));
        }
        if copy.applied() < last {
            let (applied, last) = (copy.applied(), last);
            return Some(format!("shard {shard}: node {voter} is at {applied}, its leader {leader} at {last}"));
        }
    }
    None
}
