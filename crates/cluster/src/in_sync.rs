//! Which copies of a shard have what is committed, by what its leader and the nodes that have them say of themselves.
//!
//! A copy is in sync that votes, whose node is heard of, and that had within the last [`LAG_MAX`] all that was committed
//! a moment before. One that comes back has to get there first; one that is given the vote has got there. While nobody leads, what the last
//! leader said goes on to hold for those that are heard of. Nothing that must be true depends on it: what is acknowledged
//! is on a majority of those that vote, whoever of them is in sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::{LogIndex, NodeId, ShardId};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::messages::{Led, Phase, ReplicaStatus, Status};
use crate::node::Node;

/// A copy that did not have for so long what was committed a moment before is not in sync.
const LAG_MAX: Duration = Duration::from_secs(10);
/// Such a moment, twice of it at most: what nodes say of themselves is up to half a second old.
const MOMENT: Duration = Duration::from_secs(1);

/// Who has copies of a shard that belong to its group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those that vote, as the leader said last; while they change, those before and those after.
    pub voters: Vec<NodeId>,
    /// Those that follow without a vote.
    pub learners: Vec<NodeId>,
    /// Those of the voters that are in sync.
    pub in_sync: Vec<NodeId>,
}

/// How far a copy is, as far as this node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The last entry of its log.
    pub last: Option<LogIndex>,
    /// How long ago its node was heard of.
    pub heard: Option<Duration>,
    /// How long ago it had all that was committed a moment before.
    pub caught_up: Option<Duration>,
}

/// What one node knows of all shards.
#[derive(Debug, Default)]
pub(crate) struct InSync {
    shards: Mutex<BTreeMap<ShardId, Copies>>,
    /// What was made of that last.
    holders: Mutex<Arc<BTreeMap<ShardId, Holders>>>,
    /// Rises when that is another.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Copies {
    holders: Holders,
    /// Up to where the leader said that it has applied, and when; the one before that.
    marks: [Option<(LogIndex, Instant)>; 2],
    seen: BTreeMap<NodeId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: LogIndex,
    at: Instant,
    caught_up_at: Option<Instant>,
}

