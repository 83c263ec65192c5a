//! Sizes and bounds of a commit log, and what is known of it elsewhere.

use std::path::PathBuf;

use record::ShardId;

use crate::types::LogId;

/// The smallest segment that a log can work with; configuration allows 4 MiB and more.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Sizes and bounds of a commit log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment file: 64 KiB to 1 GiB, a multiple of 4096. An entry takes at most half.
    pub segment_bytes: u64,
    /// Bound on the entries kept in memory for readers, by the length of their payloads. What these are parts of stays
    /// with them: whoever appends bounds how much larger that is.
    pub memory_bytes: usize,
    /// Bound on what is queued and not written yet.
    pub queue_bytes: usize,
    /// Bound on the cached blocks of sealed segments that readers behind the memory use; with less than 2 MiB they read
    /// through the page cache.
    pub read_cache_bytes: usize,
    /// Bound on the cached parts of sealed segments' indexes.
    pub index_cache_bytes: usize,
    /// Free space below which the disk counts as full. With at least four segments each part of it lasts for one.
    pub reserve_bytes: u64,
    /// Segments kept ready for writing: one is made ahead, dead ones are recycled up to so many.
    pub ready_segments: usize,
    /// Rate of writing zeros ahead; 0 writes none.
    pub fill_bytes_per_second: u64,
    /// A number that clients do not know: with it no payload can be made to pass for a frame.
    pub salt: u64,
    /// What the shards' checkpoints cover: a log that ends before that has lost its end.
    pub covered: Vec<Covered>,
}

/// A checkpoint covers the log of its shard up to an entry, which therefore was durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    pub shard: ShardId,
    pub at: LogId,
    pub file: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            memory_bytes: 64 << 20,
            queue_bytes: 256 << 20,
            read_cache_bytes: 32 << 20,
            index_cache_bytes: 4 << 20,
            reserve_bytes: 1 << 30,
            ready_segments: 1,
            fill_bytes_per_second: 128 << 20,
            salt: 0,
            covered: Vec::new(),
        }
    }
}

impl Options {
    pub(crate) fn segment_bytes_are_allowed(&self) -> bool {
        (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) && self.segment_bytes.is_multiple_of(4096)
    }

    /// The largest payload of an entry.
    #[must_use]
    pub fn entry_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX)
    }
}
