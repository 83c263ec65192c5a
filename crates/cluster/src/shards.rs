//! The shards as this node knows them: its own replicas, which come and go while it runs, and who
//! leads those that it has no replica of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use record::{LeaderEpoch, NodeId, ShardId, StreamId, Term};
use replica::{Leadership, Replica};
use shard::epoch_of;
use tokio::sync::watch;

/// Of so many streams of a shard that is elsewhere the epochs are kept.
const EPOCH_SHIFTS_MAX: usize = 1 << 18;

/// One shard as this node knows it. Whoever asks for it often keeps it: it stays true.
#[derive(Debug)]
pub struct ShardHandle {
    id: ShardId,
    replica: RwLock<Option<Replica>>,
    /// The leader of the highest term that another node claimed to lead in.
    told: RwLock<Option<Told>>,
    /// Of streams of a shard that is elsewhere, what is added to the count of its leader changes to have their epochs. It
    /// never changes while they grow there.
    epoch_shifts: RwLock<BTreeMap<StreamId, i64>>,
}

/// What a leader said of itself.
#[derive(Debug, Clone, Copy)]
struct Told {
    term: Term,
    node: NodeId,
    leader_changes: u32,
    /// It was not heard of since, so it leads nothing.
    gone: bool,
}

impl ShardHandle {
    fn new(id: ShardId) -> Self {
        Self { id, replica: RwLock::default(), told: RwLock::default(), epoch_shifts: RwLock::default() }
    }

    /// Which shard it is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// This node's replica, while it has one that runs.
    #[must_use]
    pub fn replica(&self) -> Option<Replica> {
        self.replica.read().clone()
    }

    /// Who leads it, as far as this node knows: as a member, or else by what the leader tells everybody.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let own = self.replica.read().as_ref().map(|replica| *replica.leadership().borrow());
        let told = self.told.read().filter(|told| !told.gone);
        believed(own, told.map(|told| (told.term, told.node)))
    }

    /// Which other node said last that it leads, and the epoch that a stream had there then, where that is known.
    #[must_use]
    pub fn told_leader(&self, stream: StreamId) -> Option<(NodeId, Option<LeaderEpoch>)> {
        let told = (*self.told.read())?;
        let shift = self.epoch_shifts.read().get(&stream).copied();
        Some((told.node, shift.map(|shift| epoch_of(told.leader_changes, shift))))
    }

    /// Whether this node can tell a stream's epoch without asking another.
    #[must_use]
    pub fn knows_epoch(&self, stream: StreamId) -> bool {
        self.replica.read().is_some() || self.epoch_shifts.read().contains_key(&stream)
    }

    /// Takes over what was asked for streams that this node has no copy of.
    pub(crate) fn learn_epochs(&self, shifts: impl Iterator<Item = (StreamId, i64)>) {
        let mut known = self.epoch_shifts.write();
        for (stream, shift) in shifts {
            if known.len() >= EPOCH_SHIFTS_MAX {
                known.clear();
            }
            known.insert(stream, shift);
        }
    }

    /// Another node says that it leads in `term`.
    pub(crate) fn tell_leader(&self, term: Term, node: NodeId, leader_changes: u32) {
        let mut told = self.told.write();
        if told.is_none_or(|known| known.gone || known.term <= term) {
            *told = Some(Told { term, node, leader_changes, gone: false });
        }
    }

    /// A node is not there any more, so it leads nothing.
    fn forget_leader(&self, node: NodeId) {
        let mut told = self.told.write();
        if let Some(told) = told.as_mut().filter(|told| told.node == node) {
            told.gone = true;
        }
    }
}

/// Who leads, by what this node knows as a member and what it was told last. Whoever says that it leads was elected: of two
/// terms the later one counts. So a member that was let go and hears of no leader any more learns of the next one.
fn believed(own: Option<Leadership>, told: Option<(Term, NodeId)>) -> Option<NodeId> {
    match (own, told) {
        (Some(own), Some((term, node))) if term > own.term || (term == own.term && own.leader.is_none()) => Some(node),
        (Some(own), _) => own.leader,
        (None, told) => told.map(|(_, node)| node),
    }
}

/// All shards that this node has heard of.
#[derive(Default)]
pub(crate) struct Shards {
    handles: RwLock<BTreeMap<ShardId, Arc<ShardHandle>>>,
    /// Counts replicas that came or went.
    changes: watch::Sender<u64>,
}

