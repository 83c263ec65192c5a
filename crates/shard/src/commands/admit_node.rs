//! Takes a node into the cluster and gives it its id: the same one for the same birth, and one that no node ever had
//! for another.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{NodeAddress, NodeRecord, NodeStanding, Standing};
use crate::outcome::{AdmitNodeError, Outcome};
use crate::shard::{Position, Shard};
use record::NodeId;

/// Nodes that a cluster has at most, those that were removed included: far beyond what one metadata group serves.
const NODES_MAX: u64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitNode {
    /// Chosen at random by the node, before it asks for the first time.
    pub birth: u128,
    pub rack: Option<String>,
    pub addresses: Vec<NodeAddress>,
}

wire_struct!(AdmitNode { birth: u128, rack: Option<String>, addresses: Vec<NodeAddress> });

impl AdmitNode {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        // The node that founded the cluster has the birth 0.
        let mut standings = shard.metadata.standings.iter().map(|(_, standing)| *standing);
        let known = standings.find(|known| known.birth == self.birth && known.birth != 0);
        drop(standings);
        if let Some(NodeStanding { id, standing, .. }) = known {
            let admitted = match standing {
                Standing::Member | Standing::Draining => Ok(id),
                Standing::Removed => Err(AdmitNodeError::Removed),
            };
            return Ok(Outcome::AdmitNode(admitted));
        }
        let id = shard.metadata.last_node().0.checked_add(1).filter(|id| *id <= NODES_MAX).map(NodeId);
        let Some(id) = id else { return Ok(Outcome::AdmitNode(Err(AdmitNodeError::TooManyNodes))) };
        let Self { birth, rack, addresses } = self;
        shard.metadata_change(effects);
        shard.metadata.standings.insert(NodeStanding { id, birth, standing: Standing::Member });
        shard.metadata.nodes.insert(NodeRecord { id, start_number: 0, rack, addresses });
        Ok(Outcome::AdmitNode(Ok(id)))
    }
}
