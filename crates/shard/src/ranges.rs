//! The sealed ranges of the shard's log, and whether anything in them is still wanted.
//!
//! A range is live while some stream that has data in it exists, or while it holds parts of a large batch whose last
//! part is still to come. The log behind the last seal is always live.

use record::{FileNumber, LogIndex};

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

impl Shard {
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
