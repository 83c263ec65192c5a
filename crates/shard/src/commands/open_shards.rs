//! Adds shards, each of which one node founds: alone at first, others are taken in later.

use record::{NodeId, ShardId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{ShardFounding, ShardRecord};
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenShards {
    pub shards: Vec<NewShard>,
}

wire_struct!(OpenShards { shards: Vec<NewShard> });

/// A shard that is to be, and who founds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewShard {
    pub id: ShardId,
    pub founder: NodeId,
}

wire_struct!(NewShard { id: ShardId, founder: NodeId });

impl OpenShards {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut opened = 0;
        for NewShard { id, founder } in self.shards {
            if shard.metadata.shards.get(&id).is_some() {
                continue;
            }
            shard.metadata_change(effects);
            shard.metadata.shards.insert(ShardRecord { id, voters: vec![founder] });
            shard.metadata.foundings.put(ShardFounding { id, founder });
            opened += 1;
        }
        Ok(Outcome::OpenShards { opened })
    }
}