impl InSync {
    /// Takes over what all say now.
    pub(crate) fn look(&self, node: &Node) {
        let Some(metadata) = node.metadata() else { return };
        let ids: Vec<ShardId> = metadata.state().shard_records().into_iter().map(|record| record.id).collect();
        let mut statuses: Vec<(NodeId, Arc<Status>)> = node.statuses.live();
        statuses.retain(|(id, _)| *id != node.id());
        statuses.push((node.id(), Arc::new(node.status())));
        let mut said: BTreeMap<ShardId, BTreeMap<NodeId, &ReplicaStatus>> = BTreeMap::new();
        for (id, status) in &statuses {
            for replica in &status.replicas {
                said.entry(replica.shard).or_default().insert(*id, replica);
            }
        }
        let at = now();
        let mut shards = self.shards.lock();
        shards.retain(|id, _| ids.binary_search(id).is_ok());
        let none = BTreeMap::new();
        for id in ids {
            let said = said.get(&id).unwrap_or(&none);
            let leader = node.leader(id);
            let copies = shards.entry(id).or_default();
            copies.hear(said, leader, at);
            if copies.holders.voters.is_empty()
                && let Some(replica) = node.shards.replica(id)
            {
                // Nobody has said that it leads since this node started.
                let members = replica.members();
                copies.holders.voters = members.voters.into_iter().flatten().collect();
                copies.holders.voters.sort_unstable();
                copies.holders.voters.dedup();
                copies.holders.learners = members.learners.into_iter().collect();
            }
        }
        let holders: BTreeMap<ShardId, Holders> =
            shards.iter().map(|(id, copies)| (*id, copies.holders.clone())).collect();
        let mut known = self.holders.lock();
        if **known != holders {
            *known = Arc::new(holders);
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Copies {
    /// `said` is what the nodes that are heard of say of their copies.
    fn hear(&mut self, said: &BTreeMap<NodeId, &ReplicaStatus>, leader: Option<NodeId>, at: Instant) {
        let led = leader
            .and_then(|leader| said.get(&leader))
            .and_then(|replica| Some((replica.applied, replica.leads.as_ref()?)));
        if let Some((applied, Led { voters, learners, .. })) = led {
            let before = std::mem::replace(&mut self.holders.voters, voters.clone());
            // A leader gives the vote to who has caught up; what that one said of itself is older.
            for id in voters.iter().filter(|id| !before.is_empty() && !before.contains(id)) {
                let seen = self.seen.entry(*id).or_insert(Seen { last: applied, at, caught_up_at: None });
                seen.caught_up_at = Some(at);
            }
            self.holders.voters.sort_unstable();
            self.holders.learners.clone_from(learners);
            self.mark(applied, at);
        }
        let mark = self.marks[0].or(self.marks[1]).map(|(mark, _)| mark);
        let holders = &self.holders;
        self.seen.retain(|id, _| said.contains_key(id) || holders.voters.contains(id) || holders.learners.contains(id));
        for (id, seen) in &mut self.seen {
            // Who was away has to catch up first.
            if said.get(id).is_none_or(|replica| replica.phase != Phase::Running) {
                seen.caught_up_at.take_if(|since| at.saturating_duration_since(*since) >= MOMENT);
            }
        }
        for (id, replica) in said.iter().filter(|(_, replica)| replica.phase == Phase::Running) {
            let seen = self.seen.entry(*id).or_insert(Seen { last: replica.last, at, caught_up_at: None });
            (seen.last, seen.at) = (replica.last, at);
            if mark.is_some_and(|mark| replica.last >= mark) {
                seen.caught_up_at = Some(at);
            }
        }
        let is_in_sync = |id: &NodeId| {
            let caught_up_at = self.seen.get(id).and_then(|seen| seen.caught_up_at);
            caught_up_at.is_some_and(|since| at.saturating_duration_since(since) <= LAG_MAX)
        };
        self.holders.in_sync = self.holders.voters.iter().copied().filter(is_in_sync).collect();
    }

    /// A mark is used when it is a moment old, and until the next one is.
    fn mark(&mut self, applied: LogIndex, at: Instant) {
        match self.marks[1] {
            Some((_, since)) if at.saturating_duration_since(since) < MOMENT => {}
            before => self.marks = [before, Some((applied, at))],
        }
    }
}

impl Cluster {
    /// Who has the copies of each shard.
    #[must_use]
    pub fn holders(&self) -> Arc<BTreeMap<ShardId, Holders>> {
        Arc::clone(&self.inner.node.in_sync.holders.lock())
    }

    /// Changes when others have copies of a shard, or are in sync.
    #[must_use]
    pub fn holders_changed(&self) -> watch::Receiver<u64> {
        self.inner.node.in_sync.changes.subscribe()
    }

    /// How far the copies of a shard are: on its leader as that knows, else as they said last.
    #[must_use]
    pub fn positions(&self, shard: ShardId) -> BTreeMap<NodeId, Position> {
        let node = &self.inner.node;
        let mut positions: BTreeMap<NodeId, Position> = {
            let shards = node.in_sync.shards.lock();
            let seen = shards.get(&shard).into_iter().flat_map(|copies| &copies.seen);
            let position = |seen: &Seen| Position {
                last: Some(seen.last),
                heard: Some(seen.at.elapsed()),
                caught_up: seen.caught_up_at.map(|at| at.elapsed()),
            };
            seen.map(|(id, seen)| (*id, position(seen))).collect()
        };
        let Some(replica) = node.shards.replica(shard) else { return positions };
        let (last, applied) = (replica.last_log_index(), replica.applied());
        for (id, progress) in replica.progress().unwrap_or_default() {
            let position = positions.entry(id).or_default();
            position.last = progress.matched.or(position.last);
            position.heard = [progress.silence, position.heard].into_iter().flatten().min();
            if position.last.is_some_and(|last| last >= applied) {
                position.caught_up = position.heard;
            }
        }
        let here = Some(Duration::ZERO);
        let own = positions.entry(node.id()).or_default();
        *own = Position { last: Some(last), heard: here, ..*own };
        if replica.is_leader() {
            own.caught_up = here;
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use record::Term;

    use super::*;

    fn replica(last: u64, leads: Option<(&[u64], &[u64])>) -> ReplicaStatus {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        ReplicaStatus {
            shard: ShardId(1),
            phase: Phase::Running,
            term: Term(1),
            last: LogIndex(last),
            applied: LogIndex(last),
            purged: LogIndex(0),
            streams: 0,
            leader_changes: 0,
            pulled: None,
            leads: leads.map(|(voters, learners)| Led {
                voters: nodes(voters),
                learners: nodes(learners),
                changing: false,
            }),
        }
    }

    /// Half seconds in which all say how far they are, in the end those in sync.
    fn hear(copies: &mut Copies, at: &mut Instant, halves: u32, said: &[(u64, ReplicaStatus)]) -> Vec<u64> {
        for _ in 0..halves {
            *at += Duration::from_millis(500);
            let said: BTreeMap<NodeId, &ReplicaStatus> = said.iter().map(|(id, said)| (NodeId(*id), said)).collect();
            let leader = said.iter().find(|(_, said)| said.leads.is_some()).map(|(id, _)| *id);
            copies.hear(&said, leader, *at);
        }
        copies.holders.in_sync.iter().map(|id| id.0).collect()
    }

    #[test]
    fn only_who_votes_and_has_what_is_committed_is_in_sync() {
        let (mut copies, mut at) = (Copies::default(), now());
        let pulling = ReplicaStatus { phase: Phase::Installing, ..replica(0, None) };
        let alone = [(1, replica(1_000, Some((&[1], &[2])))), (2, replica(400, None)), (3, pulling)];
        assert_eq!(hear(&mut copies, &mut at, 10, &alone), [1]);
        assert_eq!(copies.holders.learners, [NodeId(2)]);
        let all = [(1, replica(1_000, Some((&[1, 2, 3], &[])))), (2, replica(1_000, None)), (3, replica(10, None))];
        assert_eq!(hear(&mut copies, &mut at, 1, &all[..2]), [1, 2, 3], "all have the vote, so all have got there");
        assert_eq!(hear(&mut copies, &mut at, 2, &all[..2]), [1, 2], "one is gone");
        assert_eq!(hear(&mut copies, &mut at, 1, &all), [1, 2], "and came back");
    }

    #[test]
    fn who_is_always_a_little_behind_is_in_sync_and_who_stands_still_is_not_for_long() {
        let (mut copies, mut at) = (Copies::default(), now());
        let leads: Option<(&[u64], &[u64])> = Some((&[1, 2, 3], &[]));
        for round in 2..60 {
            let front = round * 100;
            // Node 2 is half a second behind, node 3 goes no further than at first.
            let said =
                [(1, replica(front, leads)), (2, replica(front - 100, None)), (3, replica(front.min(300), None))];
            let in_sync = hear(&mut copies, &mut at, 1, &said);
            if (6..20).contains(&round) {
                assert_eq!(in_sync, [1, 2, 3], "{round}");
            } else if round >= 30 {
                assert_eq!(in_sync, [1, 2], "{round}");
            }
        }
    }

    #[test]
    fn who_was_away_is_in_sync_again_when_it_has_caught_up() {
        let (mut copies, mut at) = (Copies::default(), now());
        let leads: Option<(&[u64], &[u64])> = Some((&[1, 2, 3], &[]));
        let all = |last| [(1, replica(1_000, leads)), (2, replica(1_000, None)), (3, replica(last, None))];
        assert_eq!(hear(&mut copies, &mut at, 2, &all(1_000)), [1, 2, 3]);
        assert_eq!(hear(&mut copies, &mut at, 2, &all(1_000)[..2]), [1, 2]);
        assert_eq!(hear(&mut copies, &mut at, 30, &all(999)), [1, 2]);
        assert_eq!(hear(&mut copies, &mut at, 1, &all(1_000)), [1, 2, 3]);
    }

    #[test]
    fn without_a_leader_those_that_are_heard_of_stay() {
        let (mut copies, mut at) = (Copies::default(), now());
        let leads: Option<(&[u64], &[u64])> = Some((&[1, 2, 3], &[]));
        let all = [(1, replica(9, leads)), (2, replica(9, None)), (3, replica(9, None))];
        assert_eq!(hear(&mut copies, &mut at, 3, &all), [1, 2, 3]);
        assert_eq!(hear(&mut copies, &mut at, 100, &all[1..]), [2, 3]);
        assert_eq!(copies.holders.voters, [1, 2, 3].map(NodeId));
    }
}
