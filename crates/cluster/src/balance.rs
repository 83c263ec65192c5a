//! Which streams move so that every shard has about as many: decided by whoever leads the metadata group, a few at a time,
//! and only when every shard is where it should be.
//!
//! What is decided depends on what is given alone. A stream never returns to a shard on which it was, so no two decisions
//! can take back each other for ever. When it is time for it says `urge`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::time::{Duration, now};
use record::{ShardId, StreamId, TopicId};
use shard::commands::{MoveStreams, NewMove};
use shard::{Outcome, Topic, TopicState};

use crate::cluster::METADATA;
use crate::moves::moves_allowed;
use crate::node::Node;
use crate::placement::{Home, Placed};

mod urge;

use urge::{Urge, loads};

/// Streams that move together; the next ones when these are there.
const MOVES_PER_ROUND: usize = 16;

/// A stream as what may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Movable {
    pub(crate) topic: TopicId,
    pub(crate) partition: u32,
    /// Where it was and, last, is.
    pub(crate) history: Vec<ShardId>,
    /// Records that it has on its shard; none if that is not known here.
    pub(crate) records: Option<u64>,
}

/// The next moves, at most `count_max`: from the fullest shard to the emptiest, while the one has more than another stream
/// more, and a tenth. Of a shard those go first that never moved, of these the streams without records, then those with
/// few. `shards` are those that take and give.
pub(crate) fn plan(shards: &BTreeSet<ShardId>, streams: &[Movable], count_max: usize) -> Vec<NewMove> {
    let mut on: BTreeMap<ShardId, Vec<&Movable>> = shards.iter().map(|shard| (*shard, Vec::new())).collect();
    let mut loads: BTreeMap<ShardId, usize> = shards.iter().map(|shard| (*shard, 0)).collect();
    for stream in streams {
        let Some(shard) = stream.history.last() else { continue };
        if let (Some(there), Some(load)) = (on.get_mut(shard), loads.get_mut(shard)) {
            there.push(stream);
            *load += 1;
        }
    }
    // The last is the first to go. One that came by a move may have been brought there by somebody who wants it there.
    let order = |stream: &&Movable| {
        let records = stream.records.map_or(u64::MAX, |records| records);
        let moved = stream.history.len() > 1;
        std::cmp::Reverse((moved, records, stream.history.len(), stream.topic, stream.partition))
    };
    on.values_mut().for_each(|there| there.sort_by_key(order));
    let mut moves = Vec::new();
    while moves.len() < count_max {
        let Some(next) = next_move(&mut on, &loads) else { break };
        if let Some(load) = loads.get_mut(&next.from) {
            *load -= 1;
        }
        if let Some(load) = loads.get_mut(&next.to.to) {
            *load += 1;
        }
        moves.push(next.to);
    }
    moves
}

struct Next {
    from: ShardId,
    to: NewMove,
}

/// One move that makes the difference between two shards smaller, the largest first.
fn next_move(on: &mut BTreeMap<ShardId, Vec<&Movable>>, loads: &BTreeMap<ShardId, usize>) -> Option<Next> {
    let mut by_load: Vec<(usize, ShardId)> = loads.iter().map(|(shard, load)| (*load, *shard)).collect();
    by_load.sort_unstable();
    for (most, from) in by_load.iter().rev() {
        for (least, to) in &by_load {
            if !is_worth_it(*most, *least) {
                break;
            }
            let there = on.get_mut(from)?;
            let place = there.iter().rposition(|stream| !stream.history.contains(to));
            if let Some(place) = place {
                let stream = there.remove(place);
                let to = NewMove { topic: stream.topic, partition: stream.partition, to: *to };
                return Some(Next { from: *from, to });
            }
        }
    }
    None
}

/// Whether one shard has so many more than another that a stream is to move.
fn is_worth_it(most: usize, least: usize) -> bool {
    let more = most.saturating_sub(least);
    more > 1 && more * 10 >= most
}

/// What is under way, and what is left, of which the first would be next.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) moving: usize,
    pub(crate) left: Vec<NewMove>,
}

/// How many moves are counted as left.
const LEFT_MAX: usize = 100_000;

