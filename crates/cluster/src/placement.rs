//! Where the shards' replicas should be: decided by whoever leads the metadata group, a few shards at a
//! time while copies are missing, else one, and written into the metadata; the shards' leaders then bring it about.
//!
//! What is decided depends on what is given alone, so it can be tested as such. A node that is silent
//! keeps what it has: it may come back. One that is to be emptied gets nothing and loses what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use record::{NodeId, ShardId};
use replica::Replica;
use shard::commands::PutShards;
use shard::{NodeRecord, ShardRecord, Standing};

use crate::balance::Balancer;
use crate::cluster::{INTERNAL_LISTENER, METADATA};
use crate::messages::Led;
use crate::node::Node;

/// Pause between two looks.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// The same while shards are on their way to where they should be.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Shards that get the copies that they lack at the same time: what they pull shares disks and network.
const FILLED_AT_ONCE: usize = 4;
/// How many copies of the metadata decide, where there are as many nodes.
const METADATA_VOTERS: usize = 5;

/// A node as a place for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) id: NodeId,
    pub(crate) rack: Option<String>,
    pub(crate) live: bool,
    pub(crate) draining: bool,
    /// Another node is at its address.
    pub(crate) replaced: bool,
    /// Its disk is: it keeps what it has.
    pub(crate) full: bool,
}

impl Home {
    /// Whether it can be given what it has not.
    fn may_get(&self) -> bool {
        self.live && !self.draining && !self.full
    }
}

/// A shard, where it should be and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) id: ShardId,
    /// The first is to lead.
    pub(crate) voters: Vec<NodeId>,
    /// As its leader says, if one does.
    pub(crate) actual: Option<Led>,
    /// Who begins it, of one that nobody may use yet.
    pub(crate) founder: Option<NodeId>,
    /// How many copies decide, where there are as many nodes.
    pub(crate) most: usize,
}

impl Placed {
    /// Whether it is where it should be, and in use.
    pub(crate) fn is_settled(&self) -> bool {
        self.founder.is_none() && self.is_where_wanted()
    }

    fn is_where_wanted(&self) -> bool {
        let wanted: BTreeSet<NodeId> = self.voters.iter().copied().collect();
        self.actual.as_ref().is_some_and(|actual| {
            !actual.changing
                && actual.voters.iter().copied().collect::<BTreeSet<_>>() == wanted
                && (self.id == METADATA || actual.learners.is_empty())
        })
    }

    /// Whether it has no place, since nobody is left who could begin it.
    pub(crate) fn is_given_up(&self) -> bool {
        self.founder.is_some() && self.voters.is_empty()
    }

    /// Whether it has as many copies that decide as the nodes can give it: what is acknowledged by fewer is on fewer disks
    /// than it could be.
    pub(crate) fn has_its_copies(&self, homes: &[Home]) -> bool {
        let usable = homes.iter().filter(|home| !home.draining).count();
        self.actual.as_ref().is_some_and(|led| led.voters.len() >= voters_of(self.most, usable, self.copies_now()))
    }

    /// How many copies decide. While votes change its leader names those before and after: then as many as are wanted.
    pub(crate) fn copies_now(&self) -> usize {
        match &self.actual {
            Some(led) if !led.changing => led.voters.len(),
            Some(_) | None => self.voters.len(),
        }
    }

    fn votes(&self, node: NodeId) -> bool {
        self.actual.as_ref().is_some_and(|actual| actual.voters.contains(&node))
    }
}

/// The largest odd number that is not above `count`: with an even one no more nodes may fail.
fn odd(count: usize) -> usize {
    count.saturating_sub(1) / 2 * 2 + usize::from(count > 0)
}

/// How many of `usable` nodes decide, where at most `most` do and `now` did: an odd number. But of three copies two
/// stay when one node goes: a second copy is worth more than that the other may fail.
pub(crate) fn voters_of(most: usize, usable: usize, now: usize) -> usize {
    let count = most.min(usable);
    if count == 2 && now > 1 { 2 } else { odd(count) }
}

