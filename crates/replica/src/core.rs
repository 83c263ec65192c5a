//! What the parts of one replica share.
//!
//! One lock guards the state machine together with the entry that it stands at. Apply holds it for
//! one entry, a checkpoint for one small step, readers for a look: nobody awaits under it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use base::Env;
use parking_lot::{Mutex, RwLock};
use record::{FileNumber, LogIndex, NodeId, ObjectKey, StreamId};
use shard::commands::UploadId;
use shard::{SealedIndex, Shard};
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::{LogId, ShardLog};
use tokio::sync::{Notify, Semaphore, watch};

use crate::catch_up::Pins;
use crate::config::Config;
use crate::errors::OutOfService;
use crate::full_disk::FullDisk;
use crate::leadership::Leadership;
use crate::liveness;
use crate::objects::{CompactionPolicy, Here, Pace};
use crate::pending::Abandoned;
use crate::proposer;
use crate::raft::types::{ConsensusLogId, StoredMembership, consensus_log_id};
use crate::raft::{self};
use crate::waiters::Waiters;

/// So much is written between two checkpoints at least, where it is replayed in time.
const WAITING_BYTES_MIN: u64 = 4 << 20;

/// The state machine and where it stands.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) shard: Shard,
    /// The last entry applied.
    pub(crate) last: Option<LogId>,
    /// The members as of that entry.
    pub(crate) membership: StoredMembership,
}

/// What has happened since the last seal and the last checkpoint, for their policies.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    commands_since_checkpoint: AtomicU64,
    bytes_since_checkpoint: AtomicU64,
    entries_since_checkpoint: AtomicU64,
    pub(crate) bytes_since_seal: AtomicU64,
    unsealed_batches: AtomicUsize,
    unsealed_streams: AtomicUsize,
}

/// What a seal would move into a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsealed {
    pub(crate) batches: usize,
    pub(crate) streams: usize,
}

impl Progress {
    pub(crate) fn note(&self, payload_bytes: usize, commands: usize, unsealed: Unsealed) {
        let (bytes, commands) = (payload_bytes as u64, commands as u64);
        self.entries_since_checkpoint.fetch_add(1, Ordering::Relaxed);
        self.commands_since_checkpoint.fetch_add(commands, Ordering::Relaxed);
        self.bytes_since_checkpoint.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_since_seal.fetch_add(bytes, Ordering::Relaxed);
        self.unsealed_batches.store(unsealed.batches, Ordering::Relaxed);
        self.unsealed_streams.store(unsealed.streams, Ordering::Relaxed);
    }

    pub(crate) fn is_seal_due(&self, config: &Config) -> bool {
        let unsealed = self.unsealed_batches.load(Ordering::Relaxed);
        unsealed >= config.seal_batches
            || self.unsealed_streams.load(Ordering::Relaxed) >= config.seal_streams
            || (unsealed > 0 && self.bytes_since_seal.load(Ordering::Relaxed) >= config.seal_bytes)
    }

    pub(crate) fn any_unsealed(&self) -> bool {
        self.unsealed_batches.load(Ordering::Relaxed) > 0
    }

    /// How long a replay of what came since the last checkpoint would take, in milliseconds.
    fn replay_ms(&self, config: &Config) -> u64 {
        let commands = self.commands_since_checkpoint.load(Ordering::Relaxed);
        let bytes = self.bytes_since_checkpoint();
        commands.saturating_mul(1_000) / config.replay_commands_per_second.max(1)
            + bytes.saturating_mul(1_000) / config.replay_bytes_per_second.max(1)
    }

    fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint.load(Ordering::Relaxed)
    }

    pub(crate) fn any_since_checkpoint(&self) -> bool {
        self.entries_since_checkpoint.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn checkpoint_begins(&self) {
        self.entries_since_checkpoint.store(0, Ordering::Relaxed);
        self.commands_since_checkpoint.store(0, Ordering::Relaxed);
        self.bytes_since_checkpoint.store(0, Ordering::Relaxed);
    }
}

/// What apply leaves to the maintenance.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Sealed ranges whose index files are not durable yet, oldest first.
    pub(crate) sealed: VecDeque<Arc<SealedIndex>>,
    /// Index files that no stream needs any more.
    pub(crate) dead: Vec<FileNumber>,
}

/// A checkpoint that is durable, and all that it refers to.
#[derive(Debug, Clone)]
pub(crate) struct DurableCheckpoint {
    pub(crate) id: LogId,
    pub(crate) membership: StoredMembership,
    /// The index files that its state names, and no object here is in the place of, in order.
    pub(crate) files: Arc<[FileNumber]>,
    /// The objects that are read, in order.
    pub(crate) objects: Arc<[ObjectKey]>,
    /// The parts of the log that its state refers to, or a later one can.
    pub(crate) live: Arc<[RangeInclusive<LogIndex>]>,
}

