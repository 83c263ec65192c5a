//! Where one stored batch lies, named so that it is the same on every replica: by log index and byte range in that
//! entry's payload, never by file and position.

use std::sync::Arc;

use crate::{LeaderEpoch, LogIndex, ObjectKey, StreamOffset, TimestampMs};

/// A range of bytes in the payload of one log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    pub log_index: LogIndex,
    /// From the start of the entry's payload.
    pub position: u32,
    pub bytes: u32,
}

/// One batch of a stream: its offsets, its largest timestamp and its place.
///
/// A batch that travelled in parts has the extents of all parts but the last in `earlier`; `log_index`, `position`
/// and `bytes` are those of the last one. Everything else has no earlier extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    pub base_offset: StreamOffset,
    pub record_count: u32,
    pub max_timestamp: TimestampMs,
    pub log_index: LogIndex,
    pub position: u32,
    pub bytes: u32,
    pub epoch: LeaderEpoch,
    pub earlier: Option<Arc<[Extent]>>,
    /// The object that the batch is in, if it is not in the log: `log_index` is the number of a block of it then, and there are no
    /// earlier extents.
    pub object: Option<ObjectKey>,
}

impl BatchEntry {
    /// The offset behind the batch's last record.
    #[must_use]
    pub fn next_offset(&self) -> StreamOffset {
        StreamOffset(self.base_offset.0 + i64::from(self.record_count))
    }

    /// The offset of the batch's last record.
    #[must_use]
    pub fn last_offset(&self) -> StreamOffset {
        StreamOffset(self.next_offset().0 - 1)
    }

    /// Bytes of the whole batch, all parts together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let earlier: u64 = self.earlier_extents().iter().map(|extent| u64::from(extent.bytes)).sum();
        earlier + u64::from(self.bytes)
    }

    /// The parts before the last one; empty for a batch in one piece.
    #[must_use]
    pub fn earlier_extents(&self) -> &[Extent] {
        self.earlier.as_deref().unwrap_or(&[])
    }

    /// The last, and almost always only, extent.
    #[must_use]
    pub const fn last_extent(&self) -> Extent {
        Extent { log_index: self.log_index, position: self.position, bytes: self.bytes }
    }

    /// All extents in the order of the batch's bytes.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        self.earlier_extents().iter().copied().chain(std::iter::once(self.last_extent()))
    }
}
