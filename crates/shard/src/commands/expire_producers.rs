//! Forgets the producers that were silent for longer than the settings allow, by the shard's time.

use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireProducers {
    /// At most so many, the longest silent first, so that no entry takes long to apply.
    pub count_max: u32,
}

wire_struct!(ExpireProducers { count_max: u32 });

impl ExpireProducers {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, _: &mut Effects) -> Result<Outcome, Broken> {
        let expiry_ms = shard.scalars.settings.producer_expiry_ms;
        let mut expired = 0;
        while expired < self.count_max
            && let Some((slot, stream, used)) = shard.producers.oldest()
            && shard.scalars.time.0.saturating_sub(used.0) >= expiry_ms
        {
            let before = shard.producers.table.len();
            shard.forget_producer(slot, stream);
            ensure!(shard.producers.table.len() + 1 == before, "a producer of stream {stream} cannot be forgotten");
            expired += 1;
        }
        Ok(Outcome::ExpireProducers { expired })
    }
}
