//! In a term one node at most leads a shard.

use std::collections::BTreeMap;

use record::{NodeId, ShardId, Term};

use super::{Violation, violation};

#[derive(Debug, Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<(ShardId, Term), NodeId>,
}

impl OneLeader {
    pub(super) fn leads(&mut self, shard: ShardId, term: Term, node: NodeId) -> Result<(), Violation> {
        let known = *self.leaders.entry((shard, term)).or_insert(node);
        if known != node {
            let what = format!("node {node} leads shard {shard} in term {term}, in which node {known} led it");
            return violation("one leader", what);
        }
        Ok(())
    }

    pub(super) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leader_of_a_term_is_told() {
        let mut leaders = OneLeader::default();
        leaders.leads(ShardId(1), Term(3), NodeId(1)).unwrap();
        leaders.leads(ShardId(1), Term(4), NodeId(2)).unwrap();
        leaders.leads(ShardId(2), Term(3), NodeId(2)).unwrap();
        assert!(leaders.leads(ShardId(1), Term(3), NodeId(2)).is_err());
    }
}
