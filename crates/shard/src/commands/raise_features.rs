//! Raises the level of features that the cluster uses. From here on every node must know it: one that does not can
//! neither read what follows in the logs nor be let in.

use record::NodeId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::ClusterFeatures;
use crate::outcome::{Outcome, RaiseFeaturesError};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseFeatures {
    pub level: u32,
    /// Who was heard to know it.
    pub nodes: Vec<NodeId>,
}

wire_struct!(RaiseFeatures { level: u32, nodes: Vec<NodeId> });

impl RaiseFeatures {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let before = shard.feature_level();
        if self.level <= before {
            return Ok(Outcome::RaiseFeatures(Ok(before)));
        }
        // One may have been taken in since the proposer looked.
        let unheard = shard.metadata.nodes.iter().map(|(_, node)| node.id).filter(|id| !self.nodes.contains(id)).min();
        if let Some(node) = unheard {
            return Ok(Outcome::RaiseFeatures(Err(RaiseFeaturesError::Unheard { node })));
        }
        shard.metadata_change(effects);
        shard.metadata.features.put(ClusterFeatures { level: self.level });
        Ok(Outcome::RaiseFeatures(Ok(self.level)))
    }
}
