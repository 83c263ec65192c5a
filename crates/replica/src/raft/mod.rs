//! The consensus library, and nothing of it outside of this module: the rest of the crate proposes
//! entries, learns who leads and asks for a barrier.

mod answering;
mod grid;
mod log_store;
mod membership;
pub(crate) mod network;
mod runtime;
pub(crate) mod state_machine;
mod trust;
pub(crate) mod types;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, sleep_until, timeout};
use openraft::async_runtime::WatchReceiver;
use openraft::async_runtime::watch::Watch;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::metrics::{Metric, RaftServerMetrics};
use openraft::raft::ClientWriteResult;
use openraft::{ChangeMembers, EmptyNode, Instant, Raft, RaftState, ReadPolicy, ServerState, SnapshotPolicy};
use record::{LogIndex, NodeId, Term};
use storage::{LogId, ShardLog};
use tokio::sync::oneshot;

#[cfg(feature = "fuzzing")]
pub use wire::fuzz_messages;

pub use grid::act_together;

pub(crate) use membership::{decode as decode_membership, encode as encode_membership};

use crate::config::Config;
use crate::core::Core;
use crate::errors::{MembersError, ProposeError, StartError};
use crate::full_disk::FullDisk;
use crate::leadership::Leadership;
use crate::proposer::{Consensus, EntryEnd, Flight, Refusal};
use crate::replication::MemberProgress;
use log_store::LogStore;
use network::{PeerFactory, Transport};
use state_machine::StateMachine;
use types::{
    Callback, Commands, CommittedLeaderId, ConsensusLogId, Runtime, StoredMembership, TypeConfig, consensus_log_id,
};

/// Messages that the library's core may have waiting; ours are few, entries being large.
const API_QUEUE_LENGTH: u64 = 1_024;
/// What the library takes for the pause between heartbeats, which it does not send: it sets how often timers are looked
/// at, which is at 13/64 of it, and how long an answer is waited for. At most this part of the shortest time to an election.
const INTERVAL_SHARE: (u64, u64) = (4, 5);
/// How long is waited until the library knows of a checkpoint; it is told of the next one as well.
const CHECKPOINT_TOLD_MAX: Duration = Duration::from_secs(1);

/// One group's consensus on this node.
#[derive(Clone)]
pub(crate) struct Group {
    raft: Raft<TypeConfig, StateMachine>,
    node: NodeId,
    log: ShardLog,
    random: Arc<dyn Random>,
    full_disk: Arc<FullDisk>,
    /// See [`Config::is_vital`](crate::Config::is_vital).
    is_vital: bool,
    /// How long members leave a leader alone that they heard of.
    pub(crate) lease: Duration,
}

/// What is committed and, on a leader, how far all members are.
#[derive(Debug, Clone)]
pub(crate) struct Replication {
    pub(crate) committed: Option<LogIndex>,
    pub(crate) members: Option<BTreeMap<NodeId, MemberProgress>>,
}

/// What the library says of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) leadership: Leadership,
    /// Why the library stopped, if it did.
    pub(crate) stopped: Option<String>,
    /// Whether this node is the only member, as of the last change in its log.
    pub(crate) alone: bool,
}

impl Group {
    /// Starts the group's tasks; entries known as committed are applied when this returns.
    pub(crate) async fn start(core: &Arc<Core>, transport: Arc<dyn Transport>) -> Result<Self, StartError> {
        let config = &core.config;
        let shard = config.shard;
        let failed = |reason: String| StartError::Consensus { shard, reason };
        let settings = settings(config).map_err(|reason| StartError::Config { shard, reason })?;
        let log = LogStore::new(core.log.clone());
        let network = PeerFactory::new(shard, transport);
        let machine = StateMachine::new(Arc::clone(core));
        let started = Raft::new(config.node.0, Arc::new(settings), network, log, machine);
        let raft =
            Runtime::scope(core.env.random.next_u64(), started).await.map_err(|error| failed(error.to_string()))?;
        raft.runtime_config().heartbeat(false);
        let (log, random, full_disk) = (core.log.clone(), Arc::clone(&core.env.random), Arc::clone(&core.full_disk));
        // The library's lease is as long as its longest timeout.
        let (node, is_vital, lease) = (config.node, config.is_vital, config.election_timeout.1);
        Ok(Self { raft, node, log, random, full_disk, is_vital, lease })
    }

