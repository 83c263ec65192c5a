//! What a replica is told at its start, with bounds for everything that can grow.

use base::time::Duration;
use record::{NodeId, ShardId};

/// The most that one command without a body may have: with its entry it still fits one frame
/// between nodes.
pub const COMMAND_BYTES_MAX: usize = (4 << 20) - (64 << 10);
/// What an entry has besides its commands and bodies, with room to spare.
const ENTRY_OVERHEAD_BYTES: usize = 4 << 10;

/// The settings of one replica. `Config::new` gives values that fit a node with fast local disks;
/// none of them changes what is stored or promised.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The shard.
    pub shard: ShardId,
    /// The other members are gone for good: damage here is not mended from theirs.
    pub others_are_gone: bool,
    /// An entry is closed when its commands reach this size; a larger batch travels in parts.
    pub entry_bytes_max: usize,
    /// A command without a body may have this many bytes, and is an entry of its own if need be.
    pub command_bytes_max: usize,
    /// How many entries may be under way in consensus at once.
    pub entries_in_flight_max: usize,
    /// What may wait for its entry, in bytes.
    pub queue_bytes_max: usize,
    /// What may wait for its entry, in commands.
    pub queue_items_max: usize,
    /// What groups may write while the disk is full, in bytes, until there is room again.
    pub full_disk_bytes_max: u64,
    /// The node cannot go on without what others propose to the shard: it is taken as long as there is any room.
    pub is_vital: bool,
    /// How long a proposal that was refused for want of a lease is tried again.
    pub lease_wait_max: Duration,
    /// Pause between heartbeats of a leader.
    pub heartbeat: Duration,
    /// A follower that hears nothing for a time between these two stands for election.
    pub election_timeout: (Duration, Duration),
    /// A leader that has not heard from a majority for so long takes no proposals, and says of those under way that
    /// their fate is unknown, until it hears from one.
    pub majority_silence_max: Duration,
    /// The same where a majority is heard of, and nothing of what is under way has been committed for so long.
    pub commit_wait_max: Duration,
    /// How long a start waits until the log's tail is applied.
    pub recovery_wait_max: Duration,
    /// Seal the index when this many batches are unsealed.
    pub seal_batches: usize,
    /// Seal the index when this many streams have unsealed batches: each costs a seal some time.
    pub seal_streams: usize,
    /// Seal the index when the unsealed part of the log has this size.
    pub seal_bytes: u64,
    /// No more is proposed while this many sealed ranges wait for their index file.
    pub seals_pending_max: usize,
    /// Write a checkpoint when replaying the log after the last one would cost more than this.
    pub replay_target: Duration,
    /// How fast a replay is taken to be, in commands and in bytes a second.
    pub replay_commands_per_second: u64,
    /// See `replay_commands_per_second`.
    pub replay_bytes_per_second: u64,
    /// Checkpoints are never closer than this, however much is written.
    pub checkpoint_pause_min: Duration,
    /// What was applied is in a checkpoint after this time, however little it is: only then does the
    /// log let go of what was deleted.
    pub checkpoint_age_max: Duration,
    /// Unsealed batches are sealed after this time, however few they are: those of a quiet stream
    /// keep all of the log between them.
    pub seal_age_max: Duration,
    /// Records of the state captured under one hold of the lock (fewer than 1 ms of work).
    pub capture_step_records: usize,
    /// A new base is written when the chain of deltas has this many links.
    pub checkpoint_deltas_max: usize,
    /// Of several members each keeps so many bytes of the log behind its checkpoint at most, for members that were
    /// away: counted in whole segments, which the node's shards share.
    pub log_keep_bytes: u64,
    /// The newest so many bytes of the log that the node's shards share stay as they are, counted in whole segments: what
    /// expires meanwhile is written once. What lives of older ranges is put into objects. A checkpoint is written when so much
    /// was applied since the last one, as what is deleted takes its space until then.
    pub log_hot_bytes: u64,
    /// Old ranges with fewer bytes wait for others, until they are twice as old.
    pub object_bytes_min: u64,
    /// An object is built of ranges of so many bytes, unless a single one has more.
    pub object_bytes_max: u64,
    /// How long a stop waits for what is under way, as on a disk that takes nothing any more.
    pub shutdown_wait_max: Duration,
    /// How long the stop of one of several members waits for the others to acknowledge what is under way: they may be
    /// gone, and who waits for it is to be told while somebody can be.
    pub shutdown_others_wait_max: Duration,
    /// Pause between two rounds of housekeeping: expiries and the shard's time.
    pub housekeeping: Duration,
}

impl Config {
    /// The defaults for `shard` on `node`.
    pub fn new(node: NodeId, shard: ShardId) -> Self {
        Self {
            node,
            shard,
            others_are_gone: false,
            entry_bytes_max: 1 << 20,
            command_bytes_max: COMMAND_BYTES_MAX,
            entries_in_flight_max: 8,
            queue_bytes_max: 64 << 20,
            queue_items_max: 65_536,
            full_disk_bytes_max: 1 << 20,
            is_vital: false,
            lease_wait_max: Duration::from_secs(1),
            heartbeat: Duration::from_millis(100),
            election_timeout: (Duration::from_millis(200), Duration::from_millis(350)),
            majority_silence_max: Duration::from_secs(1),
            commit_wait_max: Duration::from_secs(30),
            recovery_wait_max: Duration::from_secs(600),
            seal_batches: 64 * 1024,
            seal_streams: 16 * 1024,
            seal_bytes: 256 << 20,
            seals_pending_max: 4,
            replay_target: Duration::from_secs(1),
            replay_commands_per_second: 1_000_000,
            replay_bytes_per_second: 1 << 30,
            checkpoint_pause_min: Duration::from_millis(500),
            checkpoint_age_max: Duration::from_secs(30),
            seal_age_max: Duration::from_secs(60 * 60),
            capture_step_records: 512,
            checkpoint_deltas_max: 32,
            log_keep_bytes: 1 << 30,
            log_hot_bytes: 4 << 30,
            object_bytes_min: 256 << 20,
            object_bytes_max: 512 << 20,
            shutdown_wait_max: Duration::from_secs(10),
            shutdown_others_wait_max: Duration::from_millis(500),
            housekeeping: Duration::from_secs(30),
        }
    }

    /// Keeps every entry below what the commit log takes.
    #[must_use]
    pub fn with_payload_bytes_max(mut self, payload_bytes_max: usize) -> Self {
        let room = payload_bytes_max.saturating_sub(ENTRY_OVERHEAD_BYTES);
        self.entry_bytes_max = self.entry_bytes_max.min(room);
        self.command_bytes_max = self.command_bytes_max.min(room);
        self
    }

    /// Says what is wrong with the settings, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let positive = [
            ("entry_bytes_max", self.entry_bytes_max),
            ("command_bytes_max", self.command_bytes_max),
            ("entries_in_flight_max", self.entries_in_flight_max),
            ("queue_items_max", self.queue_items_max),
            ("seal_batches", self.seal_batches),
            ("seal_streams", self.seal_streams),
            ("seals_pending_max", self.seals_pending_max),
            ("capture_step_records", self.capture_step_records),
            ("checkpoint_deltas_max", self.checkpoint_deltas_max),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0, at least 1 is needed"));
        }
        if self.queue_bytes_max < self.entry_bytes_max {
            return Err("queue_bytes_max is smaller than entry_bytes_max".to_owned());
        }
        if self.election_timeout.0 <= self.heartbeat || self.election_timeout.1 <= self.election_timeout.0 {
            return Err("election_timeout must be longer than a heartbeat and a proper range".to_owned());
        }
        Ok(())
    }
}
