//! Replicas that have applied the same entries have the same state.

use std::collections::BTreeMap;

use record::{LogIndex, NodeId, ShardId};

use super::{Violation, violation};

/// So many entries are remembered of a shard.
const REMEMBERED: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct SameState {
    shards: BTreeMap<ShardId, BTreeMap<LogIndex, (u64, NodeId)>>,
    compared: u64,
}

impl SameState {
    pub(super) fn is(&mut self, shard: ShardId, applied: LogIndex, digest: u64, node: NodeId) -> Result<(), Violation> {
        let states = self.shards.entry(shard).or_default();
        let (known, first) = *states.entry(applied).or_insert((digest, node));
        if known != digest {
            let what = format!("at entry {applied} of shard {shard} the states of the nodes {first} and {node} differ");
            return violation("same state", what);
        }
        self.compared += u64::from(first != node);
        if states.len() > REMEMBERED {
            states.pop_first();
        }
        Ok(())
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_at_the_same_entry_is_told() {
        let mut states = SameState::default();
        states.is(ShardId(1), LogIndex(3), 7, NodeId(1)).unwrap();
        states.is(ShardId(1), LogIndex(3), 7, NodeId(2)).unwrap();
        states.is(ShardId(1), LogIndex(4), 8, NodeId(2)).unwrap();
        assert!(states.is(ShardId(1), LogIndex(4), 9, NodeId(1)).is_err());
        assert_eq!(states.compared(), 1);
    }
}
