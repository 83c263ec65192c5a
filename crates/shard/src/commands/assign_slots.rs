//! Says on which shards the slots of groups and ids are.

use record::ShardId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::{AssignSlotsError, Outcome};
use crate::shard::{Position, Shard};
use crate::slots::SLOTS;

/// The slots from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    pub first: u16,
    pub last: u16,
    pub shard: ShardId,
}

wire_struct!(SlotRange { first: u16, last: u16, shard: ShardId });

/// All of the ranges or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignSlots {
    pub ranges: Vec<SlotRange>,
}

wire_struct!(AssignSlots { ranges: Vec<SlotRange> });

impl AssignSlots {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::AssignSlots(self.assign(shard, effects)))
    }

    fn assign(&self, shard: &mut Shard, effects: &mut Effects) -> Result<(), AssignSlotsError> {
        if self.ranges.iter().any(|range| range.first > range.last || range.last >= SLOTS) {
            return Err(AssignSlotsError::OutOfRange);
        }
        if self.ranges.iter().any(|range| shard.metadata.shards.get(&range.shard).is_none()) {
            return Err(AssignSlotsError::UnknownShard);
        }
        let mut slots = shard.scalars.slots.clone();
        // Before the first assignment every slot is on the metadata group's own shard.
        slots.resize(usize::from(SLOTS), shard.id);
        for range in &self.ranges {
            slots[usize::from(range.first)..=usize::from(range.last)].fill(range.shard);
        }
        if slots != shard.scalars.slots {
            shard.metadata_change(effects);
            shard.scalars.slots = slots;
        }
        Ok(())
    }
}
