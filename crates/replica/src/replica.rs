//! The handle of one replica: what can be asked of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::planted::{Planted, is_planted};
use base::task::JoinHandle;
use base::time::Duration;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLockReadGuard};
use record::{
    BatchSummary, LeaderEpoch, LogIndex, NodeId, ProducerId, ProducerStamp, ShardId, StreamId, StreamOffset, Term,
    TimestampMs,
};
use shard::{Command, Shard};
use smallvec::{SmallVec, smallvec};
use storage::Payload;
use tokio::sync::watch;

use crate::core::Core;
use crate::errors::{AnswerError, FetchError, OutOfService, ProposeError};
use crate::fetch::{Fetched, Planned, Repeated, Wish};
use crate::leadership::{self, Leadership};
use crate::losses::decide_without;
use crate::maintenance;
use crate::parts;
use crate::pending::Pending;
use crate::proposer::{Gate, Item, Items};
use crate::raft::Group;
use crate::times::{EpochEnd, TimedOffset};
use crate::waiters::{Seat, Waiter};

/// One shard on this node. Clones are handles of the same replica.
#[derive(Clone)]
pub struct Replica {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) group: Group,
    pub(super) tasks: Mutex<Tasks>,
}

/// What runs for the replica; taken at the shutdown.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) proposer: Option<JoinHandle<()>>,
    pub(super) others: Vec<JoinHandle<()>>,
    pub(super) maintenance: Option<maintenance::Handle>,
}

/// The state machine, to look at. It holds a lock that apply needs: keep it for microseconds and
/// never across an await.
pub struct StateGuard<'a>(MappedRwLockReadGuard<'a, Shard>);

impl Deref for StateGuard<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.0
    }
}

impl fmt::Debug for StateGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateGuard")
    }
}

