//! What operators ask of a cluster, at any of its nodes: a look at it, and changes of its nodes and of
//! where shards are. Answers are text, for people and scripts.

mod ahead;
mod copies;
mod health;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::time::Duration;
use record::{NodeId, ShardId};
use replica::ProposeError;
use shard::commands::{PutShards, SetRebalancing, SetStanding};
use shard::{Outcome, SetStandingError, ShardRecord, Standing};

use self::ahead::{afterwards, left_without, without};
use self::health::{health, live_leader, progress};
use crate::cluster::{INTERNAL_LISTENER, METADATA};
use crate::errors::RemoveNodeError;
use crate::moves::{MovesError, moves_allowed};
use crate::node::Node;
use crate::placement::{Home, Placed, look, look_at_all, voters_of};
use crate::topics::unexpected;
use crate::{balance, features, slots, switch};

/// How long a change may wait for the metadata group.
pub(crate) const CHANGE_WAIT_MAX: Duration = Duration::from_secs(10);
/// What an operator's words may be in all.
const WORDS_MAX: usize = 64;

const USAGE: &str = "status | join HOST:PORT,.. | drain NODE | resume NODE | remove NODE | move SHARD NODE,NODE,.. | \
                     rebalance [--stop] | copies [1|3|5]";

/// Does what `words` say; the answer ends with a line feed.
pub(crate) async fn run(node: &Arc<Node>, words: &[String]) -> Result<String, String> {
    if words.len() > WORDS_MAX {
        return Err(format!("{} words, at most {WORDS_MAX} are taken", words.len()));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["status"] => status(node),
        ["join", addresses] => switch::join_another(node, addresses).await,
        ["drain", id] => {
            let id = node_id(id)?;
            let (homes, _) = view(node)?;
            let left = left_without(&homes, id)?;
            set_standing(node, id, Standing::Draining).await.map_err(|error| of_node(id, &error))?;
            Ok(format!(
                "node {id} is being emptied: `cluster status` shows when nothing is left on it\n{}\n",
                without(id, &left, copies::wanted(node))
            ))
        }
        ["resume", id] => {
            let id = node_id(id)?;
            set_standing(node, id, Standing::Member).await.map_err(|error| of_node(id, &error))?;
            Ok(format!("node {id} takes part again\n"))
        }
        ["remove", id] => {
            let id = node_id(id)?;
            remove(node, id).await.map_err(|error| of_node(id, &error))?;
            Ok(format!("node {id} is removed; its id is never given again\n"))
        }
        ["move", shard, voters] => move_shard(node, shard, voters).await,
        ["rebalance"] => rebalance(node, true).await,
        ["rebalance", "--stop"] => rebalance(node, false).await,
        ["copies"] => copies::describe(node),
        ["copies", count] => copies::set(node, count).await,
        _ => Err(format!("unknown; possible are: {USAGE}")),
    }
}

fn node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map(NodeId).map_err(|_| format!("{text:?} is not a node's id, which is a number"))
}

fn of_node(id: NodeId, error: &RemoveNodeError) -> String {
    match error {
        RemoveNodeError::Propose(error) => format!("node {id}: {}", not_taken(error)),
        RemoveNodeError::UnknownNode | RemoveNodeError::Refused(_) => format!("node {id}: {error}"),
    }
}

/// Why the metadata did not take a change, in words for who does not care which node leads what.
fn not_taken(error: &ProposeError) -> String {
    match error {
        ProposeError::NotLeader { .. } => "nothing was changed: the metadata (shard meta) have no leader that this node \
                                           hears of, or one that hears of no majority; `cluster status` shows which nodes \
                                           are silent"
            .to_owned(),
        ProposeError::Unknown => {
            "the leader of the metadata changed meanwhile: `cluster status` shows whether it was taken".to_owned()
        }
        ProposeError::Busy | ProposeError::DiskFull | ProposeError::Stopped | ProposeError::TooLarge { .. } => {
            format!("the metadata group did not take it: {error}")
        }
    }
}

