//! Begins to move slots to another shard: notes what is to be done. The slots stay where they are until
//! [`CompleteSlots`](super::CompleteSlots) says that everything of them is there.

use record::ShardId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{SlotMove, SlotMoveId};
use crate::outcome::{MoveSlotsError, Outcome};
use crate::shard::{Position, Shard};
use crate::tenures::are_slots;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveSlots {
    /// Ascending, each once, at most [`SLOTS_PER_MOVE_MAX`](crate::SLOTS_PER_MOVE_MAX).
    pub slots: Vec<u16>,
    /// Where all of them are.
    pub from: ShardId,
    pub to: ShardId,
}

wire_struct!(MoveSlots { slots: Vec<u16>, from: ShardId, to: ShardId });

impl MoveSlots {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        if let Err(error) = self.allowed(shard) {
            return Ok(Outcome::MoveSlots(Err(error)));
        }
        let id = SlotMoveId(shard.metadata_change(effects));
        let Self { slots, from, to } = self;
        shard.metadata.slot_moves.insert(SlotMove { id, slots, from, to, switched: false });
        Ok(Outcome::MoveSlots(Ok(id)))
    }

    fn allowed(&self, shard: &Shard) -> Result<(), MoveSlotsError> {
        if !are_slots(&self.slots) {
            return Err(MoveSlotsError::OutOfRange);
        }
        let is_known = |id| shard.metadata.shards.get(id).is_some() && shard.metadata.foundings.get(id).is_none();
        if !is_known(&self.to) {
            return Err(MoveSlotsError::UnknownShard);
        }
        let is_there = |slot: &u16| shard.scalars.slots.get(usize::from(*slot)) == Some(&self.from);
        if self.from == self.to || !self.slots.iter().all(is_there) {
            return Err(MoveSlotsError::NotThere);
        }
        let moves = |slot: &u16| shard.metadata.slot_moves.iter().any(|(_, known)| known.slots.contains(slot));
        if self.slots.iter().any(moves) { Err(MoveSlotsError::Moving) } else { Ok(()) }
    }
}