    /// Makes this node the only member of a group that has none yet.
    pub(crate) async fn found_alone(&self) -> Result<(), String> {
        let founded = self.raft.is_initialized().await.map_err(|error| error.to_string())?;
        if !founded {
            let members = BTreeMap::from([(self.node.0, EmptyNode {})]);
            self.raft.initialize(members).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Whether this node is the only member, as of the last change in its log.
    pub(crate) async fn is_alone(&self) -> Result<bool, String> {
        let node = self.node;
        let alone = self.raft.with_raft_state(move |state| is_alone(state.membership_state.effective(), node));
        alone.await.map_err(|error| error.to_string())
    }

    /// Stands for election now instead of after a timeout.
    pub(crate) async fn elect(&self) -> Result<(), String> {
        self.raft.trigger().elect(false).await.map_err(|error| error.to_string())
    }

    /// Stands for election if a majority would have it: not while the lease of whoever leads holds, here or with them.
    pub(crate) async fn stand(&self) -> Result<(), String> {
        self.raft.trigger().elect(true).await.map_err(|error| error.to_string())
    }

    /// How long the lease of the leader that was heard of last still holds here; none when consensus has stopped.
    pub(crate) async fn lease_left(&self) -> Option<Duration> {
        let heard = self.raft.with_raft_state(RaftState::vote_last_modified).await.ok()?;
        Some(heard.map_or(Duration::ZERO, |heard| self.lease.saturating_sub(heard.elapsed())))
    }

    /// Returns when everything that lies in the log and is committed is applied.
    pub(crate) async fn recovered(&self, wait_max: Duration) -> bool {
        self.raft.wait_for_recovery(Some(wait_max)).await.is_ok()
    }

    /// Whether the library looks at its timers, which tell a follower that it hears from nobody.
    pub(crate) fn set_timers(&self, enabled: bool) {
        self.raft.runtime_config().tick(enabled);
    }

    /// Tells the others that this node leads, until consensus stops or nobody waits for it any more.
    pub(crate) async fn beat(self, pause: Duration) {
        while self.raft.trigger().heartbeat().await.is_ok() {
            sleep_until(grid::next(pause)).await;
        }
    }

    pub(crate) fn view(&self) -> View {
        let stopped = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.running_state.as_ref().err().map(ToString::to_string)
        };
        // The same watch whose changes are waited for, so that no change is missed.
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        let leader = server.current_leader.map(NodeId);
        let leadership = Leadership {
            leader,
            term: Term(server.vote.leader_id.term),
            is_self: server.state == ServerState::Leader && leader == Some(self.node),
        };
        let alone = is_alone(&server.membership_config, self.node);
        View { leadership, stopped, alone }
    }

    /// Waits for changes of [`Self::view`] from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes { server: self.raft.server_metrics() }
    }

    /// Proposes one entry apart from all others, only if this node leads in `term`.
    pub(crate) async fn write_alone(&self, term: Term, commands: Commands) -> EntryEnd {
        let (sender, receiver) = oneshot::channel();
        let callback = Callback::new(move |result| {
            let _ = sender.send(entry_end(result));
        });
        let leader = CommittedLeaderId::new(term.0);
        if self.raft.write(commands).responder(callback).with_leader(leader).await.is_err() {
            return EntryEnd::Unknown;
        }
        receiver.await.unwrap_or(EntryEnd::Unknown)
    }

    /// Takes `node` in without a vote, so that it follows. Returns when that is committed.
    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), MembersError> {
        members_end(self.with_chance(self.raft.add_learner(node.0, EmptyNode {}, false)).await)
    }

    /// Lets go of a node that has no vote.
    pub(crate) async fn remove_learner(&self, node: NodeId) -> Result<(), MembersError> {
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        members_end(self.with_chance(self.raft.change_membership(change, true)).await)
    }

    /// Gives the vote to `voters` and to nobody else, by way of a joint configuration. Those that
    /// lose it stay as learners.
    pub(crate) async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembersError> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        let change = ChangeMembers::ReplaceAllVoters(voters);
        members_end(self.with_chance(self.raft.change_membership(change, true)).await)
    }

    /// Asks `node` to lead in place of this one.
    pub(crate) async fn transfer_leader(&self, node: NodeId) -> Result<(), MembersError> {
        let me = self.node;
        let votes = self.raft.with_raft_state(move |state| {
            node != me && state.membership_state.effective().voter_ids().any(|voter| voter == node.0)
        });
        if !votes.await.map_err(|_| MembersError::Stopped)? {
            return Err(MembersError::Refused(format!("node {} has no vote, or leads already", node.0)));
        }
        self.raft.trigger().transfer_leader(node.0).await.map_err(|_| MembersError::Stopped)
    }

    /// Tells the library that the checkpoint at `id` is durable. Whether it knows of it then.
    pub(crate) async fn checkpoint_durable(&self, id: LogId) -> bool {
        let known = Metric::Snapshot(Some(consensus_log_id(id)));
        if self.raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let metrics = self.raft.wait(Some(CHECKPOINT_TOLD_MAX));
        metrics.ge(known, "a durable checkpoint").await.is_ok()
    }

    /// Lets the log go up to `through`, which a checkpoint that the library knows of covers.
    pub(crate) async fn purge(&self, through: LogIndex) {
        // An error means that the library has stopped.
        let _ = self.raft.trigger().purge_log(through.0).await;
    }

    /// What the library says of the log and, on a leader, of the other members.
    pub(crate) fn replication(&self) -> Replication {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.map(|id| LogIndex(id.index));
        let members = metrics.replication.as_ref().filter(|_| metrics.state == ServerState::Leader).map(|members| {
            let heard = metrics.heartbeat.as_ref();
            let progress = |(id, matched): (&u64, &Option<ConsensusLogId>)| {
                let at = heard.and_then(|heard| heard.get(id)).and_then(Option::as_deref);
                (
                    NodeId(*id),
                    MemberProgress { matched: matched.map(|id| LogIndex(id.index)), silence: at.map(Instant::elapsed) },
                )
            };
            members.iter().map(progress).collect()
        });
        Replication { committed, members }
    }

    /// How long ago a leader's last question was asked that a majority answered; none when it decides alone.
    pub(crate) fn majority_silence(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.voter_ids().eq([self.node.0]) {
            return None;
        }
        // Before the first answer the gate is closed for want of the leader's own entry.
        Some(metrics.last_quorum_acked.as_deref().map_or(Duration::ZERO, Instant::elapsed))
    }

    /// Returns when this node is known to lead and has applied all that was committed before.
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
            Err(RaftError::APIError(error)) => {
                let leader = match error {
                    LinearizableReadError::ForwardToLeader(forward) => forward.leader_id.map(NodeId),
                    LinearizableReadError::QuorumNotEnough(_) => None,
                };
                Err(ProposeError::NotLeader { leader })
            }
        }
    }

    /// Runs what may begin tasks of the library's, whose chance is given by the caller's task.
    async fn with_chance<F: Future>(&self, future: F) -> F::Output {
        Runtime::scope(self.random.next_u64(), future).await
    }

    pub(crate) async fn shutdown(&self, wait_max: Duration) {
        match timeout(wait_max, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the group's consensus did not stop cleanly"),
            Err(_) => tracing::error!("the group's consensus does not stop"),
        }
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("node", &self.node).finish_non_exhaustive()
    }
}

