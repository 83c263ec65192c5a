//! The group's log, for the consensus library: a thin layer over the node's commit log.
//!
//! Appends return once the entries are readable; durability is told by the commit log's threads,
//! once per group commit. Votes wait for the disk and are barriers for everything before them.
//!
//! Two kinds of readers ask for entries. Replication gets them whole. Apply and the start need the
//! commands only, so for entries that are no longer in memory their bodies are not read.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, errors::LeaderChanged};
use record::LogIndex;
use storage::{EntryKind, Payload, ShardLog};

use super::types::{
    ConsensusLogId, ConsensusVote, Entry, TypeConfig, consensus_log_id, consensus_vote, stored_log_id, stored_vote,
};

/// The most that one request to another member carries of payloads: with what stands before them it
/// fits a frame of 4 MiB between nodes.
const REPLICATION_BYTES_MAX: usize = (4 << 20) - (128 << 10);
/// What is read of an entry to learn how long its head is.
const HEAD_GUESS_BYTES: u32 = 16 << 10;

/// The log of one shard. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    log: ShardLog,
}

impl LogStore {
    pub(crate) fn new(log: ShardLog) -> Self {
        Self { log }
    }

    /// The entries of `range`, with their bodies where these are in memory.
    async fn heads(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for index in range {
            match self.head(LogIndex(index)).await? {
                Some(entry) => entries.push(entry),
                None if entries.is_empty() => {}
                None => break,
            }
        }
        Ok(entries)
    }

    async fn head(&self, index: LogIndex) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.log.recent(index) {
            return Entry::from_stored(entry).map(Some);
        }
        let Some(meta) = self.log.meta(index).await? else { return Ok(None) };
        let payload = match meta.kind {
            EntryKind::Blank => Payload::default(),
            EntryKind::Membership => Payload::from(self.read(index, 0..meta.payload_bytes).await?),
            EntryKind::Commands => {
                let first = self.read(index, 0..meta.payload_bytes.min(HEAD_GUESS_BYTES)).await?;
                let length = shard::entry_head_bytes(&first)
                    .and_then(|length| u32::try_from(length).ok())
                    .filter(|length| *length <= meta.payload_bytes)
                    .ok_or_else(|| io::Error::other(format!("the entry {index} does not begin with its head")))?;
                if length as usize <= first.len() {
                    Payload::from(first)
                } else {
                    Payload::from(self.read(index, 0..length).await?)
                }
            }
        };
        Entry::from_stored(storage::Entry { id: meta.id, kind: meta.kind, payload }).map(Some)
    }

    async fn read(&self, index: LogIndex, range: Range<u32>) -> io::Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.log.read(index, range).await?.into_bytes().await
    }

    /// The entries of `range`, whole.
    async fn whole(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = self.log.entries(LogIndex(range.start)..LogIndex(range.end), bytes_max).await?;
        entries.into_iter().map(Entry::from_stored).collect()
    }

    /// Cuts `range` to what the log holds.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let state = self.log.log_state();
        let first = state.purged.map_or(0, |id| id.index.0 + 1);
        let end = state.last.map_or(first, |id| id.index.0 + 1);
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let from = from.max(first);
        from..to.min(end).max(from)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = self.bounds(&range);
        let wanted = range.end - range.start;
        let entries = self.heads(range.clone()).await?;
        if entries.len() as u64 != wanted {
            let text = format!("of the entries {range:?} the log has only {}", entries.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<ConsensusVote>> {
        Ok(self.log.log_state().vote.as_ref().map(consensus_vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.whole(start..end, REPLICATION_BYTES_MAX).await
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: <TypeConfig as openraft::RaftTypeConfig>::LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = self.bounds(&range);
        let log = self.clone();
        let unfolded = futures_util::stream::unfold((log, range), move |(log, mut range)| async move {
            if range.is_empty() {
                return None;
            }
            let chunk = log.whole(range.clone(), REPLICATION_BYTES_MAX).await;
            // The vote is looked at after the read: what was read before it changed is still ours.
            let vote = log.log_state_vote();
            let ours = vote.is_some_and(|vote| vote.committed && vote.leader_id == leader);
            let items = match chunk {
                _ if !ours => {
                    range.start = range.end;
                    vec![Err(LeaderChanged::new(leader, vote).into())]
                }
                Ok(entries) if entries.is_empty() => {
                    range.start = range.end;
                    vec![Err(io::Error::other("the log lacks entries that it had").into())]
                }
                Ok(entries) => {
                    range.start += entries.len() as u64;
                    entries.into_iter().map(Ok).collect()
                }
                Err(error) => {
                    range.start = range.end;
                    vec![Err(error.into())]
                }
            };
            Some((futures_util::stream::iter(items), (log, range)))
        });
        unfolded.flatten().boxed()
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = self.bounds(&range);
        let log = self.clone();
        futures_util::stream::unfold((log, range), |(log, mut range)| async move {
            let index = range.next()?;
            let entry = match log.head(LogIndex(index)).await {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => Err(io::Error::other(format!("the committed entry {index} is not in the log"))),
                Err(error) => Err(error),
            };
            Some((entry, (log, range)))
        })
        .boxed()
    }
}

impl LogStore {
    fn log_state_vote(&self) -> Option<ConsensusVote> {
        self.log.log_state().vote.as_ref().map(consensus_vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.log_state();
        let purged = state.purged.map(consensus_log_id);
        let last = state.last.map(consensus_log_id);
        assert!(last >= purged, "the log ends behind its purge mark");
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &ConsensusVote) -> io::Result<()> {
        self.log.save_vote(stored_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<ConsensusLogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.save_committed(stored_log_id(committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<ConsensusLogId>> {
        let state = self.log.log_state();
        // What was known as committed may have been lost with the tail that was never synced.
        Ok(state.committed.filter(|committed| Some(*committed) <= state.last).map(consensus_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<storage::Entry> = entries.into_iter().map(Entry::into_stored).collect();
        self.log.append(entries, Box::new(move |result| callback.io_completed(result))).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last_log_id: Option<ConsensusLogId>) -> io::Result<()> {
        self.log.truncate_after(last_log_id.map(stored_log_id)).await
    }

    async fn purge(&mut self, log_id: ConsensusLogId) -> io::Result<()> {
        self.log.purge(stored_log_id(log_id)).await
    }
}