impl Shards {
    /// The shard, heard of now if not before. Callers name shards that the metadata has.
    pub(crate) fn handle(&self, shard: ShardId) -> Arc<ShardHandle> {
        if let Some(handle) = self.handles.read().get(&shard) {
            return Arc::clone(handle);
        }
        let mut handles = self.handles.write();
        Arc::clone(handles.entry(shard).or_insert_with(|| Arc::new(ShardHandle::new(shard))))
    }

    /// As [`Self::handle`], of a shard that is known already.
    pub(crate) fn known(&self, shard: ShardId) -> Option<Arc<ShardHandle>> {
        self.handles.read().get(&shard).cloned()
    }

    pub(crate) fn replica(&self, shard: ShardId) -> Option<Replica> {
        self.handles.read().get(&shard)?.replica()
    }

    /// This node's replicas, in the order of their shards.
    pub(crate) fn replicas(&self) -> Vec<Replica> {
        self.handles.read().values().filter_map(|handle| handle.replica()).collect()
    }

    /// A replica runs from now on.
    pub(crate) fn put(&self, replica: Replica) {
        let handle = self.handle(replica.shard_id());
        let before = handle.replica.write().replace(replica);
        *handle.epoch_shifts.write() = BTreeMap::new();
        assert!(before.is_none(), "a node has one replica of a shard");
        self.changes.send_modify(|count| *count += 1);
    }

    /// A replica is to be stopped: nobody finds it any more.
    pub(crate) fn take(&self, shard: ShardId) -> Option<Replica> {
        let taken = self.handles.read().get(&shard)?.replica.write().take();
        if taken.is_some() {
            self.changes.send_modify(|count| *count += 1);
        }
        taken
    }

    /// Changes when replicas come or go.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A node is not heard of any more.
    pub(crate) fn node_is_gone(&self, node: NodeId) {
        self.handles.read().values().for_each(|handle| handle.forget_leader(node));
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("replicas", &self.replicas()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    #[test]
    fn the_leader_of_the_latest_term_is_known() {
        let shards = Shards::default();
        let handle = shards.handle(SHARD);
        assert_eq!(handle.leader(), None);
        handle.tell_leader(Term(4), NodeId(2), 6);
        handle.tell_leader(Term(3), NodeId(1), 5);
        assert_eq!(handle.leader(), Some(NodeId(2)));
        assert_eq!(handle.told_leader(StreamId(8)), Some((NodeId(2), None)));
        handle.learn_epochs([(StreamId(8), -4)].into_iter());
        assert!(handle.knows_epoch(StreamId(8)) && !handle.knows_epoch(StreamId(9)));
        handle.tell_leader(Term(5), NodeId(1), 7);
        shards.node_is_gone(NodeId(2));
        assert_eq!(handle.leader(), Some(NodeId(1)));
        shards.node_is_gone(NodeId(1));
        assert_eq!(shards.known(SHARD).unwrap().leader(), None);
        assert_eq!(handle.told_leader(StreamId(8)), Some((NodeId(1), Some(LeaderEpoch(3)))), "as it was last");
        handle.tell_leader(Term(4), NodeId(2), 6);
        assert_eq!(handle.leader(), Some(NodeId(2)));
    }

    #[test]
    fn the_leader_of_the_later_term_is_believed() {
        let own = |term, leader: Option<u64>| {
            Some(Leadership { leader: leader.map(NodeId), term: Term(term), is_self: false })
        };
        let told = |term, node| Some((Term(term), NodeId(node)));
        assert_eq!(believed(None, None), None);
        assert_eq!(believed(None, told(1, 4)), Some(NodeId(4)));
        assert_eq!(believed(own(7, Some(2)), None), Some(NodeId(2)));
        assert_eq!(believed(own(7, Some(2)), told(6, 4)), Some(NodeId(2)));
        assert_eq!(believed(own(7, Some(2)), told(8, 4)), Some(NodeId(4)), "it was let go before the leader changed");
        assert_eq!(believed(own(7, None), told(6, 4)), None, "an election is under way");
        assert_eq!(believed(own(7, None), told(7, 4)), Some(NodeId(4)));
    }
}
