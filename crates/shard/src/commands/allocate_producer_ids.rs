//! Gives out a block of producer ids that nobody ever had.

use record::ProducerId;

use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::{Outcome, ProducerIdBlock, ProducerIdsExhausted};
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateProducerIds {
    /// At least one is given.
    pub count: u32,
}

wire_struct!(AllocateProducerIds { count: u32 });

impl AllocateProducerIds {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, _: &mut Effects) -> Result<Outcome, Broken> {
        let first = shard.scalars.next_producer;
        ensure!(first >= 0, "the next producer id is {first}");
        let count = self.count.max(1);
        Ok(Outcome::AllocateProducerIds(match first.checked_add(i64::from(count)) {
            Some(next) => {
                shard.scalars.next_producer = next;
                Ok(ProducerIdBlock { first: ProducerId(first), count })
            }
            None => Err(ProducerIdsExhausted),
        }))
    }
}
