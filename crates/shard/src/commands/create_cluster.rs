//! Gives the cluster its id, once.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateCluster {
    /// Chosen by the proposer at random.
    pub cluster_id: u128,
}

wire_struct!(CreateCluster { cluster_id: u128 });

impl CreateCluster {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let cluster_id = match shard.scalars.cluster_id {
            Some(cluster_id) => cluster_id,
            None => {
                shard.metadata_change(effects);
                shard.scalars.cluster_id = Some(self.cluster_id);
                self.cluster_id
            }
        };
        Ok(Outcome::CreateCluster { cluster_id })
    }
}
