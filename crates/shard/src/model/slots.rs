//! Slots on their way from one shard to another, as the metadata group knows them, and what travels.

use record::ShardId;

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::model::{CommittedOffset, GroupRecord, OffsetKey};

/// Slots that one move takes along at most: what is closed at a time stays few.
pub const SLOTS_PER_MOVE_MAX: usize = 32;

/// Names a move of slots. A later move has a larger one, and none has 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotMoveId(pub u64);

impl Wire for SlotMoveId {
    const BYTES_MIN: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(Self)
    }
}

/// A move that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMove {
    pub id: SlotMoveId,
    /// Ascending, each once.
    pub slots: Vec<u16>,
    pub from: ShardId,
    pub to: ShardId,
    /// The slots are the target's by now; what the source still has of them is to be dropped.
    pub switched: bool,
}

wire_struct!(SlotMove { id: SlotMoveId, slots: Vec<u16>, from: ShardId, to: ShardId, switched: bool });

/// Which part of a move's groups has come: everything up to here, in the order of group ids; of a group first its
/// record, then its offsets by topic and partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoveCursor {
    pub group_id: String,
    /// Of the group's record before its first offset.
    pub offset: Option<OffsetKey>,
}

wire_struct!(MoveCursor { group_id: String, offset: Option<OffsetKey> });

/// A group on its way, or a part of one whose offsets are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedGroup {
    pub group_id: String,
    /// None in later parts, and of a group that has none.
    pub record: Option<GroupRecord>,
    /// Ascending by topic and partition.
    pub offsets: Vec<CommittedOffset>,
}

wire_struct!(MovedGroup { group_id: String, record: Option<GroupRecord>, offsets: Vec<CommittedOffset> });

impl MovedGroup {
    /// Behind the last that is in it.
    #[must_use]
    pub fn end(&self) -> MoveCursor {
        MoveCursor { group_id: self.group_id.clone(), offset: self.offsets.last().map(CommittedOffset::key) }
    }
}