/// The shards that give and take streams: those that are in use and led, have their copies, and stay where they are.
fn taking_part(node: &Node, homes: &[Home], placed: &[Placed]) -> BTreeSet<ShardId> {
    let stays =
        |shard: &&Placed| shard.voters.iter().any(|voter| homes.iter().any(|home| home.id == *voter && !home.draining));
    let is_led = |shard: &&Placed| shard.actual.is_some() && node.leader(shard.id).is_some();
    let data = placed.iter().filter(|placed| placed.id != METADATA && placed.founder.is_none());
    data.filter(is_led).filter(|shard| shard.has_its_copies(homes)).filter(stays).map(|placed| placed.id).collect()
}

/// The moves that are under way, and those that are left, at most `count_max`.
pub(crate) fn look(node: &Node, homes: &[Home], placed: &[Placed], count_max: usize) -> Left {
    let Some(metadata) = node.metadata() else { return Left::default() };
    let (moves, topics): (Vec<_>, Vec<Arc<Topic>>) = {
        let state = metadata.state();
        (state.stream_moves(), state.topics().map(Arc::clone).collect())
    };
    let shards = taking_part(node, homes, placed);
    let moving: BTreeMap<(TopicId, u32), ShardId> =
        moves.iter().map(|moving| ((moving.topic, moving.partition), moving.to)).collect();
    let mut streams = Vec::new();
    let mut ids = Vec::new();
    for topic in topics.iter().filter(|topic| topic.state == TopicState::Live) {
        for (partition, placement) in (0_u32..).zip(topic.live()) {
            let mut history: Vec<ShardId> = placement.history.iter().map(|home| home.shard).collect();
            if let Some(to) = moving.get(&(topic.id, partition)) {
                // It counts where it goes, and does not go on from there before it is there.
                history.extend(&shards);
                history.push(*to);
            }
            streams.push(Movable { topic: topic.id, partition, history, records: None });
            ids.push(placement.stream);
        }
    }
    let count_max = count_max.min(LEFT_MAX);
    if count_max == 0 || plan(&shards, &streams, 1).is_empty() {
        return Left { moving: moves.len(), left: Vec::new() };
    }
    for (stream, id) in streams.iter_mut().zip(ids) {
        stream.records = stream.history.last().and_then(|shard| records(node, *shard, id));
    }
    Left { moving: moves.len(), left: plan(&shards, &streams, count_max) }
}

/// Records that a stream has on its shard, if this node has a copy of it.
fn records(node: &Node, shard: ShardId, stream: StreamId) -> Option<u64> {
    let replica = node.shards.replica(shard)?;
    let state = replica.state();
    let view = state.stream(stream)?;
    u64::try_from(view.next_offset().0 - view.first_offset().0).ok()
}

/// Decides, round by round.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// How long a small difference may last.
    patience: Duration,
    urge: Urge,
    /// The version of the metadata and the shards at which nothing was left to be moved.
    even: Option<(u64, BTreeSet<ShardId>)>,
}