impl Replica {
    /// The shard.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        self.inner.core.config.shard
    }

    /// The bytes that a command may have; more are refused as too large.
    #[must_use]
    pub fn command_bytes_max(&self) -> usize {
        self.inner.core.config.command_bytes_max
    }

    /// Puts a command behind all that were proposed before; the outcome comes when it is durable
    /// on a quorum and applied. Never waits: a full queue refuses.
    pub fn propose(&self, command: Command) -> Pending {
        let (answer, pending) = Pending::new();
        match Item::without_body(command, self.command_bytes_max(), answer) {
            Ok(item) => self.enqueue(smallvec![item], pending),
            Err(error) => Pending::refused(error),
        }
    }

    /// As [`Self::propose`], past the queue's bound: for a step of work that was accepted already,
    /// which must not lose to writers that keep the queue full. The caller bounds how many there are.
    pub fn propose_step(&self, command: Command) -> Pending {
        let (answer, pending) = Pending::new();
        let item = match Item::without_body(command, self.command_bytes_max(), answer) {
            Ok(item) => item,
            Err(error) => return Pending::refused(error),
        };
        if let Err(error) = self.check_gate(std::slice::from_ref(&item)) {
            return Pending::refused(error);
        }
        match self.inner.core.proposals.queue.push_over(item) {
            Ok(()) => pending,
            Err(error) => Pending::refused(error),
        }
    }

    /// Appends a batch that was checked to each of `streams`, stored once. A batch that does not
    /// fit an entry travels in parts and becomes visible with the last. The batch may be in several
    /// buffers, which are not joined. They MAY be slices of a larger one, if what is appended of it
    /// to this replica, all of it at about the same time, is at least a quarter of it: recent
    /// batches stay in memory, counted by their length.
    pub fn append(
        &self,
        streams: SmallVec<[StreamId; 1]>,
        summary: BatchSummary,
        batch: impl Into<Payload>,
    ) -> Pending {
        let batch = batch.into();
        assert_eq!(summary.bytes as usize, batch.len(), "the summary is of another batch");
        let core = &self.inner.core;
        if core.full_disk.refuses_data() {
            return Pending::refused(ProposeError::DiskFull);
        }
        let (items, pending) = parts::items(core, streams, summary, batch);
        self.enqueue(items, pending)
    }

    fn enqueue(&self, items: Items, pending: Pending) -> Pending {
        let entered = self.check_gate(&items).and_then(|()| self.inner.core.proposals.queue.push(items));
        match entered {
            Ok(()) => pending,
            Err(error) => Pending::refused(error),
        }
    }

    /// Whether a read has found that the log or its index is damaged here, and the others of the group decide without this member.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let core = &self.inner.core;
        if !core.log.has_damaged_read() && !core.index.has_damage() {
            return false;
        }
        let state = core.state.read();
        let voters = state.membership.membership().get_joint_config();
        !voters.is_empty() && decide_without(core.config.node.0, voters.iter())
    }

    /// Whether this node may propose `items` now.
    fn check_gate(&self, items: &[Item]) -> Result<(), ProposeError> {
        let core = &self.inner.core;
        match core.proposals.gate() {
            Gate::Open { .. } => {}
            Gate::Closed { leader } => return Err(ProposeError::NotLeader { leader }),
            Gate::Stopped => return Err(ProposeError::Stopped),
        }
        if !core.full_disk.admits(items) {
            return Err(ProposeError::DiskFull);
        }
        Ok(())
    }

    /// Says whether too few of the voters have room on their disks for a majority to keep data: it is refused then as on a
    /// full disk here. Returns whether that is news.
    pub fn set_full_elsewhere(&self, full: bool) -> bool {
        self.inner.core.full_disk.set_elsewhere(full)
    }

    /// Returns when the queue has room, so that a caller reads no more than can be taken.
    pub async fn ready(&self) {
        self.inner.core.proposals.queue.room().await;
    }

    /// The state as of the last applied entry.
    #[must_use]
    pub fn state(&self) -> StateGuard<'_> {
        StateGuard(RwLockReadGuard::map(self.inner.core.state.read(), |applied| &applied.shard))
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.inner.core.applied_index()
    }

    /// Whether the shard knows a producer of the stream, and goes on to for minutes, by the time that an entry would have
    /// that is proposed now.
    #[must_use]
    pub fn remembers_producer(&self, stream: StreamId, producer: ProducerId) -> bool {
        let now = TimestampMs(self.inner.core.env.wall_clock.now_ms());
        self.state().remembers_producer(stream, producer, now)
    }

    /// The last vote that other members may have been told of: its term, for whom it is, and whether that one is known
    /// to lead.
    #[must_use]
    pub fn durable_vote(&self) -> Option<(Term, NodeId, bool)> {
        self.inner.core.log.durable_vote().map(|vote| (vote.term, vote.node_id, vote.committed))
    }

    /// The last applied entry and the hash of the state as of it: equal on all members at equal entries.
    #[must_use]
    pub fn digest(&self) -> (LogIndex, u64) {
        let mut state = self.inner.core.state.write();
        (state.last.map_or(LogIndex(0), |last| last.index), state.shard.digest())
    }

    /// Reads batches from the one that holds `from` on, up to `bytes_max` in all; with
    /// `at_least_one` the first is given whatever its size.
    ///
    /// # Errors
    /// When the stream or the offset does not exist, or its bytes cannot be read.
    pub async fn fetch(
        &self,
        stream: StreamId,
        from: StreamOffset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, FetchError> {
        self.inner.core.fetch(Wish { stream, from, bytes_max, at_least_one }).await
    }

    /// Looks for a batch of `records` among the last ones of a stream, by who made it: one that its producer sends again
    /// when the shard does not remember it any more.
    ///
    /// # Errors
    /// When the stream does not exist, or what is looked through cannot be read.
    pub async fn find_repeated(
        &self,
        stream: StreamId,
        stamp: ProducerStamp,
        records: u32,
    ) -> Result<Option<Repeated>, FetchError> {
        self.inner.core.find_repeated(stream, stamp, records).await
    }

    /// Finds out which batches a fetch would read, without reading them: they are read by
    /// [`crate::read_plans`], with those of other streams.
    ///
    /// # Errors
    /// When the stream or the offset does not exist.
    pub fn plan_fetch(&self, wish: Wish) -> Result<Planned<'_>, FetchError> {
        self.inner.core.plan(wish)
    }

    /// The first record whose timestamp is `time` or later.
    ///
    /// # Errors
    /// When the stream does not exist or its bytes cannot be read.
    pub async fn offset_for_time(
        &self,
        stream: StreamId,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, FetchError> {
        Box::pin(self.inner.core.offset_for_time(stream, time)).await
    }

    /// The first record that has the largest timestamp of the stream.
    ///
    /// # Errors
    /// When the stream does not exist or its bytes cannot be read.
    pub async fn max_timestamp(&self, stream: StreamId) -> Result<Option<TimedOffset>, FetchError> {
        Box::pin(self.inner.core.max_timestamp(stream)).await
    }

    /// Where the largest epoch that is not above `epoch` ends (KIP-320).
    ///
    /// # Errors
    /// When the stream does not exist.
    pub fn epoch_end(&self, stream: StreamId, epoch: LeaderEpoch) -> Result<EpochEnd, FetchError> {
        self.inner.core.epoch_end(stream, epoch)
    }

    /// Wakes `waiter` when the stream grows, is deleted, or the leadership changes, until
    /// [`Self::unsubscribe`].
    #[must_use = "the subscription ends by its seat only"]
    pub fn subscribe(&self, stream: StreamId, waiter: &Arc<Waiter>) -> Seat {
        self.inner.core.waiters.subscribe(stream, waiter)
    }

    /// Ends a subscription, which MUST be one of this replica's.
    pub fn unsubscribe(&self, seat: Seat) {
        self.inner.core.waiters.unsubscribe(seat);
    }

    /// Who leads, now and later.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.core.leadership.subscribe()
    }

    /// Returns when another node is known to lead, and the streams' epochs under it are. May wait for ever.
    pub async fn succeeded(&self) {
        self.inner.core.succeeded().await;
    }

    /// Stands for election `turn` after the lease of `leader` is over here, which seems to have ended. Does nothing where it is
    /// heard of again, another leads, or this node has no vote. Returns within seconds, whatever comes of it.
    pub async fn succeed(&self, leader: NodeId, turn: Duration) {
        leadership::succeed(&self.inner.group, leader, turn).await;
    }

    /// Whether this node leads the shard and serves.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner.core.leadership.borrow().is_self
    }

    /// Whether nobody is elected before the others have not heard from this node for a time: it leads, and has asked nobody
    /// to take over in this term. Who is asked stands at once, whatever the others have heard.
    #[must_use]
    pub fn leads_until_silent(&self) -> bool {
        let leadership = *self.inner.core.leadership.borrow();
        leadership.is_self && leadership.term.0 != self.inner.core.handed_over.load(Ordering::Acquire)
    }

    /// Why the replica is out of service, once it is.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<OutOfService>> {
        self.inner.core.failure.subscribe()
    }

    /// Counts the changes that followers of the whole state want to see (topics, nodes, slots,
    /// configuration, groups).
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.core.changed.subscribe()
    }

    /// Counts how often slots came to the shard or left it since the replica started.
    #[must_use]
    pub fn slots_changed(&self) -> watch::Receiver<u64> {
        self.inner.core.slots_changed.subscribe()
    }

    /// Returns when this node is known to lead and has applied everything that was committed when
    /// the call began.
    ///
    /// # Errors
    /// When it does not lead, or cannot know.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        let core = &self.inner.core;
        if core.is_failed() {
            return Err(ProposeError::Stopped);
        }
        // Nobody else can lead a group of one, and answers are given only after apply.
        if (core.is_alone() || is_planted(Planted::StaleRead)) && self.is_leader() {
            return Ok(());
        }
        self.inner.group.read_barrier().await
    }

    /// Answers one request of another member of the group, as [`crate::Peer::call`] of `from` sent it.
    ///
    /// # Errors
    /// When it is no request, or the replica is out of service.
    pub async fn answer(&self, from: NodeId, request: Bytes) -> Result<Bytes, AnswerError> {
        self.inner.group.answer(from, request).await
    }

    /// Answers the requests of a stream in their order, as [`crate::Peer::stream`] sent them. It
    /// ends at the first that is refused. What they carry is kept as slices of their buffers: at
    /// least a quarter of a buffer's memory MUST be such requests.
    pub async fn answer_appends(
        &self,
        from: NodeId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, AnswerError>> {
        self.inner.group.answer_appends(from, requests).await
    }

    /// Writes a checkpoint now, for an orderly stop or a test.
    pub async fn checkpoint(&self) {
        let request = self.inner.tasks.lock().maintenance.as_ref().map(maintenance::Handle::request_checkpoint);
        if let Some(done) = request {
            let _ = done.await;
        }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("shard", &self.shard_id()).field("applied", &self.applied()).finish()
    }
}
