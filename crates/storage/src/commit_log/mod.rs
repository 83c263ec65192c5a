//! The commit log (signatures).
#![allow(unused_variables, clippy::todo, clippy::allow_attributes, clippy::allow_attributes_without_reason)]

use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, File};
use bytes::Bytes;
use record::{LogIndex, ShardId};
use tokio::sync::watch;

use crate::types::{Buffers, Entry, EntryMeta, LogId, Vote};

/// Called once, when the entries and all before them are durable or when that failed. Of the appends
/// of one shard that one group commit made durable, only the last one's is called.
pub type AppendCompletion = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Sizes and bounds of a commit log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment file; 4 MiB to 1 GiB.
    pub segment_bytes: u64,
    /// Bound on the entries kept in memory for readers.
    pub memory_bytes: usize,
    /// Free space below which `disk_state` becomes `Full`.
    pub reserve_bytes: u64,
    /// Segments kept ready for writing, zero-filled or recycled.
    pub ready_segments: usize,
    /// Rate of filling ahead; 0 fills nothing.
    pub fill_bytes_per_second: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            memory_bytes: 64 << 20,
            reserve_bytes: 512 << 20,
            ready_segments: 1,
            fill_bytes_per_second: 128 << 20,
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why an append was not taken. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the disk is full")]
    DiskFull,
    #[error("an entry of {bytes} bytes does not fit a segment")]
    TooLarge { bytes: usize },
    #[error("the commit log failed")]
    Failed,
    #[error("the commit log is closed")]
    Closed,
}

/// Whether data may be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    Writable,
    Full,
}

/// A write or sync failed: the log takes nothing any more, and the node must stop.
#[derive(Debug, Clone)]
pub struct Failure {
    pub operation: &'static str,
    pub path: PathBuf,
    pub error: Arc<io::Error>,
}

/// A range of a segment that was durable and is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub position: u64,
    pub bytes: u64,
    /// Entries lost with it, where that can be told.
    pub indexes: Option<RangeInclusive<LogIndex>>,
}

/// Bounds and vote of one shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when the log is empty.
    pub last: Option<LogId>,
    pub vote: Option<Vote>,
    /// Saved lazily: may be behind, never ahead.
    pub committed: Option<LogId>,
}

/// What was found of a shard at start.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub shard: ShardId,
    pub log_state: LogState,
    pub damage: Vec<Damage>,
}

/// Counters since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes handed to the device: frames, padding, filling ahead, footers.
    pub bytes_written: u64,
    pub bytes_filled: u64,
    pub payload_bytes: u64,
    pub entries: u64,
    pub writes: u64,
    pub syncs: u64,
    pub segments: u64,
    pub segments_recycled: u64,
    pub memory_bytes: u64,
    pub damaged_reads: u64,
}

/// The commit log of a node.
#[derive(Debug)]
pub struct CommitLog {}

impl CommitLog {
    /// Opens the log in `dir`, made when absent.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Self, Vec<Recovered>), OpenError> {
        todo!()
    }

    /// The log of one shard; empty when nothing was ever written.
    pub fn shard(&self, shard: ShardId) -> ShardLog {
        todo!()
    }

    pub fn stats(&self) -> Stats {
        todo!()
    }

    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        todo!()
    }

    pub fn disk_state(&self) -> watch::Receiver<DiskState> {
        todo!()
    }

    /// Makes everything queued durable and ends the threads.
    pub async fn close(&self) {
        todo!()
    }
}

/// The log of one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardLog {}

impl ShardLog {
    pub fn shard(&self) -> ShardId {
        todo!()
    }

    pub fn log_state(&self) -> LogState {
        todo!()
    }

    /// Adds entries, which follow the last one without gap. They are readable at once.
    ///
    /// # Errors
    /// Nothing was taken then.
    pub fn append(&self, entries: Vec<Entry>, done: AppendCompletion) -> Result<(), Refused> {
        todo!()
    }

    /// As `append`, but `done` is called for every append.
    ///
    /// # Errors
    /// Nothing was taken then.
    pub fn append_each(&self, entries: Vec<Entry>, done: AppendCompletion) -> Result<(), Refused> {
        todo!()
    }

    /// Returns when the vote and everything before it is durable.
    ///
    /// # Errors
    /// When the log failed.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        todo!()
    }

    /// Removes all entries behind `last`.
    ///
    /// # Errors
    /// When the log failed.
    pub async fn truncate_after(&self, last: Option<LogId>) -> io::Result<()> {
        todo!()
    }

    /// Moves the purge mark. What it passed stays readable as long as `keep` names it.
    ///
    /// # Errors
    /// When the log failed.
    pub async fn purge(&self, through: LogId) -> io::Result<()> {
        todo!()
    }

    /// Remembers what is committed; written with the next group commit or so.
    pub fn save_committed(&self, committed: LogId) {
        todo!()
    }

    /// Says which purged ranges still hold live data. Until the first call all do.
    pub fn keep(&self, live: Vec<RangeInclusive<LogIndex>>) {
        todo!()
    }

    /// An entry that is still in memory.
    pub fn recent(&self, index: LogIndex) -> Option<Entry> {
        todo!()
    }

    /// Entries from `range.start` on, at most `bytes_max` of payload but at least one.
    ///
    /// # Errors
    /// `InvalidData` when an entry is damaged.
    pub async fn entries(&self, range: Range<LogIndex>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        todo!()
    }

    /// What is known of an entry without its payload.
    ///
    /// # Errors
    /// When the index of a sealed segment cannot be read.
    pub async fn meta(&self, index: LogIndex) -> io::Result<Option<EntryMeta>> {
        todo!()
    }

    /// Bytes of an entry's payload, if the entry is in memory.
    pub fn try_read(&self, index: LogIndex, range: Range<u32>) -> Option<Chunk> {
        todo!()
    }

    /// Bytes of an entry's payload, from memory or as a range of a file.
    ///
    /// # Errors
    /// `InvalidData` when the entry is damaged, `NotFound` when the log does not hold it.
    pub async fn read(&self, index: LogIndex, range: Range<u32>) -> io::Result<Chunk> {
        todo!()
    }
}

/// Part of a payload.
#[derive(Debug, Clone)]
pub enum Chunk {
    Memory(Buffers),
    File { file: Arc<dyn File>, position: u64, len: u32, pin: SegmentPin },
}

impl Chunk {
    pub fn len(&self) -> u32 {
        todo!()
    }

    /// All bytes in one buffer.
    ///
    /// # Errors
    /// As reading the file.
    pub async fn into_bytes(self) -> io::Result<Bytes> {
        todo!()
    }
}

/// Keeps a segment from being recycled.
#[derive(Debug, Clone)]
pub struct SegmentPin {}
