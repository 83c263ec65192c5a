//! The sealed ranges of the shard's log, and whether anything in them is still wanted.
//!
//! A range is live while some stream that has data in it exists, or while it holds parts of a large batch whose last
//! part is still to come. The log behind the last seal is always live.

use std::collections::BTreeSet;

use record::{FileNumber, LogIndex, StreamId};

use crate::codec::wire_struct;
use crate::shard::Shard;
use crate::table::Record;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedRange {
    pub(crate) file: FileNumber,
    pub(crate) from: LogIndex,
    pub(crate) through: LogIndex,
    /// Streams that have data in the range.
    pub(crate) streams: u32,
    /// Staged batches that have parts in the range.
    pub(crate) uploads: u32,
    /// Bytes of all bodies that were indexed from the range, a body of several streams counted once for each.
    pub(crate) bytes: u64,
}

wire_struct!(SealedRange {
    file: FileNumber,
    from: LogIndex,
    through: LogIndex,
    streams: u32,
    uploads: u32,
    bytes: u64,
});

impl Record for SealedRange {
    type Key = FileNumber;
    const TABLE: u8 = 3;
    fn key(&self) -> FileNumber {
        self.file
    }
}

impl SealedRange {
    pub(crate) const fn live(&self) -> bool {
        self.streams > 0 || self.uploads > 0
    }
}

/// A sealed range of the log in which something is wanted, and whose place no object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeView {
    pub file: FileNumber,
    pub from: LogIndex,
    pub through: LogIndex,
    /// Bytes of all bodies that were indexed from it, a body of several streams counted once for each.
    pub bytes: u64,
    /// Whether it holds parts of a batch whose last one has not come.
    pub has_staged: bool,
}

/// Some of the streams of which earlier parts of batches lie in ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartsPage {
    pub streams: Vec<StreamId>,
    /// Where the next page begins, if there is one.
    pub next: Option<u32>,
}

impl Shard {
    /// The sealed ranges, in order.
    #[must_use]
    pub fn sealed_ranges(&self) -> Vec<RangeView> {
        let view = |range: &SealedRange| RangeView {
            file: range.file,
            from: range.from,
            through: range.through,
            bytes: range.bytes,
            has_staged: range.uploads > 0,
        };
        let mut ranges: Vec<RangeView> = self.ranges.iter().map(|(_, range)| view(range)).collect();
        ranges.sort_unstable_by_key(|range| range.file);
        ranges
    }

    /// Whether an index file is one of [`Shard::live_files`].
    #[must_use]
    pub fn is_live_file(&self, file: FileNumber) -> bool {
        self.ranges.get(&file).is_some()
    }

    /// The part of the log that a sealed range was, or that the object in its place stands for; none where nothing lives.
    #[must_use]
    pub fn log_of(&self, file: FileNumber) -> Option<(LogIndex, LogIndex)> {
        let object = self.objects.of(file).map(|object| (object.from, object.through));
        object.or_else(|| self.ranges.get(&file).map(|range| (range.from, range.through)))
    }

    /// The numbers from `first` to `last` that streams name, of `count` of all streams, from the place on that the page before told;
    /// and where the next page begins, if there is one.
    #[must_use]
    pub fn names_within(
        &self,
        first: FileNumber,
        last: FileNumber,
        from: u32,
        count: u32,
    ) -> (BTreeSet<FileNumber>, Option<u32>) {
        let to = from.saturating_add(count);
        let streams = (from..to).filter_map(|slot| self.streams.at(slot));
        let named = streams.flat_map(|stream| stream.files.iter_within(first, last));
        (named.collect(), ((to as usize) < self.streams.slots()).then_some(to))
    }

    /// Some of the streams: those at `count` places from `from` on, and where to go on.
    #[must_use]
    pub fn stream_page(&self, from: u32, count: u32) -> (Vec<StreamId>, Option<u32>) {
        let to = from.saturating_add(count);
        let streams = (from..to).filter_map(|slot| self.streams.at(slot)).map(|stream| stream.id);
        (streams.collect(), ((to as usize) < self.streams.slots()).then_some(to))
    }

    /// Streams of which earlier parts of batches lie in the ranges from `first` to `last`: of `count` of all streams, from the
    /// place on that the page before told.
    #[must_use]
    pub fn part_streams(&self, first: FileNumber, last: FileNumber, from: u32, count: u32) -> PartsPage {
        let to = from.saturating_add(count);
        let streams = (from..to).filter_map(|slot| self.streams.at(slot));
        let with_parts =
            streams.filter(|stream| stream.part_files.as_deref().is_some_and(|files| files.has_any(first, last)));
        let streams = with_parts.map(|stream| stream.id).collect();
        PartsPage { streams, next: ((to as usize) < self.streams.slots()).then_some(to) }
    }

    /// The sealed range of the log in which an entry lies; `None` where it is in none that is live.
    #[must_use]
    pub fn range_of(&self, index: LogIndex) -> Option<FileNumber> {
        let holds = |range: &SealedRange| (range.from..=range.through).contains(&index);
        self.ranges.iter().find(|(_, range)| holds(range)).map(|(_, range)| range.file)
    }

    /// Earlier parts of batches that are still to come lie in no range of the log before this one.
    #[must_use]
    pub fn parts_floor(&self) -> FileNumber {
        let staged = self.uploads.iter().flat_map(|(_, upload)| upload.files.iter().copied());
        staged.min().unwrap_or(self.scalars.next_file).min(self.scalars.next_file)
    }
}