/// What changes next, if anything does: for the sake of evenness only where it `evens_out`.
pub(crate) fn plan(homes: &[Home], shards: &[Placed], evens_out: bool) -> Option<ShardRecord> {
    // One that is not begun has nothing that others could get.
    let begun = || shards.iter().filter(|placed| placed.founder.is_none() || placed.actual.is_some());
    let unsettled: Vec<&Placed> = begun().filter(|placed| !placed.is_settled()).collect();
    let change = |placed: &&Placed| replace_lost(homes, shards, placed).or_else(|| fill(homes, shards, placed));
    if let Some(changed) = unsettled.iter().find_map(change) {
        return Some(changed);
    }
    if unsettled.len() >= FILLED_AT_ONCE {
        return None;
    }
    let filled = begun().find_map(|placed| fill(homes, shards, placed));
    // What is there already is moved about only when nothing else is under way.
    if filled.is_some() || !shards.iter().all(Placed::is_settled) || !evens_out {
        return filled;
    }
    even_out(homes, shards)
}

/// What puts copies into more racks, and makes nodes have about as many replicas, and lead about as many. A shard that has a copy
/// on a node that is not there keeps the others: that one may come back, or is replaced first.
pub(crate) fn even_out(homes: &[Home], shards: &[Placed]) -> Option<ShardRecord> {
    let is_there = |id: &NodeId| homes.iter().any(|home| home.id == *id && home.live);
    let whole: Vec<&Placed> = shards.iter().filter(|placed| placed.voters.iter().all(is_there)).collect();
    let loads = loads(homes, shards);
    spread_racks(homes, &whole, &loads)
        .or_else(|| spread(homes, &whole, &loads))
        .or_else(|| spread_leaders(homes, shards, &whole))
}

/// In how many racks nodes stand; one without a rack stands alone.
fn racks(homes: &[Home], nodes: &[NodeId]) -> usize {
    let racks = nodes.iter().map(|id| homes.iter().find(|home| home.id == *id).and_then(|home| home.rack.as_ref()));
    let named: BTreeSet<_> = racks.clone().flatten().collect();
    named.len() + racks.filter(Option::is_none).count()
}

/// A replica moved from a rack that has another one of its shard to one that has none, of the metadata, too: they were placed
/// before the node came there.
fn spread_racks(homes: &[Home], shards: &[&Placed], loads: &BTreeMap<NodeId, usize>) -> Option<ShardRecord> {
    let load = |id: NodeId| loads.get(&id).copied().unwrap_or(0);
    for placed in shards {
        let now = racks(homes, &placed.voters);
        if now == placed.voters.len() {
            continue;
        }
        let changes = (0..placed.voters.len()).flat_map(|place| {
            let candidates = homes.iter().filter(|home| home.may_get() && !placed.voters.contains(&home.id));
            candidates.map(move |home| {
                let mut voters = placed.voters.clone();
                let gone = std::mem::replace(&mut voters[place], home.id);
                // From the fullest to the emptiest; the first leads.
                ((std::cmp::Reverse(load(gone)), place == 0, load(home.id), home.id), voters)
            })
        });
        let gains = changes.filter(|(_, voters)| racks(homes, voters) > now);
        if let Some((_, voters)) = gains.min_by_key(|(order, _)| *order) {
            return Some(ShardRecord { id: placed.id, voters });
        }
    }
    None
}

/// One that was chosen and went silent, or whose disk became full, before it got its vote is given up for another, if there
/// is one: a shard never gets fewer voters because nodes are silent. Who votes only the leader says; without one nobody is
/// given up.
fn replace_lost(homes: &[Home], shards: &[Placed], placed: &Placed) -> Option<ShardRecord> {
    placed.actual.as_ref()?;
    let is_lost = |home: &&Home| (!home.live || home.full) && !placed.votes(home.id);
    let left: Vec<Home> = homes.iter().filter(|home| !is_lost(home)).cloned().collect();
    fill(&left, shards, placed).filter(|record| record.voters.len() >= placed.voters.len())
}

/// How many replicas of data shards each node has.
fn loads(homes: &[Home], shards: &[Placed]) -> BTreeMap<NodeId, usize> {
    let mut loads: BTreeMap<NodeId, usize> = homes.iter().map(|home| (home.id, 0)).collect();
    for node in shards.iter().filter(|placed| placed.id != METADATA).flat_map(|placed| &placed.voters) {
        if let Some(load) = loads.get_mut(node) {
            *load += 1;
        }
    }
    loads
}

