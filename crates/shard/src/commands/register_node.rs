//! Makes a node, and where clients reach it, known to the cluster; again at every start.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::NodeRecord;
use crate::outcome::{Outcome, RegisterNodeError};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterNode {
    pub node: NodeRecord,
}

wire_struct!(RegisterNode { node: NodeRecord });

impl RegisterNode {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let known = shard.metadata.nodes.get(&self.node.id);
        if let Some(current) = known.map(|node| node.start_number).filter(|current| *current > self.node.start_number) {
            return Ok(Outcome::RegisterNode(Err(RegisterNodeError::Stale { current })));
        }
        if known != Some(&self.node) {
            shard.metadata_change(effects);
            shard.metadata.nodes.put(self.node);
        }
        Ok(Outcome::RegisterNode(Ok(())))
    }
}
