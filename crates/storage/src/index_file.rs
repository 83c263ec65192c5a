//! Sealed indexes (signatures).
#![allow(unused_variables, clippy::todo, clippy::allow_attributes, clippy::allow_attributes_without_reason, clippy::unused_async)]

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use base::disk::Disk;
use record::{BatchEntry, FileNumber, LogIndex, StreamId, StreamOffset, TimestampMs};

/// The sealed indexes of one shard, one file per seal.
#[derive(Debug, Clone)]
pub struct IndexStore {}

/// The batches of one stream in the range that is being sealed.
#[derive(Debug, Clone)]
pub struct SealedStream {
    pub stream: StreamId,
    /// The newest earlier file that has this stream.
    pub previous: Option<FileNumber>,
    /// In order of offsets; not empty.
    pub batches: Vec<BatchEntry>,
}

impl IndexStore {
    /// Opens the indexes in `dir`, made when absent; half-written ones are removed.
    ///
    /// # Errors
    /// When files cannot be read.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path, cache_bytes: usize) -> io::Result<Self> {
        todo!()
    }

    /// Files there are, in order.
    pub fn files(&self) -> Vec<FileNumber> {
        todo!()
    }

    pub fn contains(&self, file: FileNumber) -> bool {
        todo!()
    }

    /// Writes the index of `range`; `streams` sorted by stream. Durable when it returns. A file that
    /// is there already is replaced: sealing the same range gives the same bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn write(&self, file: FileNumber, range: RangeInclusive<LogIndex>, streams: Vec<SealedStream>) -> io::Result<()> {
        todo!()
    }

    /// Removes a file; what points to it ends there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, file: FileNumber) -> io::Result<()> {
        todo!()
    }

    /// Batches of `stream` from the one that holds `offset` (or the first behind it) on, in order,
    /// up to `count_max`, through the files up to and including `newest`. Fewer than `count_max`
    /// only at the end.
    ///
    /// # Errors
    /// `InvalidData` when a file is damaged.
    pub async fn batches(&self, newest: FileNumber, stream: StreamId, offset: StreamOffset, count_max: usize) -> io::Result<Vec<BatchEntry>> {
        todo!()
    }

    /// The first batch at or behind `from` whose largest timestamp is at least `time`.
    ///
    /// # Errors
    /// `InvalidData` when a file is damaged.
    pub async fn find_by_time(&self, newest: FileNumber, stream: StreamId, from: StreamOffset, time: TimestampMs) -> io::Result<Option<BatchEntry>> {
        todo!()
    }

    /// The first batch at or behind `from` that has the largest timestamp of the sealed stream.
    ///
    /// # Errors
    /// `InvalidData` when a file is damaged.
    pub async fn find_max_time(&self, newest: FileNumber, stream: StreamId, from: StreamOffset) -> io::Result<Option<BatchEntry>> {
        todo!()
    }
}