/// The shard on as many nodes as it should be on, if that is another set of them.
pub(crate) fn fill(homes: &[Home], shards: &[Placed], placed: &Placed) -> Option<ShardRecord> {
    let may_hold: Vec<&Home> = homes.iter().filter(|home| !home.draining).collect();
    // Those that there are, if that is known: of a shard that was recovered all others are only wanted.
    let count = voters_of(placed.most, may_hold.len(), placed.copies_now());
    let loads = loads(homes, shards);
    let load = |id: NodeId| loads.get(&id).copied().unwrap_or(0);
    let rack = |id: NodeId| homes.iter().find(|home| home.id == id).and_then(|home| home.rack.as_ref());
    // How many of `chosen` stand in the rack of a node; one without a rack stands alone.
    let crowd = |id: NodeId, chosen: &[NodeId]| match rack(id) {
        None => 0,
        Some(own) => chosen.iter().filter(|other| **other != id && rack(**other) == Some(own)).count(),
    };
    let mut voters: Vec<NodeId> =
        placed.voters.iter().copied().filter(|voter| may_hold.iter().any(|home| home.id == *voter)).collect();
    while voters.len() > count {
        // One that does not answer goes first, as what stays must be enough; the first goes last: it leads.
        let is_silent = |id: NodeId| !homes.iter().any(|home| home.id == id && home.live);
        let place = (0..voters.len()).rev().max_by_key(|place| {
            let id = voters[*place];
            (is_silent(id), crowd(id, &voters), load(id), *place != 0)
        })?;
        voters.remove(place);
    }
    while voters.len() < count {
        let candidates = may_hold.iter().filter(|home| home.may_get() && !voters.contains(&home.id));
        let best = candidates.min_by_key(|home| (crowd(home.id, &voters), load(home.id), home.id));
        let Some(best) = best else { break };
        voters.push(best.id);
    }
    // Fewer than now, for want of nodes that live, is no gain.
    let gain = voters.len() == count || voters.len() >= odd(placed.voters.len());
    (gain && !voters.is_empty() && voters != placed.voters).then_some(ShardRecord { id: placed.id, voters })
}

/// A replica moved from the fullest node to the emptiest.
fn spread(homes: &[Home], shards: &[&Placed], loads: &BTreeMap<NodeId, usize>) -> Option<ShardRecord> {
    let may_hold: Vec<&Home> = homes.iter().filter(|home| !home.draining && home.live).collect();
    let emptiest = may_hold.iter().filter(|home| home.may_get()).min_by_key(|home| (loads[&home.id], home.id))?;
    let mut fullest: Vec<&&Home> = may_hold.iter().filter(|home| loads[&home.id] > loads[&emptiest.id] + 1).collect();
    fullest.sort_by_key(|home| (std::cmp::Reverse(loads[&home.id]), home.id));
    for from in fullest {
        for placed in shards.iter().filter(|placed| placed.id != METADATA) {
            // Single copies are not moved about before the nodes come that make them three.
            if placed.voters.contains(&emptiest.id) || may_hold.len() < placed.most.min(3) {
                continue;
            }
            let Some(place) = placed.voters.iter().position(|voter| *voter == from.id) else { continue };
            let mut voters = placed.voters.clone();
            voters[place] = emptiest.id;
            // Never at the price of racks.
            if racks(homes, &voters) >= racks(homes, &placed.voters) {
                return Some(ShardRecord { id: placed.id, voters });
            }
        }
    }
    None
}

/// A shard of `whole` whose leadership goes from the node that leads most to one that leads few.
fn spread_leaders(homes: &[Home], shards: &[Placed], whole: &[&Placed]) -> Option<ShardRecord> {
    let mut leads: BTreeMap<NodeId, usize> =
        homes.iter().filter(|home| home.may_get()).map(|home| (home.id, 0)).collect();
    let data = shards.iter().filter(|placed| placed.id != METADATA);
    for first in data.filter_map(|placed| placed.voters.first()) {
        if let Some(count) = leads.get_mut(first) {
            *count += 1;
        }
    }
    let mut best: Option<(usize, &Placed, usize)> = None;
    for placed in whole.iter().copied().filter(|placed| placed.id != METADATA) {
        let Some(from) = placed.voters.first().and_then(|first| leads.get(first)) else { continue };
        for (place, voter) in placed.voters.iter().enumerate().skip(1) {
            let Some(to) = leads.get(voter) else { continue };
            let gain = from.saturating_sub(*to);
            if gain > 1 && best.is_none_or(|(known, _, _)| gain > known) {
                best = Some((gain, placed, place));
            }
        }
    }
    let (_, placed, place) = best?;
    let mut voters = placed.voters.clone();
    voters.swap(0, place);
    Some(ShardRecord { id: placed.id, voters })
}

