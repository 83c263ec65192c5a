//! What lies here of shards in which this node has no part any more, because it stopped while it brought one here or removed
//! one.

use std::collections::BTreeSet;

use base::causes::with_causes;
use record::{ShardId, Term};
use replica::InstallParts;

use super::Host;
use crate::cluster::METADATA;
use crate::errors::StartError;

impl Host {
    /// The shards that something is here of, on which no replica may be started as it is.
    pub(super) async fn left_over(&self) -> BTreeSet<ShardId> {
        let mut left_over = BTreeSet::new();
        let shards = self.data_dir.shards().unwrap_or_else(|error| {
            tracing::warn!(%error, "what is left of shards that are elsewhere is not removed");
            Vec::new()
        });
        for shard in shards.into_iter().filter(|shard| *shard != METADATA) {
            match self.is_left_over(shard).await {
                Ok(true) => drop(left_over.insert(shard)),
                Ok(false) => {}
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(shard = shard.0, error, "what may be left here of the shard is not removed");
                }
            }
        }
        left_over
    }

    async fn is_left_over(&self, shard: ShardId) -> Result<bool, StartError> {
        if self.node.shards.replica(shard).is_some() {
            return Ok(false);
        }
        let InstallParts { log, checkpoints, index, marker } = self.parts(shard).await?;
        let state = log.log_state();
        let is_in_log = state.last.is_some() || state.purged.is_some();
        Ok(marker.exists() && (is_in_log || checkpoints.chain().is_some() || !index.files().is_empty()))
    }

    /// Whether a shard's leader says that this node has no part in its group.
    pub(super) fn has_no_part(&self, shard: ShardId) -> bool {
        let me = self.node.id();
        let leader = self.node.leader(shard).filter(|leader| *leader != me);
        let status = leader.and_then(|leader| self.node.statuses.replica(leader, shard));
        let voted = self.log.shard(shard).log_state().vote.map_or(Term(0), |vote| vote.term);
        let Some(status) = status.filter(|status| status.term >= voted) else { return false };
        status.leads.is_some_and(|led| !led.voters.contains(&me) && !led.learners.contains(&me))
    }
}
