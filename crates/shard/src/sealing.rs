//! The index of a sealed range on its way into a file: everything that was appended in a range of the shard's log, by
//! stream and offset. It is the same on every replica, so that the files are.

use record::{BatchEntry, FileNumber, LogIndex, StreamId, TimestampMs};

use crate::batches::BatchList;

/// One sealed range. State answers from it until the file is durable.
#[derive(Debug)]
pub struct SealedIndex {
    pub file: FileNumber,
    /// The first index that the range covers.
    pub from: LogIndex,
    /// The last index that the range covers.
    pub through: LogIndex,
    /// Ordered by stream.
    pub(crate) streams: Vec<SealedStream>,
}

impl SealedIndex {
    /// The streams that have batches in the range, in order.
    #[must_use]
    pub fn streams(&self) -> &[SealedStream] {
        &self.streams
    }

    /// All batches of the range.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.streams.iter().map(SealedStream::len).sum()
    }

    pub(crate) fn stream(&self, stream: StreamId) -> Option<&SealedStream> {
        let place = self.streams.binary_search_by_key(&stream, |sealed| sealed.stream).ok()?;
        self.streams.get(place)
    }
}

/// What one stream has in a sealed range; at least one batch.
#[derive(Debug)]
pub struct SealedStream {
    pub stream: StreamId,
    /// The newest earlier file that has the stream.
    pub previous: Option<FileNumber>,
    /// How many earlier files have the stream.
    pub files_before: u32,
    /// The largest timestamp in all earlier files; -1 if there is none.
    pub max_timestamp_before: TimestampMs,
    pub(crate) list: Box<BatchList>,
}

impl SealedStream {
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The batches in the order of their offsets.
    pub fn batches(&self) -> impl Iterator<Item = BatchEntry> + '_ {
        self.list.iter()
    }
}
