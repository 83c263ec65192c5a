//! Where partitions are led and where their copies move to. Both belong to the shard: all its partitions go together.

use std::collections::BTreeSet;

use cluster::{PreferLeaderError, RemoveNodeError};
use record::{NodeId, ShardId};

use crate::Broker;
use crate::nodes::{ClusterView, Copies};

/// A shard whose copies are not yet where they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Where copies are now or are to be, the latter first.
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

impl Broker {
    /// How the copies of a shard move, if they do and this node has one of them.
    pub fn movement(&self, view: &ClusterView, shard: ShardId) -> Option<Movement> {
        let members = self.cluster().replica(shard)?.members();
        // While the voters change, those before and those after decide: what is left of both is still there.
        let present = members.voters.into_iter().flatten().collect();
        movement(view.copies(shard)?, &present)
    }

    /// Whether the first of a shard's copies leads it.
    pub fn is_led_as_preferred(&self, copies: &Copies, shard: ShardId) -> bool {
        let leader = self.cluster().leader(shard);
        leader.is_some() && copies.replicas.first().copied() == leader
    }

    /// Whether anybody leads a shard, as far as this node knows.
    pub fn is_led(&self, shard: ShardId) -> bool {
        self.cluster().leader(shard).is_some()
    }

    /// Makes the node of the first copy the leader of the shard.
    pub async fn prefer_leader(&self, shard: ShardId) -> Result<(), PreferLeaderError> {
        self.cluster().prefer_leader(shard).await
    }

    /// Lets go of a node that does not come back.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), RemoveNodeError> {
        self.cluster().remove_node(node).await?;
        self.cluster().settled().await;
        Ok(())
    }
}

fn movement(wanted: &Copies, present: &BTreeSet<NodeId>) -> Option<Movement> {
    let adding: Vec<NodeId> = wanted.replicas.iter().copied().filter(|node| !present.contains(node)).collect();
    let removing: Vec<NodeId> = present.iter().copied().filter(|node| !wanted.replicas.contains(node)).collect();
    if present.is_empty() || (adding.is_empty() && removing.is_empty()) {
        return None;
    }
    let replicas = wanted.replicas.iter().chain(&removing).copied().collect();
    Some(Movement { replicas, adding, removing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[u64], present: &[u64], expected: Option<[&[u64]; 3]>) {
        let ids = |nodes: &[u64]| -> Vec<NodeId> { nodes.iter().copied().map(NodeId).collect() };
        let wanted = Copies { replicas: ids(wanted), ..Copies::default() };
        let expected = expected.map(|[replicas, adding, removing]| Movement {
            replicas: ids(replicas),
            adding: ids(adding),
            removing: ids(removing),
        });
        assert_eq!(movement(&wanted, &ids(present).into_iter().collect()), expected);
    }

    #[test]
    fn copies_move_until_those_that_vote_are_those_that_are_wanted() {
        check(&[3, 1, 2], &[1, 2, 3], None);
        check(&[3, 1, 2], &[1], Some([&[3, 1, 2], &[3, 2], &[]]));
        check(&[2, 3], &[1, 2], Some([&[2, 3, 1], &[3], &[1]]));
        check(&[2], &[1, 2], Some([&[2, 1], &[], &[1]]));
        check(&[1, 2], &[], None);
    }
}