pub(crate) fn view(node: &Node) -> Result<(Vec<Home>, Vec<Placed>), String> {
    look(node).ok_or_else(|| "the node is starting".to_owned())
}

pub(crate) async fn set_standing(node: &Node, id: NodeId, standing: Standing) -> Result<(), RemoveNodeError> {
    let command = SetStanding { node: id, standing };
    match node.propose_patiently(METADATA, command.into(), CHANGE_WAIT_MAX).await? {
        Outcome::SetStanding(Ok(())) => Ok(()),
        Outcome::SetStanding(Err(SetStandingError::UnknownNode)) => Err(RemoveNodeError::UnknownNode),
        Outcome::SetStanding(Err(error)) => Err(RemoveNodeError::Refused(error.to_string())),
        other => Err(unexpected(&other).into()),
    }
}

/// Lets go of a node that holds nothing any more.
pub(crate) async fn remove(node: &Node, id: NodeId) -> Result<(), RemoveNodeError> {
    // Which shards there are is to be known here.
    if !node.follow_metadata(CHANGE_WAIT_MAX).await {
        return Err(ProposeError::NotLeader { leader: None }.into());
    }
    let (homes, shards) = view(node).map_err(RemoveNodeError::Refused)?;
    // One that is not there was removed before, or never was: the metadata know.
    if homes.iter().any(|home| home.id == id) {
        may_be_removed(id, &shards).map_err(RemoveNodeError::Refused)?;
    }
    set_standing(node, id, Standing::Removed).await
}

/// Whether nothing counts on a node any more. Who votes only a shard's leader says: while none is known the node may be
/// one of those that a majority is made of.
fn may_be_removed(id: NodeId, shards: &[Placed]) -> Result<(), String> {
    let names = |holds: &dyn Fn(&Placed) -> bool| {
        let held = shards.iter().filter(|placed| holds(placed));
        held.map(|placed| placed.id.to_string()).collect::<Vec<_>>().join(", ")
    };
    let votes = |placed: &Placed| placed.actual.as_ref().is_some_and(|actual| actual.voters.contains(&id));
    let held = names(&|placed| placed.voters.contains(&id) || votes(placed));
    if !held.is_empty() {
        return Err(format!("it still holds the shards {held}; `cluster drain {id}` empties it"));
    }
    let unknown = names(&|placed| placed.actual.is_none());
    if !unknown.is_empty() {
        return Err(format!("no leader of the shards {unknown} is known, which may still count on it"));
    }
    Ok(())
}

async fn move_shard(node: &Node, shard: &str, voters: &str) -> Result<String, String> {
    let id = shard.parse().map(ShardId).map_err(|_| format!("{shard:?} is not a shard's number"))?;
    let voters = voters.split(',').map(node_id).collect::<Result<Vec<_>, _>>()?;
    let (homes, shards) = view(node)?;
    if !shards.iter().any(|placed| placed.id == id) {
        return Err(format!("there is no shard {id}"));
    }
    for (place, voter) in voters.iter().enumerate() {
        if voters[..place].contains(voter) {
            return Err(format!("node {voter} is named twice"));
        }
        match homes.iter().find(|home| home.id == *voter) {
            None => return Err(format!("there is no node {voter}")),
            Some(home) if home.draining => return Err(format!("node {voter} is being emptied")),
            Some(home) if !home.live => return Err(format!("node {voter} is silent")),
            Some(home) if home.full && !holds(&shards, id, *voter) => {
                return Err(format!("the disk of node {voter} is full"));
            }
            Some(_) => {}
        }
    }
    if voters.len().is_multiple_of(2) {
        return Err(format!("{} nodes: an odd number is needed, with an even one no more may fail", voters.len()));
    }
    let usable = homes.iter().filter(|home| !home.draining).count();
    if let Some(placed) = shards.iter().find(|placed| placed.id == id) {
        let now = placed.copies_now();
        let copies = voters_of(placed.most, usable, now);
        if voters.len() != copies {
            return Err(format!(
                "{} nodes: the shard has {copies} copies on the nodes that there are{}",
                voters.len(),
                if id == METADATA { "" } else { ", which `cluster copies` changes" }
            ));
        }
    }
    let is_there = |placed: &Placed| {
        let actual = placed.actual.as_ref().is_some_and(|led| {
            !led.changing && led.voters.len() == voters.len() && voters.iter().all(|voter| led.voters.contains(voter))
        });
        placed.id == id && placed.voters == voters && actual
    };
    if shards.iter().any(is_there) {
        return Ok(format!("shard {id} is on {} already\n", list(&voters)));
    }
    let evens_out = node.metadata().is_some_and(|metadata| metadata.state().rebalances());
    let then = afterwards(&homes, shards, &ShardRecord { id, voters: voters.clone() }, evens_out);
    let put = PutShards { shards: vec![ShardRecord { id, voters }] };
    match node.propose_patiently(METADATA, put.into(), CHANGE_WAIT_MAX).await {
        Ok(Outcome::PutShards) => Ok(format!("shard {id} moves: `cluster status` shows how far it is\n{then}")),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(not_taken(&error)),
    }
}

