//! The index of a sealed range on its way into a file: everything that was appended in a range of the shard's log, by
//! stream and offset. It is the same on every replica; the links in its file depend on whether what lies before is in files there, or
//! in an object.

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
    /// Streams of which everything in the range was deleted before, ordered too: in no file, but in a checkpoint that is
    /// captured.
    pub(crate) deleted: Vec<SealedStream>,
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
        of_stream(&self.streams, stream)
    }

    /// What the stream had in the range, deleted or not.
    pub(crate) fn all_of(&self, stream: StreamId) -> Option<&BatchList> {
        self.stream(stream).or_else(|| of_stream(&self.deleted, stream)).map(|sealed| &*sealed.list)
    }
}

fn of_stream(streams: &[SealedStream], stream: StreamId) -> Option<&SealedStream> {
    let place = streams.binary_search_by_key(&stream, |sealed| sealed.stream).ok()?;
    streams.get(place)
}

/// What one stream has in a sealed range; at least one batch.
#[derive(Debug)]
pub struct SealedStream {
    pub stream: StreamId,
    /// The newest earlier file that has the stream.
    pub previous: Option<FileNumber>,
    /// The oldest earlier file that has the stream: one that is older is none of its files any more.
    pub oldest: Option<FileNumber>,
    /// A timestamp that is in no earlier file exceeded; -1 if there is none.
    pub max_timestamp_before: TimestampMs,
    /// How many batches at the front were deleted before.
    pub(crate) deleted: usize,
    pub(crate) list: Box<BatchList>,
}

impl SealedStream {
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len() - self.deleted
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches in the order of their offsets.
    pub fn batches(&self) -> impl Iterator<Item = BatchEntry> + '_ {
        self.list.from(self.deleted)
    }
}
