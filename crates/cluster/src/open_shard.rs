//! A shard on nodes of an operator's choice: a partition is where its shard is, so one that is to be on nodes that no shard
//! has in common needs another.

use std::collections::BTreeSet;

use base::time::{Duration, now, timeout};
use record::{NodeId, ShardId};
use replica::ProposeError;
use shard::commands::{NewShard, OpenShards, PutShards};
use shard::{Outcome, ShardRecord};
use thiserror::Error;

use crate::cluster::{Cluster, METADATA};
use crate::config::SHARDS_MAX;
use crate::placement::{look, voters_of};
use crate::topics::unexpected;

/// How often another number is tried when somebody else took the one that was chosen.
const TRIES_MAX: usize = 8;

/// Why there is no shard on these nodes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenShardError {
    /// It would not stay with so many copies.
    #[error("a shard has {copies} copies on the nodes that there are")]
    Copies {
        /// What it would get.
        copies: usize,
    },
    /// It could not get its copy there.
    #[error("node {0} does not answer, or is being emptied")]
    Away(NodeId),
    /// As many as a cluster has.
    #[error("no shard is on just these nodes, and there are {SHARDS_MAX} already, the most that a cluster has")]
    TooMany,
    /// It is on the way.
    #[error("a shard on these nodes is being made, and has not got all its copies yet")]
    NotYet,
    /// The metadata group did not take it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl Cluster {
    /// Makes a shard with copies on just these nodes, the first of which is to lead, or waits for one that is being made there.
    /// Returns when it is in use. Whoever gives up waiting leaves one behind that partitions may come to as to any other.
    ///
    /// # Errors
    /// When there can be none, or it takes longer than `wait_max`.
    pub async fn open_shard(&self, nodes: &[NodeId], wait_max: Duration) -> Result<ShardId, OpenShardError> {
        let mut changed = self.metadata_changed();
        let wanted: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let deadline = now() + wait_max;
        let shard = match self.coming_on(nodes) {
            Some(shard) => shard,
            None => self.begin_shard(nodes).await?,
        };
        let in_use = async {
            while !self.is_in_use_on(shard, &wanted) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // Who waited long and sees it now has it all the same.
        let _late = timeout(deadline.saturating_duration_since(now()), in_use).await;
        if self.is_in_use_on(shard, &wanted) { Ok(shard) } else { Err(OpenShardError::NotYet) }
    }

    /// One that is to be on these nodes, led by the first, and is not in use yet.
    fn coming_on(&self, nodes: &[NodeId]) -> Option<ShardId> {
        let (metadata, wanted) = (self.metadata(), nodes.iter().copied().collect());
        let is_coming = |record: &&ShardRecord| {
            metadata.founder(record.id).is_some() && is_on(record, &wanted) && record.voters.first() == nodes.first()
        };
        metadata.shard_records().into_iter().find(is_coming).map(|record| record.id)
    }

    fn is_in_use_on(&self, shard: ShardId, nodes: &BTreeSet<NodeId>) -> bool {
        let metadata = self.metadata();
        metadata.founder(shard).is_none()
            && metadata.shard_records().into_iter().any(|record| record.id == shard && is_on(record, nodes))
    }

    async fn begin_shard(&self, nodes: &[NodeId]) -> Result<ShardId, OpenShardError> {
        let (homes, shards) = look(&self.inner.node).ok_or(ProposeError::NotLeader { leader: None })?;
        let usable = homes.iter().filter(|home| !home.draining).count();
        let most = shards.iter().filter(|placed| placed.id != METADATA).map(|placed| placed.most).max().unwrap_or(0);
        let copies = voters_of(most, usable, nodes.len());
        if copies != nodes.len() {
            return Err(OpenShardError::Copies { copies });
        }
        let may_hold = |id: &NodeId| homes.iter().any(|home| home.id == *id && home.live && !home.draining);
        if let Some(away) = nodes.iter().find(|id| !may_hold(id)) {
            return Err(OpenShardError::Away(*away));
        }
        if shards.iter().filter(|placed| placed.id != METADATA).count() >= SHARDS_MAX {
            return Err(OpenShardError::TooMany);
        }
        for _ in 0..TRIES_MAX {
            // Those that were given up keep their numbers.
            let last = self.metadata().shard_records().into_iter().map(|record| record.id.0).max().unwrap_or(0);
            let id = ShardId(last + 1);
            let open = OpenShards { shards: vec![NewShard { id, founder: nodes[0] }] };
            match self.decide(open.into()).await? {
                Outcome::OpenShards { opened: 0 } => {}
                Outcome::OpenShards { .. } => {
                    // Before it is begun, so that it gets its copies where they are to stay.
                    let put = PutShards { shards: vec![ShardRecord { id, voters: nodes.to_vec() }] };
                    self.decide(put.into()).await?;
                    tracing::info!(shard = id.0, voters = ?nodes, "a shard was asked for on these nodes");
                    return Ok(id);
                }
                other => return Err(unexpected(&other).into()),
            }
            self.follow_metadata().await;
        }
        Err(OpenShardError::NotYet)
    }
}

fn is_on(record: &ShardRecord, nodes: &BTreeSet<NodeId>) -> bool {
    record.voters.len() == nodes.len() && record.voters.iter().all(|voter| nodes.contains(voter))
}
