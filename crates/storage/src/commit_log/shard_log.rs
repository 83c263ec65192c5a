//! The log of one shard: appending, voting, truncating, purging.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::planted::{Planted, is_planted};
use base::queue::{SendError, Sender};
use record::{LogIndex, ShardId};
use tokio::sync::oneshot;

use super::frame::PAYLOAD_BYTES_MAX;
use super::request::{Control, Done, Request};
use super::shard_state::{Inner, ShardState};
use super::shared::Shared;
use super::{AppendCompletion, DiskState, LogState, Refused};
use crate::passing::is_full;
use crate::types::{Entry, LogId, Vote};

/// The log of one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardLog {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<ShardState>,
    queue: Sender<Request>,
}

impl ShardLog {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<ShardState>, queue: Sender<Request>) -> Self {
        Self { shared, state, queue }
    }

    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.state.id
    }

    #[must_use]
    pub fn log_state(&self) -> LogState {
        self.state.lock().state
    }

    /// Adds entries, which MUST follow the last one without gap. They are readable at once. Of all
    /// appends that one group commit makes durable, only the last one's `done` is called.
    ///
    /// # Errors
    /// Nothing was taken then.
    pub fn append(&self, entries: Vec<Entry>, done: AppendCompletion) -> Result<(), Refused> {
        self.append_with(entries, Done::Latest(self.state.id, done))
    }

    /// As [`ShardLog::append`], but `done` is called for every append.
    ///
    /// # Errors
    /// Nothing was taken then.
    pub fn append_each(&self, entries: Vec<Entry>, done: AppendCompletion) -> Result<(), Refused> {
        self.append_with(entries, Done::Each(done))
    }

    fn append_with(&self, entries: Vec<Entry>, done: Done) -> Result<(), Refused> {
        let largest = entries.iter().map(|entry| entry.payload.len()).max().unwrap_or(0);
        if largest > self.shared.options.entry_bytes_max() || largest > PAYLOAD_BYTES_MAX as usize {
            return Err(Refused::TooLarge { bytes: largest });
        }
        let mut inner = self.state.lock();
        let entries = if is_planted(Planted::TruncationSkipped) { inner.without_known(entries) } else { entries };
        if is_planted(Planted::TruncationSkipped) && entries.is_empty() {
            done.call(Ok(()));
            return Ok(());
        }
        check_order(&inner, &entries);
        // Readable at once, and before the writer can report that it is written. Cloning the
        // entries only counts references.
        let taken = inner.generation();
        let before = inner.state.last;
        inner.add_recent(&entries, &self.shared.memory);
        let request = Request::Append { shard: Arc::clone(&self.state), entries, taken, done };
        let bytes = request.bytes();
        match self.queue.try_send(request, bytes) {
            Ok(()) => {
                drop(inner);
                self.shared.make_room(&self.state);
                Ok(())
            }
            Err(error) => {
                inner.take_back(before, &self.shared.memory);
                Err(self.refused(&error))
            }
        }
    }

    /// How much room the disk has.
    #[must_use]
    pub fn disk_state(&self) -> DiskState {
        *self.shared.disk_state.borrow()
    }

    /// The free space of the disk, of which `reserve_bytes` are kept for what is needed on a full one.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.shared.disk.free_bytes(&self.shared.dir)?.available)
    }

    /// What is kept free.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.shared.options.reserve_bytes
    }

    fn refused(&self, error: &SendError<Request>) -> Refused {
        match error {
            SendError::Full(_) if self.disk_state().is_full() => Refused::DiskFull,
            SendError::Full(_) => Refused::Busy,
            SendError::Closed(_) if self.shared.has_failed() => Refused::Failed,
            SendError::Closed(_) => Refused::Closed,
        }
    }

    /// Returns when the vote and everything before it is durable.
    ///
    /// # Errors
    /// When the log failed or is closed.
    ///
    /// # Panics
    /// When the vote is older than the one before.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let durable = {
            let mut inner = self.state.lock();
            assert!(inner.state.vote.is_none_or(|before| vote.may_follow(&before)), "a vote never goes back");
            inner.vote(vote);
            if is_planted(Planted::VoteNotPersisted) {
                inner.vote_is_durable(vote);
                return Ok(());
            }
            self.control(Control::Vote(vote))
        };
        self.wait(durable).await.inspect(|()| self.state.lock().vote_is_durable(vote))
    }

    /// The last vote that others may have been told of: no crash takes it back.
    pub fn durable_vote(&self) -> Option<Vote> {
        self.state.lock().durable_vote()
    }

    /// Returns when all that was appended before is durable.
    ///
    /// # Errors
    /// When the log failed or is closed.
    ///
    /// # Panics
    /// When no vote was ever saved: a log without one belongs to no group.
    pub async fn barrier(&self) -> io::Result<()> {
        let durable = {
            let inner = self.state.lock();
            let vote = inner.state.vote.expect("a member of a group has voted");
            self.control(Control::Vote(vote))
        };
        self.wait(durable).await
    }

    /// Removes all entries behind `last`, for readers at once; returns when that is durable.
    ///
    /// # Errors
    /// When the log failed or is closed.
    ///
    /// # Panics
    /// When `last` is not in the log or is purged.
    pub async fn truncate_after(&self, last: Option<LogId>) -> io::Result<()> {
        if is_planted(Planted::TruncationSkipped) {
            return Ok(());
        }
        let durable = {
            let mut inner = self.state.lock();
            assert!(last <= inner.state.last, "what is kept is in the log");
            assert!(last >= inner.state.purged, "nothing purged is truncated");
            inner.truncate_after(last, &self.shared.memory);
            self.control(Control::Truncate(last))
        };
        self.wait(durable).await
    }

    /// Moves the purge mark. What it passed stays readable as long as [`ShardLog::keep`] names it
    /// or its segment is needed otherwise. A mark behind the last entry starts the log anew there.
    ///
    /// # Errors
    /// When the log failed or is closed.
    ///
    /// # Panics
    /// When the mark goes back.
    pub async fn purge(&self, through: LogId) -> io::Result<()> {
        let durable = {
            let mut inner = self.state.lock();
            inner.purge(through, &self.shared.memory);
            self.control(Control::Purge(through))
        };
        self.wait(durable).await?;
        self.state.lock().purge_is_durable(through);
        self.liveness_changed();
        Ok(())
    }

    /// Forgets all entries and the purge mark, for readers at once; the vote stays. Returns when that is
    /// durable: then the log begins anew at whatever is appended, and what it held is let go.
    ///
    /// # Errors
    /// When the log failed or is closed.
    pub async fn forget(&self) -> io::Result<()> {
        let durable = {
            let mut inner = self.state.lock();
            inner.forget(&self.shared.memory);
            self.control(Control::Forget)
        };
        self.wait(durable).await?;
        self.liveness_changed();
        Ok(())
    }

    /// Remembers what is committed; it reaches the file within a tick, with nobody waiting for it.
    pub fn save_committed(&self, committed: LogId) {
        self.state.lock().set_committed(committed);
    }

    /// Says which purged ranges still hold live data. Until the first call all do.
    pub fn keep(&self, live: Vec<RangeInclusive<LogIndex>>) {
        let live = live.into_iter().map(|range| range.start().0..=range.end().0).collect();
        self.state.lock().set_live(live);
        self.liveness_changed();
    }

    /// The first index from `from` on at which the log holds an entry, purged or not.
    #[must_use]
    pub fn first_held(&self, from: LogIndex) -> Option<LogIndex> {
        self.state.lock().first_held(from.0).map(LogIndex)
    }

    /// From where on the entries up to `through` lie in segments of together at most `bytes`, by the segments' sizes:
    /// what is kept of a log keeps the segments that it lies in. `None` when `through` alone is more.
    #[must_use]
    pub fn kept_within(&self, through: LogIndex, bytes: u64) -> Option<LogIndex> {
        self.state.lock().runs.kept_within(through.0, bytes).map(LogIndex)
    }

    /// From where on the entries lie in the newest segments of the log that all shards share, which together have about so many
    /// bytes; none when the shard has no entries, or all that the log ever had is no more.
    #[must_use]
    pub fn newest_within(&self, bytes: u64) -> Option<LogIndex> {
        let newest = |shard: &Arc<ShardState>| {
            let inner = shard.lock();
            inner.runs.newest_segment().map(|segment| (segment.sequence, u64::from(segment.capacity)))
        };
        let (sequence, segment_bytes) = self.shared.all_shards().iter().filter_map(newest).max()?;
        let count = u32::try_from(bytes.div_ceil(segment_bytes.max(1))).unwrap_or(u32::MAX);
        let oldest = sequence.checked_sub(count.saturating_sub(1))?;
        self.state.lock().runs.first_in_segment(oldest).map(LogIndex)
    }

    /// About how many bytes the entries of `ranges`, which are sorted, take in the files: a segment's bytes are shared
    /// out by the number of entries.
    #[must_use]
    pub fn bytes_within(&self, ranges: &[RangeInclusive<LogIndex>]) -> u64 {
        let mut segments: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut ours: BTreeMap<u32, u64> = BTreeMap::new();
        for shard in self.shared.all_shards() {
            for (first, run) in shard.lock().runs.iter() {
                let entry =
                    segments.entry(run.segment.sequence).or_insert_with(|| (u64::from(run.segment.data_bytes()), 0));
                entry.1 += u64::from(run.count);
                if shard.id == self.state.id {
                    let behind = first + u64::from(run.count);
                    let from = ranges.partition_point(|range| range.end().0 < first);
                    let within = ranges[from..].iter().take_while(|range| range.start().0 < behind);
                    let count: u64 = within
                        .map(|range| range.end().0.saturating_add(1).min(behind) - range.start().0.max(first))
                        .sum();
                    *ours.entry(run.segment.sequence).or_default() += count;
                }
            }
        }
        let share = |(sequence, count): (u32, u64)| {
            let (bytes, all) = segments.get(&sequence).copied().unwrap_or_default();
            u64::try_from(u128::from(bytes) * u128::from(count) / u128::from(all.max(1))).unwrap_or(u64::MAX)
        };
        ours.into_iter().map(share).sum()
    }

    /// Another file of the node could not be written or synced: nobody can say what is on this disk, so
    /// the log takes nothing any more and the node must stop, as when the log's own write fails.
    pub fn fail(&self, operation: &'static str, path: &Path, error: io::Error) {
        assert!(!is_full(&error), "want of room passes");
        self.shared.fail(operation, path, error);
    }

    fn liveness_changed(&self) {
        self.shared.liveness_changed.store(true, Ordering::Release);
        self.shared.keeper_wake.notify_one();
    }

    /// Queues a control frame; to be called with the shard locked, so that the order of the queue is
    /// the order of what callers see.
    fn control(&self, control: Control) -> Result<oneshot::Receiver<io::Result<()>>, SendError<Request>> {
        let (sender, durable) = oneshot::channel();
        let request = Request::Control { shard: Arc::clone(&self.state), control, done: Done::Control(sender) };
        // Counted as nothing: votes and truncations pass a queue that is full of data.
        self.queue.send_over(request).map(|()| durable)
    }

    async fn wait(&self, durable: Result<oneshot::Receiver<io::Result<()>>, SendError<Request>>) -> io::Result<()> {
        let Ok(durable) = durable else { return Err(self.shared.failure_error()) };
        match durable.await {
            Ok(result) => result,
            Err(_) => Err(self.shared.failure_error()),
        }
    }
}

fn check_order(inner: &Inner, entries: &[Entry]) {
    let Some(first) = entries.first() else { return };
    assert!(inner.next_index().is_none_or(|next| next == first.id.index.0), "entries follow the last one");
    assert!(inner.state.last.is_none_or(|last| last.term <= first.id.term), "terms never go back");
    for pair in entries.windows(2) {
        assert!(pair[0].id.index.0 + 1 == pair[1].id.index.0, "entries are consecutive");
        assert!(pair[0].id.term <= pair[1].id.term, "terms never go back");
    }
}