fn list(ids: &[NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Lets partitions move to other shards without being asked, or no more; those that are under way come to their end.
async fn rebalance(node: &Node, on: bool) -> Result<String, String> {
    if !moves_allowed(node) {
        return Err(MovesError::NotYet.to_string());
    }
    match node.propose_patiently(METADATA, SetRebalancing { on }.into(), CHANGE_WAIT_MAX).await {
        Ok(Outcome::SetRebalancing) if on => {
            Ok("copies, leaders, partitions and slots are spread evenly: `cluster status` shows how far it is\n".to_owned())
        }
        Ok(Outcome::SetRebalancing) => {
            Ok("copies, leaders, partitions and slots stay where they are, but for those that are moving and for copies that \
                nodes have lost; `cluster rebalance` goes on\n"
                .to_owned())
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(not_taken(&error)),
    }
}

/// How far the partitions are from being spread evenly.
fn partitions(node: &Node, homes: &[Home], shards: &[Placed]) -> String {
    let balance::Left { moving, left } = balance::look(node, homes, shards, usize::MAX);
    let stopped = !node.metadata().is_some_and(|metadata| metadata.state().rebalances());
    match (moving, left.len()) {
        (0, 0) => "partitions: spread evenly over the shards".to_owned(),
        (moving, left) if stopped => {
            format!("partitions: {moving} are moving, {left} stay, as `cluster rebalance --stop` said")
        }
        (0, left) if !node.evens_out.load(Ordering::Relaxed) => {
            format!("partitions: {left} would even out the shards, and wait for whether that lasts")
        }
        (moving, left) => format!("partitions: {moving} are moving to other shards, {left} are to follow"),
    }
}

fn status(node: &Node) -> Result<String, String> {
    let (homes, mut shards) = look_at_all(node).ok_or("the node is starting")?;
    let metadata = node.metadata().ok_or("the node is starting")?;
    let mut out = format!("cluster {:032x}\nfeatures {}\n\n", node.peers.me().cluster, features::describe(node));
    let addresses = |id: NodeId| {
        let state = metadata.state();
        let record = state.node(id).cloned();
        record.and_then(|record| {
            let address = record.addresses.into_iter().find(|address| address.listener == INTERNAL_LISTENER)?;
            Some(format!("{}:{}", address.host, address.port))
        })
    };
    let _ =
        writeln!(out, "{:<6} {:<9} {:<12} {:<24} {:>8} {:>7}", "NODE", "STATE", "RACK", "ADDRESS", "REPLICAS", "LEADS");
    for home in &homes {
        let ailment = match (home.live, node.lagging.has(home.id), node.is_full(home.id)) {
            (false, _, _) => Some("silent"),
            (true, _, true) => Some("full"),
            (true, true, false) => Some("behind"),
            (true, false, false) => None,
        };
        let state = match (home.draining, ailment) {
            (true, None) => "draining".to_owned(),
            (true, Some(ailment)) => format!("drn,{ailment}"),
            (false, ailment) => ailment.unwrap_or("live").to_owned(),
        };
        let holds = shards.iter().filter(|placed| {
            placed.actual.as_ref().map_or_else(|| placed.voters.contains(&home.id), |led| led.voters.contains(&home.id))
        });
        let leads = shards.iter().filter(|placed| live_leader(node, placed.id) == Some(home.id)).count();
        let rack = home.rack.as_deref().unwrap_or("-");
        let address = addresses(home.id).unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(out, "{:<6} {state:<9} {rack:<12} {address:<24} {:>8} {leads:>7}", home.id.0, holds.count());
    }
    let _ = writeln!(out, "\n{:<6} {:<7} {:<16} {:<16} STATE", "SHARD", "LEADER", "VOTERS", "WANTED");
    for placed in &shards {
        let leader = live_leader(node, placed.id).map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        let voters = placed.actual.as_ref().map_or_else(|| "?".to_owned(), |led| list(&led.voters));
        let state = match &placed.actual {
            None if placed.is_given_up() => "given up: the node that was to begin it is gone".to_owned(),
            None => match placed.founder {
                Some(founder) => format!("node {founder} is to begin it"),
                None => "no leader is known".to_owned(),
            },
            Some(led) if placed.is_settled() => health(node, placed, led),
            Some(led) if led.changing => "votes are changing".to_owned(),
            Some(led) => progress(node, placed, &led.learners),
        };
        let id = if placed.id == METADATA { "meta".to_owned() } else { placed.id.to_string() };
        let _ = writeln!(out, "{id:<6} {leader:<7} {voters:<16} {:<16} {state}", list(&placed.voters));
    }
    shards.retain(|placed| !placed.is_given_up());
    let data: Vec<ShardId> = shards.iter().map(|placed| placed.id).filter(|id| *id != METADATA).collect();
    slots::describe(&mut out, &metadata.state(), &data);
    let _ = writeln!(out, "\n{}", partitions(node, &homes, &shards));
    Ok(out)
}

/// Whether a node has a copy of a shard that counts.
fn holds(shards: &[Placed], shard: ShardId, node: NodeId) -> bool {
    let votes = |placed: &Placed| placed.actual.as_ref().is_some_and(|led| led.voters.contains(&node));
    shards.iter().any(|placed| placed.id == shard && votes(placed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Led;

    fn placed(id: u32, wanted: &[u64], actual: Option<&[u64]>) -> Placed {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let led = |ids| Led { voters: nodes(ids), learners: Vec::new(), changing: false };
        Placed { id: ShardId(id), voters: nodes(wanted), actual: actual.map(led), founder: None, most: 3 }
    }

    #[test]
    fn a_node_is_removed_when_all_leaders_say_that_it_holds_nothing() {
        let other = placed(1, &[1, 2, 3], Some(&[1, 2, 3]));
        let check = |shard| may_be_removed(NodeId(4), &[other.clone(), shard]);
        assert_eq!(check(placed(2, &[1, 2, 3], Some(&[1, 2, 3]))), Ok(()));
        assert!(check(placed(2, &[1, 2, 4], Some(&[1, 2, 3]))).is_err(), "it is wanted there");
        assert!(check(placed(2, &[1, 2, 3], Some(&[1, 2, 4]))).is_err(), "it votes there");
        assert!(check(placed(2, &[1, 2, 3], None)).is_err(), "nobody says that it does not");
    }

    #[test]
    fn a_change_without_a_majority_says_so() {
        let text = of_node(NodeId(3), &RemoveNodeError::Propose(ProposeError::NotLeader { leader: None }));
        assert!(text.contains("no majority") && !text.contains("this node does not lead"), "{text}");
    }
}
