//! Closes slots that move to another shard: from here on nothing of their groups changes on this one, so that all of
//! it can be read piece by piece.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::SlotMoveId;
use crate::outcome::{CloseSlotsError, Outcome};
use crate::shard::{Position, Shard};
use crate::tenures::{Tenure, are_slots};

/// All of the slots or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseSlots {
    pub id: SlotMoveId,
    pub slots: Vec<u16>,
}

wire_struct!(CloseSlots { id: SlotMoveId, slots: Vec<u16> });

impl CloseSlots {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::CloseSlots(self.close(shard, effects)))
    }

    fn close(&self, shard: &mut Shard, effects: &mut Effects) -> Result<(), CloseSlotsError> {
        if !are_slots(&self.slots) || self.id == SlotMoveId(0) {
            return Err(CloseSlotsError::OutOfRange);
        }
        let mut open = Vec::new();
        for slot in &self.slots {
            match shard.groups.tenures.get(slot) {
                None => open.push(*slot),
                Some(known) if known.id > self.id => return Err(CloseSlotsError::Stale { current: known.id }),
                Some(known) if known.id < self.id && known.tenure == Tenure::Held => open.push(*slot),
                // It came before.
                Some(known) if known.id == self.id && matches!(known.tenure, Tenure::Closed | Tenure::Dropped) => {}
                Some(_) => return Err(CloseSlotsError::NotHeld),
            }
        }
        if !open.is_empty() {
            shard.groups.stand(self.id, &open, &Tenure::Closed);
            effects.slots_changed = true;
        }
        Ok(())
    }
}