/// What a replica has beside its log.
#[derive(Debug)]
pub(crate) struct BesideLog {
    pub(crate) checkpoints: CheckpointStore,
    pub(crate) index: IndexStore,
    pub(crate) here: Here,
    pub(crate) pace: Arc<Pace>,
}

/// One replica, without the tasks that run it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) log: ShardLog,
    pub(crate) index: IndexStore,
    /// The objects that lie here, against those of the state.
    pub(crate) here: Here,
    /// Wakes the task that makes objects.
    pub(crate) objects_wanted: Notify,
    /// All nodes know what objects are.
    objects_allowed: AtomicBool,
    pub(crate) pace: Arc<Pace>,
    /// How streams are to be compacted while this node leads.
    pub(crate) compaction: Mutex<BTreeMap<StreamId, CompactionPolicy>>,
    /// Something is to be compacted that is not sealed yet.
    pub(crate) seal_wanted: AtomicBool,
    pub(crate) state: RwLock<Applied>,
    pub(crate) proposals: Arc<proposer::Shared>,
    pub(crate) abandoned: Arc<Abandoned>,
    pub(crate) waiters: Waiters,
    pub(crate) progress: Progress,
    pub(crate) chores: Mutex<Chores>,
    /// Wakes the task that seals and writes checkpoints.
    pub(crate) maintenance: Notify,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) failure: watch::Sender<Option<OutOfService>>,
    /// See `Replica::changed`.
    pub(crate) changed: watch::Sender<u64>,
    /// See `Replica::slots_changed`.
    pub(crate) slots_changed: watch::Sender<u64>,
    pub(crate) full_disk: Arc<FullDisk>,
    /// The last term in which another was asked to lead in place of this node.
    pub(crate) handed_over: AtomicU64,
    alone: AtomicBool,
    /// See `Replica::copies_min`.
    majority: AtomicUsize,
    /// Who announced itself last as the leader, in what is applied here.
    announced: watch::Sender<Option<NodeId>>,
    uploads: AtomicU64,
    /// Those who look for a batch that is sent again.
    pub(crate) repeats: Semaphore,
    pub(crate) checkpoints: CheckpointStore,
    /// What is held for others that catch up, and how far the log was purged.
    pub(crate) pins: Pins,
    /// The last durable checkpoint: what the log may let go.
    pub(crate) checkpoint: Mutex<Option<DurableCheckpoint>>,
    /// Consensus has started, and asks for a snapshot only for a member that lacks the log.
    started: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config, env: Env, log: ShardLog, beside: BesideLog, applied: Applied) -> Self {
        let BesideLog { checkpoints, index, here, pace } = beside;
        let proposals = Arc::new(proposer::Shared::new(config.queue_bytes_max, config.queue_items_max));
        let checkpoint = applied.last.map(|id| DurableCheckpoint {
            id,
            membership: applied.membership.clone(),
            files: liveness::files(&applied, &index, &here.needed()).into(),
            objects: here.keys().into(),
            live: liveness::live(&applied, here.needed()).into(),
        });
        let pins = Pins::new(log.log_state().purged);
        let alone = raft::is_alone(&applied.membership, config.node);
        let majority = AtomicUsize::new(majority(&applied.membership));
        let announced = watch::Sender::new(applied.shard.leader());
        Self {
            log,
            index,
            here,
            objects_wanted: Notify::new(),
            objects_allowed: AtomicBool::new(false),
            compaction: Mutex::default(),
            seal_wanted: AtomicBool::new(false),
            pace,
            state: RwLock::new(applied),
            proposals,
            abandoned: Arc::default(),
            waiters: Waiters::default(),
            progress: Progress::default(),
            chores: Mutex::default(),
            maintenance: Notify::new(),
            leadership: watch::Sender::new(Leadership::default()),
            failure: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            slots_changed: watch::Sender::new(0),
            full_disk: Arc::new(FullDisk::new(config.full_disk_bytes_max)),
            handed_over: AtomicU64::new(0),
            alone: AtomicBool::new(alone),
            majority,
            announced,
            // Unlike any that another leader may have begun.
            uploads: AtomicU64::new(env.random.next_u64()),
            repeats: Semaphore::new(1),
            checkpoints,
            pins,
            checkpoint: Mutex::new(checkpoint),
            started: AtomicBool::new(false),
            config,
            env,
        }
    }

    /// Takes this replica out of service: proposals are refused, readers are woken to see it.
    pub(crate) fn fail(&self, reason: OutOfService) -> OutOfService {
        tracing::error!(shard = self.config.shard.0, %reason, "the shard goes out of service on this node");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| reason.clone());
            first
        });
        self.proposals.set_gate(proposer::Gate::Stopped);
        self.leadership.send_modify(|leadership| leadership.is_self = false);
        self.waiters.wake_all();
        reason
    }

    /// A leader's announcement was applied.
    pub(crate) fn note_leader(&self) {
        let leader = self.state.read().shard.leader();
        self.announced.send_replace(leader);
    }

    /// Returns when another node leads and its announcement is applied here.
    pub(crate) async fn succeeded(&self) {
        let (mut leadership, mut announced) = (self.leadership.subscribe(), self.announced.subscribe());
        loop {
            let leader = leadership.borrow_and_update().leader;
            let is_announced = leader == *announced.borrow_and_update();
            if leader.is_some_and(|leader| leader != self.config.node) && is_announced {
                return;
            }
            tokio::select! {
                changed = leadership.changed() => changed,
                changed = announced.changed() => changed,
            }
            .expect("what is waited for lives as long as this");
        }
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// The entry that the state stands at, and the members as of it.
    pub(crate) fn applied_state(&self) -> (Option<LogId>, StoredMembership) {
        let state = self.state.read();
        (state.last, state.membership.clone())
    }

    pub(crate) fn applied_index(&self) -> LogIndex {
        self.state.read().last.map_or(LogIndex(0), |id| id.index)
    }

    /// Whether this node is the group's only member.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub(crate) fn note_members(&self, membership: &StoredMembership) {
        self.alone.store(raft::is_alone(membership, self.config.node), Ordering::Release);
        self.majority.store(majority(membership), Ordering::Release);
    }

    pub(crate) fn majority(&self) -> usize {
        self.majority.load(Ordering::Acquire)
    }

    /// Others may become members from now on.
    pub(crate) fn expect_members(&self) {
        self.alone.store(false, Ordering::Release);
    }

    /// Nobody else became a member.
    pub(crate) fn recount_members(&self) {
        let state = self.state.read();
        self.note_members(&state.membership);
    }

    pub(crate) fn next_upload(&self) -> UploadId {
        UploadId(self.uploads.fetch_add(1, Ordering::Relaxed))
    }

    /// An index file must be written for each of `sealed`; while many wait, nothing is proposed.
    pub(crate) fn note_sealed(&self, sealed: &[Arc<SealedIndex>]) {
        if sealed.is_empty() {
            return;
        }
        let waiting = {
            let mut chores = self.chores.lock();
            chores.sealed.extend(sealed.iter().cloned());
            chores.sealed.len()
        };
        if waiting > self.config.seals_pending_max {
            self.proposals.hold(true);
        }
    }

    /// Whether some producer was silent for longer than the settings allow, by this node's clock.
    pub(crate) fn has_expired_producers(&self) -> bool {
        let now = self.env.wall_clock.now_ms();
        let state = self.state.read();
        let expiry = state.shard.settings().producer_expiry_ms;
        state.shard.oldest_producer().is_some_and(|used| used.0.saturating_add(expiry) < now)
    }

    /// Whether objects may be made of what is old.
    pub(crate) fn may_make_objects(&self) -> bool {
        self.objects_allowed.load(Ordering::Acquire)
    }

    pub(crate) fn allow_objects(&self) {
        if !self.objects_allowed.swap(true, Ordering::AcqRel) {
            self.objects_wanted.notify_one();
        }
    }

    pub(crate) fn note_dead(&self, files: &[FileNumber]) {
        self.chores.lock().dead.extend_from_slice(files);
    }

    pub(crate) fn is_checkpoint_due(&self) -> bool {
        let target = u64::try_from(self.config.replay_target.as_millis()).unwrap_or(u64::MAX);
        let is_long = self.progress.replay_ms(&self.config) >= target;
        // The log keeps what went since the last checkpoint: where little is to stay, that is little, too.
        let is_much = self.progress.bytes_since_checkpoint() >= self.config.log_hot_bytes.max(WAITING_BYTES_MIN);
        !self.is_failed() && (is_long || is_much)
    }

    pub(crate) fn durable_checkpoint(&self) -> Option<DurableCheckpoint> {
        self.checkpoint.lock().clone()
    }

    pub(crate) fn set_durable_checkpoint(&self, durable: DurableCheckpoint) {
        let mut checkpoint = self.checkpoint.lock();
        assert!(checkpoint.as_ref().is_none_or(|before| before.id <= durable.id), "checkpoints only move forward");
        *checkpoint = Some(durable);
    }

    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// What consensus calls its snapshot. At the start it is the state that is there. Later it is asked for only for a
    /// member that lacks entries up to the purge mark: who has them, by whatever way, can be given the rest.
    pub(crate) fn snapshot(&self) -> Option<(ConsensusLogId, StoredMembership)> {
        let DurableCheckpoint { id, membership, .. } = self.durable_checkpoint()?;
        let purged = self.pins.purged().filter(|_| self.started.load(Ordering::Acquire));
        Some((consensus_log_id(purged.unwrap_or(id)), membership))
    }
}

/// Of those that vote; while they change, of the smaller set.
fn majority(membership: &StoredMembership) -> usize {
    let sets = membership.membership().get_joint_config().iter();
    sets.map(|voters| voters.len() / 2 + 1).min().unwrap_or(0)
}