impl Balancer {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, urge: Urge::default(), even: None }
    }

    /// Looks at what there is, on every node: whoever comes to lead goes on with what was begun.
    pub(crate) fn watch(&mut self, node: &Node) {
        let Some(metadata) = node.metadata() else { return };
        let state = metadata.state();
        self.urge.told(state.rebalances());
        if self.urge.seen != Some(state.metadata_version()) {
            self.urge.seen = Some(state.metadata_version());
            self.urge.look(loads(&state), self.patience, now());
        }
        node.evens_out.store(self.urge.moves(now()), Ordering::Relaxed);
    }

    /// Begins the next moves, when none is under way and every shard is where it should be.
    pub(crate) async fn round(&mut self, node: &Node, homes: &[Home], placed: &[Placed]) {
        let Some(metadata) = node.metadata() else { return };
        // A node that is away comes back, or is drained.
        let is_settled = placed.iter().all(Placed::is_settled) && homes.iter().all(|home| home.live || home.draining);
        let (rebalances, version) = {
            let state = metadata.state();
            (state.rebalances(), state.metadata_version())
        };
        if !is_settled || !rebalances || !moves_allowed(node) || !self.urge.moves(now()) {
            return;
        }
        let looked_at = Some((version, taking_part(node, homes, placed)));
        if self.even == looked_at {
            return;
        }
        let Left { moving, left } = look(node, homes, placed, MOVES_PER_ROUND);
        if moving > 0 {
            return;
        }
        if left.is_empty() {
            self.even = looked_at;
            return;
        }
        tracing::info!(streams = left.len(), "streams are to be on other shards");
        match metadata.propose_step(MoveStreams { moves: left }.into()).await {
            Ok(Outcome::MoveStreams(results)) => {
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    tracing::debug!(%error, "a stream does not move");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "streams could not be moved, trying on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards(count: u32) -> BTreeSet<ShardId> {
        (1..=count).map(ShardId).collect()
    }

    fn stream(partition: u32, history: &[u32], records: Option<u64>) -> Movable {
        Movable { topic: TopicId(1), partition, history: history.iter().copied().map(ShardId).collect(), records }
    }

    fn loads(shards: &BTreeSet<ShardId>, streams: &[Movable]) -> Vec<usize> {
        let on = |shard: &ShardId| streams.iter().filter(|stream| stream.history.last() == Some(shard)).count();
        shards.iter().map(on).collect()
    }

    fn make(streams: &mut [Movable], moves: &[NewMove]) {
        for NewMove { topic, partition, to } in moves {
            let stream = streams.iter_mut().find(|stream| (stream.topic, stream.partition) == (*topic, *partition));
            let stream = stream.expect("one of them");
            assert!(!stream.history.contains(to), "it was never there");
            stream.history.push(*to);
        }
    }

    #[test]
    fn those_without_records_go_first_and_the_rest_evens_out() {
        let mut streams: Vec<Movable> =
            (0..12).map(|partition| stream(partition, &[1 + partition % 2], Some(u64::from(partition)))).collect();
        let first = plan(&shards(6), &streams, 2);
        assert_eq!(first.iter().map(|new| new.partition).collect::<Vec<_>>(), [1, 0], "from each of the two");
        let moves = plan(&shards(6), &streams, 100);
        assert_eq!(moves.len(), 8);
        make(&mut streams, &moves);
        assert_eq!(loads(&shards(6), &streams), [2; 6]);
        assert_eq!(plan(&shards(6), &streams, 100), []);
    }

    #[test]
    fn what_was_brought_somewhere_stays_as_long_as_others_can_go() {
        let streams: Vec<Movable> = (0..6)
            .map(|partition| {
                let history: &[u32] = if partition < 2 { &[2, 1] } else { &[1] };
                stream(partition, history, Some(u64::from(partition)))
            })
            .collect();
        let moves = plan(&shards(3), &streams, 100);
        assert_eq!(moves.iter().map(|new| new.partition).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn small_differences_stay() {
        let streams: Vec<Movable> = (0..100).map(|partition| stream(partition, &[1], None)).collect();
        let with = |more: u32| {
            let others = (100..200 - more).map(|partition| stream(partition, &[2], None));
            streams.iter().cloned().chain(others).collect::<Vec<_>>()
        };
        assert_eq!(plan(&shards(2), &with(9), 100), []);
        assert_eq!(plan(&shards(2), &with(10), 100).len(), 1);
    }

    proptest! {
        /// Whatever there is: it comes to an end, no stream is twice on one shard, nothing touches shards that take no
        /// part, and where every stream may go everywhere the rest is even.
        #[test]
        fn it_evens_out_and_ends(
            taking_part in 1_u32..8,
            places in proptest::collection::vec((1_u32..10, proptest::option::of(0_u64..4)), 0..120),
            at_once in 1_usize..20,
        ) {
            let all = shards(taking_part);
            let mut streams: Vec<Movable> = (0..)
                .zip(&places)
                .map(|(partition, (shard, records))| stream(partition, &[*shard], *records))
                .collect();
            let outside: Vec<Movable> = streams.iter().filter(|stream| !all.contains(&stream.history[0])).cloned().collect();
            let mut rounds = 0;
            loop {
                let moves = plan(&all, &streams, at_once);
                if moves.is_empty() {
                    break;
                }
                prop_assert!(moves.len() <= at_once);
                make(&mut streams, &moves);
                rounds += 1;
                prop_assert!(rounds <= 1_000, "it goes on for ever");
            }
            for stream in outside {
                prop_assert!(streams.contains(&stream));
            }
            let loads = loads(&all, &streams);
            let (most, least) = (loads.iter().max().copied().unwrap_or(0), loads.iter().min().copied().unwrap_or(0));
            prop_assert!(!is_worth_it(most, least), "{loads:?}");
        }
    }
}
