//! Where partitions are led and where their copies move to. Both belong to the shard: all its partitions go together. One
//! alone moves by going to another shard.

use std::collections::BTreeSet;

use base::time::Duration;
use cluster::{METADATA, PreferLeaderError, RemoveNodeError};
use record::{NodeId, ShardId, TopicId};
use shard::commands::NewMove;
use shard::{MoveStreamError, StreamMove};

pub use cluster::{MovesError, OpenShardError};

use crate::Broker;
use crate::nodes::{ClusterView, Copies};
use crate::topics::PartitionRef;

/// A shard whose copies are not yet where they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Where copies are now or are to be, the latter first.
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

/// Why a partition does not go where it was to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReassignError {
    /// Its copies are on just these nodes, and there is no other shard on them that the first of them leads.
    #[error(
        "the partition is on these brokers, and is led as its shard is: `rosettamq cluster move` names another first"
    )]
    LedByAnother,
    #[error(transparent)]
    NoShard(#[from] OpenShardError),
    #[error(transparent)]
    Refused(#[from] MoveStreamError),
    #[error(transparent)]
    Moves(#[from] MovesError),
}

impl Broker {
    /// How the copies of a shard move, if they do and somebody said who has them now.
    pub fn movement(&self, view: &ClusterView, shard: ShardId) -> Option<Movement> {
        let copies = view.copies(shard)?;
        movement(copies, &copies.voters.iter().copied().collect())
    }

    /// How the partitions move that are on their way to another shard: topic, index and movement. Those whose copies are on
    /// the same nodes there do not.
    pub fn moving_partitions(&self, view: &ClusterView) -> Vec<(TopicId, i32, Movement)> {
        let moves = self.cluster().metadata().stream_moves();
        let said = |moving: &StreamMove| {
            let from: BTreeSet<NodeId> = view.copies(moving.from)?.wanted.iter().copied().collect();
            let movement = movement(view.copies(moving.to)?, &from)?;
            Some((moving.topic, i32::try_from(moving.partition).ok()?, movement))
        };
        moves.iter().filter_map(said).collect()
    }

    /// Moves one partition to a shard whose copies are on just these nodes, and which the first of them is to lead; without any, one
    /// is made. Where there are as many shards as there can be it is one that another of them leads. For another leader only
    /// none is made. A move to another place that is under way is given up before. Returns when that is begun, and at once when
    /// the partition is there, or on its way.
    ///
    /// # Errors
    /// When no such shard can be made, or not within `wait_max`, or there is none that the first of the nodes it is on leads, a
    /// move that is under way cannot be given up any more, or the metadata group cannot be reached.
    pub async fn reassign(
        &self,
        partition: &PartitionRef,
        nodes: &[NodeId],
        wait_max: Duration,
    ) -> Result<(), ReassignError> {
        let view = self.nodes();
        let wanted: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let is_wanted = |copies: &Copies| copies.wanted.iter().copied().collect::<BTreeSet<_>>() == wanted;
        let topic = partition.topic().id;
        let index = u32::try_from(partition.index()).expect("indexes count from 0");
        let moving = self.cluster().metadata().stream_move(topic, index);
        if let Some(moving) = &moving {
            if view.copies(moving.to).is_some_and(is_wanted) {
                return Ok(());
            }
            self.keep(partition).await?;
        }
        let led_by_another = |copies: &Copies| copies.wanted.first() != nodes.first();
        let here = view.copies(partition.partition().shard()).filter(|copies| is_wanted(copies));
        // A move that was given up for where the partition is leaves it as it was.
        if here.is_some_and(|copies| moving.is_some() || !led_by_another(copies)) {
            return Ok(());
        }
        let was_on = |shard: ShardId| {
            let partition = partition.partition();
            partition.shard() == shard || partition.earlier().iter().any(|range| range.shard() == shard)
        };
        let is_used = |shard: ShardId| self.cluster().metadata().founder(shard).is_none();
        let fits = |(shard, copies): &(ShardId, &Copies)| {
            *shard != METADATA && !was_on(*shard) && is_wanted(copies) && is_used(*shard)
        };
        let fitting = view.shards().filter(fits).min_by_key(|(_, copies)| led_by_another(copies));
        let to = match fitting {
            Some((to, copies)) if !led_by_another(copies) => to,
            // Where it is on these nodes already, only who leads is to change.
            _ if here.is_some() => return Err(ReassignError::LedByAnother),
            _ => match self.cluster().open_shard(nodes, wait_max).await {
                Ok(to) => to,
                Err(error @ OpenShardError::TooMany) => fitting.ok_or(error)?.0,
                Err(error) => return Err(error.into()),
            },
        };
        let begun = self.cluster().move_streams(vec![NewMove { topic, partition: index, to }]).await?;
        begun.into_iter().next().expect("one answer for each")?;
        Ok(())
    }

    /// Returns when this node knows what was decided before the call, or after some seconds: a change that is said to be
    /// there already must not have been undone by another node's word.
    pub async fn settled(&self) {
        self.cluster().settled().await;
    }

    /// Lets a partition stay where it is that was about to move to another shard.
    ///
    /// # Errors
    /// When it does not move, it is too late, or a shard cannot be reached.
    pub async fn keep(&self, partition: &PartitionRef) -> Result<(), MovesError> {
        let index = u32::try_from(partition.index()).expect("indexes count from 0");
        self.cluster().cancel_move(partition.topic().id, index).await
    }

    /// Whether the first of a shard's copies leads it.
    pub fn is_led_as_preferred(&self, copies: &Copies, shard: ShardId) -> bool {
        let leader = self.cluster().leader(shard);
        leader.is_some() && copies.wanted.first().copied() == leader
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
    let wanted = &wanted.wanted;
    let adding: Vec<NodeId> = wanted.iter().copied().filter(|node| !present.contains(node)).collect();
    let removing: Vec<NodeId> = present.iter().copied().filter(|node| !wanted.contains(node)).collect();
    if present.is_empty() || (adding.is_empty() && removing.is_empty()) {
        return None;
    }
    let replicas = wanted.iter().chain(&removing).copied().collect();
    Some(Movement { replicas, adding, removing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[u64], present: &[u64], expected: Option<[&[u64]; 3]>) {
        let ids = |nodes: &[u64]| -> Vec<NodeId> { nodes.iter().copied().map(NodeId).collect() };
        let wanted = Copies { wanted: ids(wanted), ..Copies::default() };
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
