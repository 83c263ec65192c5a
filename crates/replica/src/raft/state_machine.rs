//! The replica's state machine, for the consensus library.
//!
//! The library decides when an entry is committed; what it does stands in [`crate::apply`]. The
//! library's snapshots are our checkpoints: they are written by [`crate::checkpoint`] in its own
//! time, and the builder here only names the last durable one, so that the log before it may go.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{OptionalSend, SnapshotMeta};

use super::types::{
    Answers, CommittedLeaderId, ConsensusLogId, EntryPayload, StoredMembership, TypeConfig, consensus_log_id,
    stored_log_id,
};
use crate::core::{Core, DurableCheckpoint};

/// A durable checkpoint, by name only: a member that lacks the log before it fetches it, and all
/// that it refers to, before it takes part.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CheckpointImage;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, CheckpointImage>;

/// The state machine as the library's worker owns it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    core: Arc<Core>,
}

impl StateMachine {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// Names the last durable checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    core: Arc<Core>,
}

impl Checkpoints {
    fn last(&self) -> Option<Snapshot> {
        let DurableCheckpoint { id, membership, .. } = self.core.durable_checkpoint()?;
        let meta = SnapshotMeta { last_log_id: Some(consensus_log_id(id)), last_membership: membership };
        Some(Snapshot { meta, snapshot: CheckpointImage })
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Checkpoints {
    type SnapshotData = CheckpointImage;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.last().ok_or_else(|| io::Error::other("no checkpoint is durable yet"))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = CheckpointImage;
    type SnapshotBuilder = Checkpoints;

    async fn applied_state(&mut self) -> io::Result<(Option<ConsensusLogId>, StoredMembership)> {
        let (applied, membership) = self.core.applied_state();
        Ok((applied.map(consensus_log_id), membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = stored_log_id(entry.log_id);
            let outcomes = match entry.payload {
                EntryPayload::Blank => self.core.apply_blank(id),
                EntryPayload::Membership(membership) => {
                    self.core.apply_membership(id, StoredMembership::new(Some(entry.log_id), membership))
                }
                EntryPayload::Commands(commands) => self.core.apply_commands(id, &commands.0),
            };
            // An error ends this group's consensus on this node: the shard is out of service.
            let outcomes = outcomes.map_err(io::Error::other)?;
            if let Some(responder) = responder {
                responder.send(Answers(outcomes));
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Checkpoints> {
        let builder = Checkpoints { core: Arc::clone(&self.core) };
        (force || builder.last().is_some()).then_some(builder)
    }

    async fn get_snapshot_builder(&mut self) -> Checkpoints {
        Checkpoints { core: Arc::clone(&self.core) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<CommittedLeaderId, u64, openraft::EmptyNode>,
        snapshot: CheckpointImage,
    ) -> io::Result<()> {
        // Nobody sends one: what a member lacks it pulls before it takes part.
        let CheckpointImage = snapshot;
        let text = format!("a checkpoint was sent at {:?}, where it has to be pulled", meta.last_log_id);
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshot = self.core.snapshot().map(|(last_log_id, last_membership)| {
            let meta = SnapshotMeta { last_log_id: Some(last_log_id), last_membership };
            Snapshot { meta, snapshot: CheckpointImage }
        });
        Ok(snapshot)
    }
}
