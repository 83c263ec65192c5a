//! Removes what a shard still has of slots that have moved away from it, some of it at a time. The shard goes on
//! knowing that the slots are not here.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{OffsetKey, SlotMoveId};
use crate::outcome::{DropSlotsError, Outcome};
use crate::shard::{Position, Shard};
use crate::tenures::{Tenure, are_slots};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropSlots {
    pub id: SlotMoveId,
    pub slots: Vec<u16>,
    /// Groups and offsets that are removed at most, at least one.
    pub count_max: u32,
}

wire_struct!(DropSlots { id: SlotMoveId, slots: Vec<u16>, count_max: u32 });

impl DropSlots {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::DropSlots(self.drop_some(shard, effects)))
    }

    /// Whether something is left.
    fn drop_some(&self, shard: &mut Shard, effects: &mut Effects) -> Result<bool, DropSlotsError> {
        if !are_slots(&self.slots) {
            return Err(DropSlotsError::OutOfRange);
        }
        let mut closed = false;
        for slot in &self.slots {
            match shard.groups.tenures.get(slot) {
                Some(known) if known.id == self.id && known.tenure == Tenure::Closed => closed = true,
                Some(known) if known.id == self.id && known.tenure == Tenure::Dropped => {}
                // They were dropped, and came back since.
                Some(known) if known.id > self.id => return Ok(false),
                Some(_) | None => return Err(DropSlotsError::NotClosed),
            }
        }
        if !closed {
            return Ok(false);
        }
        let mut left = usize::try_from(self.count_max).unwrap_or(usize::MAX).max(1);
        for (group_id, place) in shard.groups.of_slots(&self.slots, None) {
            if left == 0 {
                return Ok(true);
            }
            let Some(group) = shard.groups.table.at(place) else { continue };
            effects.groups.push(group_id);
            // A group without offsets counts as one.
            let taken = group.offsets.len().clamp(1, left);
            let beyond: Option<OffsetKey> = group.offsets.keys().nth(taken).copied();
            left -= taken;
            if beyond.is_none()
                && let Some(group) = shard.groups.table.change(place)
            {
                group.record = None;
            }
            shard.groups.remove_offsets(place, |key| beyond.is_none_or(|beyond| *key < beyond));
            if beyond.is_some() {
                return Ok(true);
            }
        }
        shard.groups.stand(self.id, &self.slots, &Tenure::Dropped);
        Ok(false)
    }
}
