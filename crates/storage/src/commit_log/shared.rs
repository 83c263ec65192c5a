//! What the threads of a commit log and its readers share.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use base::disk::Disk;
use parking_lot::Mutex;
use record::ShardId;
use tokio::sync::{Notify, Semaphore, watch};

use super::cold::ColdReads;
use super::lost::Losses;
use super::lost::let_go::Numbers;
use super::position::Position;
use super::segment::Segment;
use super::shard_state::ShardState;
use super::stalls::Stalls;
use crate::block_cache::BlockCache;

use super::{DiskState, Failure, Options, Stats};

/// Whoever reads from files has memory in use that is in no answer yet: entries that are checked, blocks of which only
/// parts are wanted. So many bytes of cache let in one more of them.
const READER_BYTES: usize = 4 << 20;
const READERS_MIN: usize = 2;
/// Each has a few reads under way; more keep no device busier.
const READERS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) life: u32,
    pub(crate) shards: Mutex<BTreeMap<ShardId, Arc<ShardState>>>,
    /// Segments that hold entries or are being written.
    pub(crate) segments: Mutex<BTreeMap<u32, Arc<Segment>>>,
    /// Segments that hold nothing any more but may still have readers.
    pub(crate) retired: Mutex<Vec<Arc<Segment>>>,
    /// Segments to be written next, in order.
    pub(crate) ready: Mutex<VecDeque<Arc<Segment>>>,
    pub(crate) next_sequence: AtomicU32,
    /// What the operator gave up: the list that is in the file.
    pub(crate) lost: tokio::sync::Mutex<Losses>,
    /// Numbers of segments that are neither there nor were let go.
    pub(crate) missing: Numbers,
    /// What is found lost in this life is given up.
    pub(crate) accepts_loss: bool,
    pub(crate) memory: AtomicUsize,
    pub(crate) blocks: BlockCache,
    pub(crate) cold: Arc<ColdReads>,
    /// Answers that are being read from files.
    pub(crate) readers: Semaphore,
    /// Where this life of the log began to write.
    pub(crate) opened_at: Position,
    /// Everything before this is durable.
    synced: AtomicU64,
    /// The synced position that the log itself says last.
    pub(crate) recorded: AtomicU64,
    /// Behind the last truncation that was written.
    truncated_at: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) synced_bytes: AtomicU64,
    pub(crate) stalls: Stalls,
    pub(crate) sync_progress: Notify,
    pub(crate) keeper_wake: Notify,
    /// The writer waits for space.
    pub(crate) stalled: AtomicBool,
    /// Nothing more is written.
    pub(crate) closing: AtomicBool,
    /// The keeper ends, and nobody waits for space any more.
    pub(crate) stop: AtomicBool,
    /// Something was purged or let go since the keeper looked.
    pub(crate) liveness_changed: AtomicBool,
    /// Held while a segment is made, so that numbers come in order.
    pub(crate) making: tokio::sync::Mutex<()>,
    pub(crate) failure: watch::Sender<Option<Failure>>,
    pub(crate) disk_state: watch::Sender<DiskState>,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes_written: AtomicU64,
    pub(crate) bytes_filled: AtomicU64,
    pub(crate) payload_bytes: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) segments_recycled: AtomicU64,
    pub(crate) damaged_reads: AtomicU64,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "what recovery found, each used once")]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        life: u32,
        shards: BTreeMap<ShardId, Arc<ShardState>>,
        segments: BTreeMap<u32, Arc<Segment>>,
        ready: VecDeque<Arc<Segment>>,
        next_sequence: u32,
        synced: Position,
    ) -> Self {
        let blocks = BlockCache::new(options.index_cache_bytes);
        let cold = Arc::new(ColdReads::new(options.read_cache_bytes));
        let readers = Semaphore::new((options.read_cache_bytes / READER_BYTES).clamp(READERS_MIN, READERS_MAX));
        Self {
            cold,
            readers,
            disk,
            dir: dir.to_owned(),
            life,
            shards: Mutex::new(shards),
            segments: Mutex::new(segments),
            retired: Mutex::default(),
            ready: Mutex::new(ready),
            next_sequence: AtomicU32::new(next_sequence),
            lost: tokio::sync::Mutex::default(),
            missing: Numbers::new(),
            accepts_loss: false,
            memory: AtomicUsize::new(0),
            blocks,
            opened_at: synced,
            synced: AtomicU64::new(synced.pack()),
            recorded: AtomicU64::new(synced.pack()),
            truncated_at: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            stalls: Stalls::default(),
            sync_progress: Notify::new(),
            keeper_wake: Notify::new(),
            stalled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            liveness_changed: AtomicBool::new(true),
            making: tokio::sync::Mutex::new(()),
            failure: watch::Sender::new(None),
            disk_state: watch::Sender::new(DiskState::Writable),
            counters: Counters::default(),
            options,
        }
    }

    pub(crate) fn shard(&self, id: ShardId) -> Arc<ShardState> {
        let mut shards = self.shards.lock();
        Arc::clone(shards.entry(id).or_insert_with(|| Arc::new(ShardState::new(id))))
    }

    pub(crate) fn all_shards(&self) -> Vec<Arc<ShardState>> {
        self.shards.lock().values().cloned().collect()
    }

    pub(crate) fn synced(&self) -> Position {
        Position::unpack(self.synced.load(Ordering::Acquire))
    }

    pub(crate) fn set_synced(&self, position: Position) {
        let before = self.synced.swap(position.pack(), Ordering::Release);
        assert!(before <= position.pack(), "the synced position never goes back");
    }

    /// To be called before readers learn of a truncation that ends at `position`.
    pub(crate) fn set_truncated_at(&self, position: Position) {
        self.truncated_at.fetch_max(position.pack(), Ordering::AcqRel);
    }

    /// Whether every truncation that the runs of the shards show is durable. Until then a crash may
    /// take it back, and what it cut off is needed again.
    pub(crate) fn truncations_are_durable(&self) -> bool {
        self.truncated_at.load(Ordering::Acquire) <= self.synced().pack()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// The first failure stands; what comes after is a consequence.
    pub(crate) fn fail(&self, operation: &'static str, path: &Path, error: io::Error) {
        let mut first = false;
        self.failure.send_if_modified(|failure| {
            first = failure.is_none();
            if first {
                *failure = Some(Failure { operation, path: path.to_owned(), error: Arc::new(error) });
            }
            first
        });
        if first && let Some(failure) = &*self.failure.borrow() {
            tracing::error!("{failure}");
        }
        self.sync_progress.notify_waiters();
        self.keeper_wake.notify_one();
    }

    pub(crate) fn failure_error(&self) -> io::Error {
        match &*self.failure.borrow() {
            Some(failure) => io::Error::new(failure.error.kind(), failure.to_string()),
            None => io::Error::other("the commit log is closed"),
        }
    }

    /// Brings memory back under its bound, first from `shard`, which just grew.
    pub(crate) fn make_room(&self, shard: &ShardState) {
        let bound = self.options.memory_bytes;
        if self.memory.load(Ordering::Relaxed) > bound {
            shard.evict(&self.memory, |total, _| total <= bound);
        }
    }

    /// Takes memory from shards that hold more than a fair share, for those that need it.
    pub(crate) fn balance_memory(&self) {
        let bound = self.options.memory_bytes;
        if self.memory.load(Ordering::Relaxed) <= bound / 8 * 7 {
            return;
        }
        let shards = self.all_shards();
        let fair = bound / shards.len().max(1);
        let largest = shards.iter().max_by_key(|shard| shard.recent_bytes());
        if let Some(shard) = largest.filter(|_| shards.len() > 1) {
            shard.evict(&self.memory, |total, own| total <= bound / 8 * 7 || own <= fair);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let counter = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            bytes_written: counter(&self.counters.bytes_written),
            bytes_filled: counter(&self.counters.bytes_filled),
            payload_bytes: counter(&self.counters.payload_bytes),
            entries: counter(&self.counters.entries),
            writes: counter(&self.counters.writes),
            syncs: counter(&self.counters.syncs),
            segments: self.segments.lock().len() as u64,
            segments_recycled: counter(&self.counters.segments_recycled),
            memory_bytes: self.memory.load(Ordering::Relaxed) as u64,
            damaged_reads: counter(&self.counters.damaged_reads),
        }
    }
}
