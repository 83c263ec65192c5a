//! The commit log: one per data directory, shared by all shards of the node.
//!
//! ```text
//!  append, vote, truncate, purge ──> queue ──> writer ──> sync thread ──> completions, in order
//!                                               │ one pwritev     one fdatasync for all that
//!                                               │ for all queued  was written meanwhile
//!                                            segments <── keeper: seals, recycles, fills ahead
//! ```
//!
//! What it keeps true:
//! - a completion is called only after its entries and everything queued before them are durable
//! - entries are readable from `append` on: from memory while recent, from the file afterwards
//! - nothing is overwritten while someone holds a [`SegmentPin`] on it
//! - a write or sync that fails ends the log; it is never tried again
//! - after a crash everything that was completed is there or is reported as damage
//!
//! The formats are in `docs/formats/commit-log.md`.

mod chunk;
mod cold;
mod damaged;
mod error;
mod footer;
mod frame;
mod fuzz;
mod group;
mod keeper;
mod log;
mod lost;
mod options;
mod position;
mod read;
mod recovery;
mod request;
mod runs;
mod segment;
mod segment_header;
mod shard_log;
mod shard_state;
mod shared;
mod staging;
mod stalls;
mod sync;
mod synced_file;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use record::{LogIndex, ShardId};

use crate::types::{LogId, Vote};

pub use chunk::{Backing, Chunk, Slice, Slices};
pub use error::{DamagedEntry, Failure, OpenError, Refused};
pub(crate) use frame::FrameKind;
pub use fuzz::fuzz_frames;
pub use log::CommitLog;
pub(crate) use lost::{let_go, read as read_lost};
pub use options::{Covered, Options};
pub(crate) use position::segment_name;
pub use read::Reading;
pub(crate) use recovery::{
    End, Knowledge, Met, ScanEnd, SegmentFile, list, lost_end, missing_files, missing_segments, read_header, replay,
    scan,
};
pub use segment::SegmentPin;
pub use shard_log::ShardLog;
pub(crate) use synced_file::SyncedFile;

/// Called once, when the entries and all before them are durable or when that failed. It runs on a
/// thread of the log: it MUST be short and MUST NOT block. Of the appends of one shard that one
/// group commit made durable, only the last one's is called.
pub type AppendCompletion = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How much room there is: the further down, the less is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    Writable,
    /// The free space is below the reserve: data is not to be proposed. What is in flight is still written.
    Full,
    /// Less than half of the reserve is left: nothing that others have elsewhere is to be taken.
    Scarce,
    /// Less than a quarter is left, or no segment can be made.
    Exhausted,
}

impl DiskState {
    /// Whether data is refused.
    #[must_use]
    pub fn is_full(self) -> bool {
        self >= Self::Full
    }
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
    /// Damage that took entries of this shard, or may have.
    pub damage: Vec<Damage>,
}

/// Counters since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes handed to the device: frames, padding, filling ahead, footers.
    pub bytes_written: u64,
    /// Those of them that were zeros ahead of the writer.
    pub bytes_filled: u64,
    pub payload_bytes: u64,
    pub entries: u64,
    pub writes: u64,
    pub syncs: u64,
    /// Segments that hold entries.
    pub segments: u64,
    pub segments_recycled: u64,
    /// Memory held by recent entries.
    pub memory_bytes: u64,
    pub damaged_reads: u64,
}
