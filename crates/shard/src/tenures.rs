//! Which slots are here: those that ever came to this shard or left it, with the last move that did it. A slot that
//! is not named never moved here or away.
//!
//! ```text
//!            CloseSlots          DropSlots
//!   held ------------------> closed -----> dropped
//!    ^  \___ first tenure        (source)      |
//!    |                                         | ReceiveGroups of a later move
//!    +------------- incoming <-----------------+  (target)
//!     the last piece
//! ```
//! Only what is held changes by what groups do. That a slot is not here stays known for good: whoever follows an old
//! copy of the metadata must find out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::groups::Groups;
use crate::model::{MoveCursor, SLOTS_PER_MOVE_MAX, SlotMoveId};
use crate::slots::{SLOTS, slot_of};
use crate::table::Record;

/// How a shard stands to a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// Its groups are coming; everything up to the cursor has.
    Incoming(Option<MoveCursor>),
    Held,
    /// Nothing of it changes any more here.
    Closed,
    /// Nothing of it is left here.
    Dropped,
}

impl Wire for Tenure {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Incoming(cursor) => {
                out.push(0);
                cursor.put(out);
            }
            Self::Held => out.push(1),
            Self::Closed => out.push(2),
            Self::Dropped => out.push(3),
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Wire::take(input).map(Self::Incoming),
            1 => Ok(Self::Held),
            2 => Ok(Self::Closed),
            3 => Ok(Self::Dropped),
            value => Err(DecodeError::Value { what: "how a slot stands", value: u64::from(value) }),
        }
    }
}

/// One slot and the last move that concerned it here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotTenure {
    pub(crate) slot: u16,
    pub(crate) id: SlotMoveId,
    pub(crate) tenure: Tenure,
}

wire_struct!(SlotTenure { slot: u16, id: SlotMoveId, tenure: Tenure });

impl Record for SlotTenure {
    type Key = u16;
    const TABLE: u8 = 16;
    fn key(&self) -> u16 {
        self.slot
    }
}

/// Whether these can be the slots of one move: some, ascending, each once.
pub(crate) fn are_slots(slots: &[u16]) -> bool {
    (1..=SLOTS_PER_MOVE_MAX).contains(&slots.len())
        && slots.is_sorted_by(|one, two| one < two)
        && slots.last().is_some_and(|last| *last < SLOTS)
}

impl Groups {
    /// The move by which the slot is here, 0 if it never moved; `None` if it is not here.
    pub(crate) fn tenure(&self, slot: u16) -> Option<SlotMoveId> {
        match self.tenures.get(&slot) {
            None => Some(SlotMoveId(0)),
            Some(known) => (known.tenure == Tenure::Held).then_some(known.id),
        }
    }

    /// Whether the group's slot is somewhere else, or on its way here.
    pub(crate) fn is_elsewhere(&self, group_id: &str) -> bool {
        self.tenures.len() > 0 && self.tenure(slot_of(group_id)).is_none()
    }

    /// Whether all of the slots are closed by that move here.
    pub(crate) fn are_closed(&self, id: SlotMoveId, slots: &[u16]) -> bool {
        let closed =
            |slot| self.tenures.get(slot).is_some_and(|known| known.id == id && known.tenure == Tenure::Closed);
        slots.iter().all(closed)
    }

    pub(crate) fn stand(&mut self, id: SlotMoveId, slots: &[u16], tenure: &Tenure) {
        for slot in slots {
            self.tenures.put(SlotTenure { slot: *slot, id, tenure: tenure.clone() });
        }
    }

    /// The groups of these slots that are behind one of that id, in the order of their ids.
    pub(crate) fn of_slots(&self, slots: &[u16], from: Option<&str>) -> Vec<(Arc<str>, u32)> {
        let slots: BTreeSet<u16> = slots.iter().copied().collect();
        let mut found: Vec<(Arc<str>, u32)> = self
            .table
            .iter()
            .filter(|(_, group)| from.is_none_or(|from| &*group.id >= from) && slots.contains(&slot_of(&group.id)))
            .map(|(place, group)| (Arc::clone(&group.id), place))
            .collect();
        found.sort_unstable();
        found
    }
}
