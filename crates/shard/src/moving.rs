//! What the shard that slots leave gives away, piece by piece.

use std::collections::BTreeSet;

use record::{ShardId, TopicId};

use crate::codec::Wire;
use crate::model::{CommittedOffset, MoveCursor, MovedGroup, SlotMove, SlotMoveId};
use crate::shard::Shard;

/// A part of the groups of slots that move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovingPiece {
    pub groups: Vec<MovedGroup>,
    /// Nothing is behind it.
    pub last: bool,
}

/// Bytes of an offset without its metadata.
const OFFSET_BYTES: usize = CommittedOffset::BYTES_MIN;

impl Shard {
    /// The move by which a slot is here, 0 if it never moved; `None` while it is not here, or not all of it.
    #[must_use]
    pub fn slot_tenure(&self, slot: u16) -> Option<SlotMoveId> {
        self.groups.tenure(slot)
    }

    /// What stands behind `after` in slots that are closed by that move here: about `bytes_max`, and at least one
    /// record or offset if there is one. `None` when the slots are not closed by it, or something was dropped.
    #[must_use]
    pub fn moving_piece(
        &self,
        id: SlotMoveId,
        slots: &[u16],
        after: Option<&MoveCursor>,
        bytes_max: usize,
    ) -> Option<MovingPiece> {
        if !self.groups.are_closed(id, slots) {
            return None;
        }
        let mut piece = MovingPiece { groups: Vec::new(), last: false };
        let mut bytes = 0;
        let mut scratch = Vec::new();
        for (group_id, place) in self.groups.of_slots(slots, after.map(|after| after.group_id.as_str())) {
            let Some(group) = self.groups.table.at(place) else { continue };
            let after = after.filter(|after| *after.group_id == *group_id);
            let record = group.record.as_ref().filter(|_| after.is_none());
            scratch.clear();
            if let Some(record) = record {
                record.put(&mut scratch);
            }
            // One record may be larger than all of a piece, and is one of its own then.
            if !piece.groups.is_empty() && bytes + scratch.len() >= bytes_max {
                return Some(piece);
            }
            bytes += scratch.len() + MovedGroup::BYTES_MIN + group_id.len();
            let mut moved = MovedGroup {
                group_id: group_id.to_string(),
                record: record.map(|record| (**record).clone()),
                offsets: Vec::new(),
            };
            for (key, offset) in &group.offsets {
                if after.is_some_and(|after| Some(*key) <= after.offset) {
                    continue;
                }
                if bytes >= bytes_max && !(moved.record.is_none() && moved.offsets.is_empty()) {
                    piece.groups.push(moved);
                    return Some(piece);
                }
                let Some(stored) = self.groups.offsets.at(*offset) else { continue };
                bytes += OFFSET_BYTES + stored.committed.metadata.len();
                moved.offsets.push(stored.committed.clone());
            }
            if moved.record.is_some() || !moved.offsets.is_empty() {
                piece.groups.push(moved);
            }
        }
        piece.last = true;
        Some(piece)
    }

    /// The topics that groups of these slots have committed offsets of.
    #[must_use]
    pub fn committed_topics(&self, slots: &[u16]) -> BTreeSet<TopicId> {
        let groups = self.groups.of_slots(slots, None);
        let groups = groups.into_iter().filter_map(|(_, place)| self.groups.table.at(place));
        groups.flat_map(|group| group.offsets.keys().map(|key| key.topic)).collect()
    }

    // Metadata

    /// The moves of slots that have begun and have not ended, the oldest first.
    #[must_use]
    pub fn slot_moves(&self) -> Vec<&SlotMove> {
        self.metadata.slot_moves.sorted()
    }

    /// The shard of each slot; none before the first assignment.
    #[must_use]
    pub fn slot_shards(&self) -> &[ShardId] {
        &self.scalars.slots
    }
}
