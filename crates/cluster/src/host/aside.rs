//! Copies that are damaged here while others have them: set aside, until they are brought here anew.

use std::io;

use base::time::{Duration, sleep, timeout};
use record::{LogIndex, ShardId, Term};
use replica::{InstallParts, Replica, set_aside};
use shard::ShardRecord;

use super::keeping::patiently;
use super::{Host, ROUND_PAUSE};
use crate::errors::StartError;
use crate::members::successors;
use crate::messages::{Phase, ReplicaStatus};

/// How long a leader whose log is damaged waits for the next one.
const HAND_OVER_WAIT_MAX: Duration = Duration::from_secs(2);

impl Host {
    /// Whether other members have what cannot be started from here. Where a checkpoint cannot be read the metadata says whether
    /// there are any.
    pub(super) fn others_have(&self, shard: ShardId, error: &replica::StartError) -> bool {
        use replica::StartError::{Checkpoint, Gap, Restore, SetAside};
        let is_damaged = match error {
            SetAside { .. } => return true,
            Restore { .. } | Gap { .. } => true,
            Checkpoint { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            _ => false,
        };
        let (Some(metadata), me) = (self.node.metadata(), self.node.id()) else { return false };
        let others = |record: &ShardRecord| record.voters.iter().any(|voter| *voter != me);
        is_damaged && metadata.state().shard_record(shard).is_some_and(others)
    }

    /// Returns when another member leads the group without this one: with the last entry of its log then. A majority has
    /// elected it, so it has all that is committed. One of before what this node voted for may not have.
    pub(super) async fn led_by_another(&self, parts: &InstallParts, shard: ShardId) -> LogIndex {
        let me = self.node.id();
        let voted = parts.log.log_state().vote.map_or(Term(0), |vote| vote.term);
        loop {
            let leader = self.node.leader(shard).filter(|leader| *leader != me);
            let status = leader.and_then(|leader| self.node.statuses.replica(leader, shard));
            let leads = |status: &ReplicaStatus| {
                status.phase == Phase::Running && status.leads.is_some() && status.term >= voted
            };
            if let Some(status) = status.filter(leads) {
                return status.last;
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    /// Stops a replica whose log was found to be damaged, when another member leads if that is soon: it is brought here anew.
    pub(super) async fn set_aside(&self, replica: Replica) -> Result<(), StartError> {
        let shard = replica.shard_id();
        tracing::error!(
            shard = shard.0,
            "the shard's log or its index is damaged here: it is set aside, others have what it lacks"
        );
        if replica.is_leader()
            && let Some(successor) = successors(&self.node, &replica).first()
            && replica.transfer_leader(*successor).await.is_ok()
        {
            let mut leadership = replica.leadership();
            let _ = timeout(HAND_OVER_WAIT_MAX, leadership.wait_for(|leadership| !leadership.is_self)).await;
        }
        self.node.shards.take(shard);
        replica.shutdown().await;
        drop(replica);
        // Before it is noted nothing is started on what is damaged.
        let note = || async {
            let parts = self.parts(shard).await?;
            set_aside(&parts).await.map_err(|source| StartError::Files { shard, source })
        };
        patiently(shard, "that the shard is damaged here could not be noted", note).await
    }
}