type RuntimeWatch = <Runtime as openraft::AsyncRuntime>::Watch;

/// Waits for changes of a group's view.
pub(crate) struct Changes {
    server: <RuntimeWatch as Watch>::Receiver<RaftServerMetrics<TypeConfig>>,
}

impl Changes {
    /// Returns at the next change of leader, term or state; `false` when the library is gone.
    pub(crate) async fn next(&mut self) -> bool {
        self.server.changed().await.is_ok()
    }
}

/// Hands the proposer's entries to the group, as of the term in which its leadership was announced.
#[derive(Debug)]
pub(crate) struct GroupWriter {
    pub(crate) group: Group,
}

impl Consensus for GroupWriter {
    async fn write(&self, term: Term, commands: Commands, flight: Flight) {
        let callback = Callback::new(move |result| flight.end(entry_end(result)));
        let leader = CommittedLeaderId::new(term.0);
        // When the library has stopped it drops the callback, and the flight ends as unknown.
        let _ = self.group.raft.write(commands).responder(callback).with_leader(leader).await;
    }
}

fn entry_end(result: ClientWriteResult<TypeConfig>) -> EntryEnd {
    match result {
        Ok(response) => EntryEnd::Applied(response.data),
        Err(ClientWriteError::ForwardToLeader(forward)) => EntryEnd::Refused(refusal(&forward)),
        Err(ClientWriteError::LogEntryDiscarded(_)) => EntryEnd::Unknown,
        Err(error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_))) => {
            tracing::error!(%error, "an answer that belongs to a change of members");
            EntryEnd::Unknown
        }
    }
}

fn members_end(
    result: Result<
        openraft::raft::ClientWriteResponse<TypeConfig>,
        RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    >,
) -> Result<(), MembersError> {
    match result {
        Ok(_) => Ok(()),
        Err(RaftError::Fatal(_)) => Err(MembersError::Stopped),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Err(MembersError::NotLeader { leader: forward.leader_id.map(NodeId) })
        }
        Err(RaftError::APIError(error)) => Err(MembersError::Refused(error.to_string())),
    }
}

fn refusal(forward: &ForwardToLeader<TypeConfig>) -> Refusal {
    match forward.reason {
        ForwardReason::LeaseExpired => Refusal::LeaseExpired,
        _ => Refusal::NotLeader { leader: forward.leader_id.map(NodeId) },
    }
}

/// The members that a group has as of its state.
pub(crate) fn is_alone(membership: &StoredMembership, node: NodeId) -> bool {
    membership.nodes().map(|(id, _)| *id).eq([node.0]) && membership.voter_ids().eq([node.0])
}

fn settings(config: &Config) -> Result<openraft::Config, String> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let settings = openraft::Config {
        cluster_name: format!("shard {}", config.shard),
        heartbeat_interval: millis(config.election_timeout.0) * INTERVAL_SHARE.0 / INTERVAL_SHARE.1,
        election_timeout_min: millis(config.election_timeout.0),
        election_timeout_max: millis(config.election_timeout.1),
        snapshot_policy: SnapshotPolicy::Never,
        // What is purged we decide.
        max_in_snapshot_log_to_keep: u64::MAX,
        api_channel_size: Some(API_QUEUE_LENGTH),
        enable_pre_vote: Some(true),
        // Entries reach others before they are durable here: a leader that starts again may have
        // lost some that they hold, and must not give their places to others in the same term.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    settings.validate().map_err(|error| error.to_string())
}