/// Whether a later node answers at its address, as after a disk was replaced: then it is gone, even if it was heard a
/// moment ago, and what it wished for is not added to what the other one wishes for.
fn is_replaced(record: &NodeRecord, nodes: &[&NodeRecord]) -> bool {
    let internal = |record: &NodeRecord| {
        let address = record.addresses.iter().find(|address| address.listener == INTERNAL_LISTENER);
        address.map(|address| (address.host.clone(), address.port))
    };
    let own = internal(record);
    own.is_some() && nodes.iter().any(|other| other.id > record.id && internal(other) == own)
}

/// The nodes and shards as this node knows them, but for shards that were given up.
pub(crate) fn look(node: &Node) -> Option<(Vec<Home>, Vec<Placed>)> {
    let (homes, mut shards) = look_at_all(node)?;
    shards.retain(|placed| !placed.is_given_up());
    Some((homes, shards))
}

/// The nodes and all shards as this node knows them.
pub(crate) fn look_at_all(node: &Node) -> Option<(Vec<Home>, Vec<Placed>)> {
    let metadata = node.metadata()?;
    let state = metadata.state();
    let nodes: Vec<&NodeRecord> = state.nodes().into_iter().collect();
    let home = |record: &&NodeRecord| {
        let replaced = is_replaced(record, &nodes);
        Home {
            id: record.id,
            rack: record.rack.clone(),
            live: record.id == node.id() || node.statuses.is_live(record.id) && !replaced,
            draining: state.standing(record.id) != Some(Standing::Member),
            replaced,
            full: node.is_full(record.id),
        }
    };
    let homes: Vec<Home> = nodes.iter().map(home).collect();
    // Nothing else is locked while it is.
    drop(state);
    let ours = node.status();
    let led = |shard: ShardId| {
        let leader = node.leader(shard)?;
        if leader == node.id() {
            ours.replicas.iter().find(|replica| replica.shard == shard)?.leads.clone()
        } else {
            node.statuses.replica(leader, shard)?.leads
        }
    };
    let (records, copies): (Vec<(ShardRecord, Option<NodeId>)>, usize) = {
        let state = metadata.state();
        let records = state.shard_records().into_iter().map(|record| (record.clone(), state.founder(record.id)));
        (records.collect(), state.copies().into())
    };
    let placed = |(record, founder): (ShardRecord, _)| Placed {
        actual: led(record.id),
        id: record.id,
        voters: record.voters,
        founder,
        most: if record.id == METADATA { METADATA_VOTERS } else { copies },
    };
    Some((homes, records.into_iter().map(placed).collect()))
}

/// Decides while this node leads the metadata group, until the task is aborted.
pub(crate) fn keep_placing(node: &Arc<Node>, balance_wait: Duration) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("placement", async move {
        let mut balancer = Balancer::new(balance_wait);
        let mut new_shards = NewShards::default();
        let mut pause = ROUND_PAUSE;
        loop {
            sleep(std::mem::replace(&mut pause, ROUND_PAUSE)).await;
            balancer.watch(&node);
            let Some(metadata) = node.metadata().filter(Replica::is_leader) else {
                new_shards = NewShards::default();
                continue;
            };
            if new_shards.round(&node, &metadata).await {
                pause = BUSY_PAUSE;
                continue;
            }
            let Some((homes, shards)) = look(&node) else { continue };
            if !shards.iter().all(Placed::is_settled) {
                pause = BUSY_PAUSE;
            }
            let evens_out = metadata.state().rebalances();
            let Some(record) = plan(&homes, &shards, evens_out) else {
                // Streams move only between shards that stay where they are.
                balancer.round(&node, &homes, &shards).await;
                continue;
            };
            pause = BUSY_PAUSE;
            tracing::info!(shard = record.id.0, voters = ?record.voters, "a shard is to be elsewhere");
            let put = PutShards { shards: vec![record] };
            if let Err(error) = metadata.propose_step(put.into()).await {
                tracing::warn!(%error, "the placement of a shard could not be changed, trying on");
            }
        }
    })
}

mod new_shards;

use new_shards::NewShards;

#[cfg(test)]
mod tests;
