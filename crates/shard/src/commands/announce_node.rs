//! Says where a node of the cluster is reached; again at every start. Unlike [`super::RegisterNode`] it makes no node
//! that the cluster does not have.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::NodeRecord;
use crate::outcome::{AnnounceNodeError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceNode {
    pub node: NodeRecord,
}

wire_struct!(AnnounceNode { node: NodeRecord });

impl AnnounceNode {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let result = match shard.metadata.nodes.get(&self.node.id) {
            None => Err(AnnounceNodeError::Unknown),
            Some(known) if known.start_number > self.node.start_number => {
                Err(AnnounceNodeError::Stale { current: known.start_number })
            }
            Some(known) => {
                if *known != self.node {
                    shard.metadata_change(effects);
                    shard.metadata.nodes.put(self.node);
                }
                Ok(())
            }
        };
        Ok(Outcome::AnnounceNode(result))
    }
}
