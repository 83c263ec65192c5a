//! Says which shards there are and which nodes vote in them.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::ShardRecord;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutShards {
    pub shards: Vec<ShardRecord>,
}

wire_struct!(PutShards { shards: Vec<ShardRecord> });

impl PutShards {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        for record in self.shards {
            if shard.metadata.shards.get(&record.id) != Some(&record) {
                shard.metadata_change(effects);
                shard.metadata.shards.put(record);
            }
        }
        Ok(Outcome::PutShards)
    }
}
