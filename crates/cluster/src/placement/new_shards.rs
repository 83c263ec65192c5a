//! Shards that come: named in the metadata with the node that begins them, and in use when they have their copies.
//!
//! ```text
//! OpenShards (founder) -> the founder begins alone -> its voters, as of any shard -> CompleteShards: it is in use
//!                      -> given up: nobody is to have it, and another shard comes in its place
//! ```
//! Only the node that is named with a shard ever begins it, so that there are never two of one number: when that node is
//! gone, its shard gets no other founder but another number. Until a shard is in use nothing is put on it, so nothing is
//! lost when it is given up; and if it turns out that somebody has it, as its leader says, it is taken up again.

use std::collections::{BTreeMap, BTreeSet};

use base::time::{Duration, Instant, now};
use record::{NodeId, ShardId};
use replica::Replica;
use shard::commands::{CompleteShards, NewShard, OpenShards, PutShards};
use shard::{Command, Intention, Shard, ShardRecord, Topic};

use super::{Home, Placed, look_at_all};
use crate::cluster::METADATA;
use crate::config::SHARDS_MAX;
use crate::node::Node;

/// How long nobody leads a shard before it is given up: who leads may not have been heard yet, or be about to.
const LEADERLESS_MIN: Duration = Duration::from_secs(5);

/// What the leader of the metadata remembers of shards that come.
#[derive(Debug, Default)]
pub(super) struct NewShards {
    /// Since when those are not led that are not in use.
    leaderless: BTreeMap<ShardId, Instant>,
}

impl NewShards {
    /// Takes the next step, if one is to be taken; says whether it did.
    pub(super) async fn round(&mut self, node: &Node, metadata: &Replica) -> bool {
        let Some((homes, shards)) = look_at_all(node) else { return false };
        let is_leaderless = |placed: &&Placed| placed.founder.is_some() && placed.actual.is_none();
        let leaderless: BTreeSet<ShardId> = shards.iter().filter(is_leaderless).map(|placed| placed.id).collect();
        self.leaderless.retain(|shard, _| leaderless.contains(shard));
        for shard in leaderless {
            self.leaderless.entry(shard).or_insert_with(now);
        }
        let begun = in_use(&homes, &shards);
        if !begun.is_empty() {
            tracing::info!(shards = ?begun, "new shards have their copies, and are in use from now on");
            return propose(metadata, CompleteShards { shards: begun }.into()).await;
        }
        let is_waited_for =
            |shard: ShardId| self.leaderless.get(&shard).is_none_or(|since| since.elapsed() < LEADERLESS_MIN);
        let changed = {
            let state = metadata.state();
            change(&homes, &shards, |shard| is_waited_for(shard) || has_something(&state, shard))
        };
        if let Some(record) = changed {
            tracing::info!(shard = record.id.0, voters = ?record.voters, "who is to have a new shard changes");
            return propose(metadata, PutShards { shards: vec![record] }.into()).await;
        }
        let wish = |id: NodeId| {
            if id == node.id() { Some(node.wished) } else { node.statuses.of(id).map(|status| status.shards) }
        };
        let missing = missing(&homes, &shards, wish);
        if missing == 0 {
            return false;
        }
        // Whoever was gone and is here again may begin what it was to begin.
        if let Some(record) = taken_up(&homes, &shards) {
            tracing::info!(shard = record.id.0, "a new shard is taken up again by the node that was to begin it");
            return propose(metadata, PutShards { shards: vec![record] }.into()).await;
        }
        let new =
            new_shards(leads(&homes, &shards), shards.iter().map(|placed| placed.id.0).max().unwrap_or(0), missing);
        tracing::info!(?new, "the cluster gets more shards");
        propose(metadata, OpenShards { shards: new }.into()).await
    }
}

async fn propose(metadata: &Replica, command: Command) -> bool {
    match metadata.propose_step(command).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "new shards could not be looked after, trying on");
            false
        }
    }
}

/// Those that have begun and have all their copies.
pub(super) fn in_use(homes: &[Home], shards: &[Placed]) -> Vec<ShardId> {
    let has_begun =
        |placed: &&Placed| placed.founder.is_some() && placed.is_where_wanted() && placed.has_its_copies(homes);
    shards.iter().filter(has_begun).map(|placed| placed.id).collect()
}

