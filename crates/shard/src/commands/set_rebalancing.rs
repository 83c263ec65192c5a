//! Whether streams are moved to other shards without being asked: they are, until this says otherwise.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::RebalancingStopped;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRebalancing {
    pub on: bool,
}

wire_struct!(SetRebalancing { on: bool });

impl SetRebalancing {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let stopped = &mut shard.metadata.rebalancing_stopped;
        let is_on = stopped.len() == 0;
        if is_on != self.on {
            if self.on {
                stopped.remove(&RebalancingStopped::KEY);
            } else {
                stopped.put(RebalancingStopped {});
            }
            shard.metadata_change(effects);
        }
        Ok(Outcome::SetRebalancing)
    }
}
