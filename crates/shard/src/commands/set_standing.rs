//! Says how a node stands in the cluster: whether it takes part, is to be emptied, or is gone for good. Nothing brings
//! back one that is gone; its id is never given again.

use record::NodeId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{NodeStanding, Standing};
use crate::outcome::{Outcome, SetStandingError};
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetStanding {
    pub node: NodeId,
    pub standing: Standing,
}

wire_struct!(SetStanding { node: NodeId, standing: Standing });

impl SetStanding {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let known = shard.metadata.nodes.get(&self.node).is_some();
        let before = shard.metadata.standings.get(&self.node);
        let birth = before.map_or(0, |before| before.birth);
        let standing = before.map_or(Standing::Member, |before| before.standing);
        let removed = standing == Standing::Removed;
        if removed && self.standing == Standing::Removed {
            return Ok(Outcome::SetStanding(Ok(())));
        }
        if !known || removed {
            return Ok(Outcome::SetStanding(Err(SetStandingError::UnknownNode)));
        }
        let votes = |record: &crate::model::ShardRecord| record.voters.contains(&self.node);
        if self.standing == Standing::Removed && shard.metadata.shards.iter().any(|(_, record)| votes(record)) {
            return Ok(Outcome::SetStanding(Err(SetStandingError::HasReplicas)));
        }
        if standing != self.standing {
            shard.metadata_change(effects);
            shard.metadata.standings.put(NodeStanding { id: self.node, birth, standing: self.standing });
            if self.standing == Standing::Removed {
                shard.metadata.nodes.remove(&self.node);
            }
        }
        Ok(Outcome::SetStanding(Ok(())))
    }
}
