//! Says that slots are on the shard that they move to: whoever reads the metadata from now on finds them there. Said
//! again when the shard that they came from has dropped them, it ends the move.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::SlotMoveId;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompleteSlots {
    pub id: SlotMoveId,
    /// Nothing of the slots is left on the shard that they came from.
    pub dropped: bool,
}

wire_struct!(CompleteSlots { id: SlotMoveId, dropped: bool });

impl CompleteSlots {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let Some((switched, slots, to)) =
            shard.metadata.slot_moves.get(&self.id).map(|known| (known.switched, known.slots.clone(), known.to))
        else {
            return Ok(Outcome::CompleteSlots { completed: false });
        };
        // The slots are never without a shard that has all of them: the switch comes first.
        if switched != self.dropped {
            return Ok(Outcome::CompleteSlots { completed: false });
        }
        shard.metadata_change(effects);
        if self.dropped {
            shard.metadata.slot_moves.remove(&self.id);
            return Ok(Outcome::CompleteSlots { completed: true });
        }
        for slot in slots {
            if let Some(place) = shard.scalars.slots.get_mut(usize::from(slot)) {
                *place = to;
            }
        }
        if let Some(known) =
            shard.metadata.slot_moves.slot(&self.id).and_then(|place| shard.metadata.slot_moves.change(place))
        {
            known.switched = true;
        }
        Ok(Outcome::CompleteSlots { completed: true })
    }
}