/// A shard that is given up, since who was to begin it is gone and nobody leads it, unless it is `kept`; or one that was,
/// and is led all the same.
pub(super) fn change(homes: &[Home], shards: &[Placed], kept: impl Fn(ShardId) -> bool) -> Option<ShardRecord> {
    let may_come = |id: NodeId| {
        let home = homes.iter().find(|home| home.id == id);
        home.is_some_and(|home| !home.draining && !home.replaced)
    };
    shards.iter().find_map(|placed| {
        let founder = placed.founder?;
        match &placed.actual {
            Some(led) if placed.is_given_up() => Some(ShardRecord { id: placed.id, voters: led.voters.clone() }),
            None if !placed.is_given_up() && !may_come(founder) && !kept(placed.id) => {
                Some(ShardRecord { id: placed.id, voters: Vec::new() })
            }
            _ => None,
        }
    })
}

/// A shard that was given up, and whose founder could begin it now.
pub(super) fn taken_up(homes: &[Home], shards: &[Placed]) -> Option<ShardRecord> {
    let is_here = |id: &NodeId| homes.iter().any(|home| home.id == *id && home.live && !home.draining);
    let given_up = shards.iter().filter(|placed| placed.is_given_up());
    let mut may_begin = given_up.filter_map(|placed| Some((placed.id, placed.founder.filter(is_here)?)));
    may_begin.next().map(|(id, founder)| ShardRecord { id, voters: vec![founder] })
}

/// Whether something is on the shard, or is to be: a node of an earlier version may have put it there.
fn has_something(metadata: &Shard, shard: ShardId) -> bool {
    let is_on_it = |topic: &Topic| {
        topic.partitions.iter().any(|placement| placement.history.iter().any(|home| home.shard == shard))
    };
    let is_waited_for = |intention: &Intention| {
        let (Intention::Create(topic) | Intention::AddPartitions(topic) | Intention::Delete(topic)) = intention;
        is_on_it(topic)
    };
    metadata.topics().any(|topic| is_on_it(topic))
        || metadata.intentions(usize::MAX).iter().any(is_waited_for)
        || metadata.stream_moves().iter().any(|moving| moving.to == shard)
        || metadata.slot_moves().iter().any(|moving| moving.to == shard)
        || metadata.slot_shards().contains(&shard)
}

/// How many data shards each node leads that may lead more.
fn leads(homes: &[Home], shards: &[Placed]) -> BTreeMap<NodeId, usize> {
    let usable = homes.iter().filter(|home| home.live && !home.draining);
    let first =
        |id: NodeId| shards.iter().filter(|placed| placed.id != METADATA && placed.voters.first() == Some(&id)).count();
    usable.map(|home| (home.id, first(home.id))).collect()
}

/// How many shards the nodes that are here want that there are not.
fn missing(homes: &[Home], shards: &[Placed], wish: impl Fn(NodeId) -> Option<u32>) -> usize {
    // A directory of a node that is alone keeps the number of shards that it was made with.
    if homes.len() < 2 {
        return 0;
    }
    // A cluster that comes up must not take those that are slow for those that are not there.
    if homes.iter().any(|home| !home.draining && !home.live) {
        return 0;
    }
    let usable = homes.iter().filter(|home| !home.draining);
    let Some(wished) = usable.map(|home| wish(home.id)).sum::<Option<u32>>() else { return 0 };
    let there: Vec<&Placed> = shards.iter().filter(|placed| placed.id != METADATA && !placed.is_given_up()).collect();
    // One after the other: first those that were named are to be in use.
    if there.iter().any(|placed| placed.founder.is_some()) {
        return 0;
    }
    SHARDS_MAX.min(wished as usize).saturating_sub(there.len())
}

/// `count` shards behind the one numbered `last`, each to be founded by the node that leads the fewest then.
pub(super) fn new_shards(mut leads: BTreeMap<NodeId, usize>, last: u32, count: usize) -> Vec<NewShard> {
    let mut new = Vec::with_capacity(count);
    for id in (last + 1..).take(count) {
        let Some((founder, leads)) = leads.iter_mut().min_by_key(|(node, leads)| (**leads, **node)) else { break };
        *leads += 1;
        new.push(NewShard { id: ShardId(id), founder: *founder });
    }
    new
}
