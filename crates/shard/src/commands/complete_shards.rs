//! Says that shards were founded and are in use: from now on nobody founds them again.

use record::ShardId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteShards {
    pub shards: Vec<ShardId>,
}

wire_struct!(CompleteShards { shards: Vec<ShardId> });

impl CompleteShards {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut completed = 0;
        for id in self.shards {
            if shard.metadata.foundings.remove(&id).is_some() {
                shard.metadata_change(effects);
                completed += 1;
            }
        }
        Ok(Outcome::CompleteShards { completed })
    }
}
