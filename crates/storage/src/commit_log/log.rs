//! Opening and closing the log of a node.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base::disk::Disk;
use base::queue::{self, Sender};
use base::task::{ThreadHandle, spawn_thread};
use base::time::Duration;
use parking_lot::Mutex;
use record::ShardId;
use tokio::sync::{oneshot, watch};

use super::keeper::Keeper;
use super::lost::Losses;
use super::recovery::{Recovery, recover};
use super::request::Request;
use super::shard_log::ShardLog;
use super::shard_state::{ShardDamage, ShardState};
use super::shared::Shared;
use super::writer::Writer;
use super::{Damage, DiskState, Failure, OpenError, Options, Recovered, Stats, sync};

/// Requests in the queue besides the bound on their bytes.
const QUEUE_ITEMS_MAX: usize = 1 << 20;

/// The commit log of a node. Dropping it without [`CommitLog::close`] is like a crash, except that
/// what was queued is still written as long as someone holds a [`ShardLog`].
#[derive(Debug)]
pub struct CommitLog {
    shared: Arc<Shared>,
    queue: Sender<Request>,
    threads: Mutex<Vec<ThreadHandle>>,
    /// The writer fails where it would wait for space.
    impatient: Arc<AtomicBool>,
}

impl CommitLog {
    /// Opens the log in `dir`, made when absent, and recovers what is there.
    ///
    /// # Errors
    /// When files cannot be read or written, and when damage may have taken the end of a shard's log: its places would
    /// be given to other entries. Other damage is no error: it is in what is returned.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Self, Vec<Recovered>), OpenError> {
        if !options.segment_bytes_are_allowed() {
            return Err(OpenError::SegmentBytes { bytes: options.segment_bytes });
        }
        let found = {
            let (disk, dir, options) = (Arc::clone(&disk), dir.to_owned(), options.clone());
            base::task::offload(async move { recover(disk, &dir, &options).await }).await?
        };
        let accepts_loss = found.accepts_loss;
        let Recovery { life, segments, ready, next_sequence, shards, damage, resume, synced } = found.log;
        let shards: BTreeMap<ShardId, Arc<ShardState>> = shards
            .into_iter()
            .map(|(id, (state, runs))| (id, Arc::new(ShardState::recovered(id, state, runs))))
            .collect();
        let recovered = shards.values().map(|shard| recovered(shard, dir, &damage, &found.lost)).collect();
        let mut shared = Shared::new(disk, dir, options, life, shards, segments, ready, next_sequence, synced);
        shared.accepts_loss = accepts_loss;
        shared.missing = found.missing;
        shared.lost = tokio::sync::Mutex::new(found.lost);
        let shared = Arc::new(shared);

        let (queue, requests) = queue::bounded(QUEUE_ITEMS_MAX, shared.options.queue_bytes);
        let (sync_queue, written) = queue::bounded(QUEUE_ITEMS_MAX, usize::MAX);
        let in_flight = Arc::new(AtomicUsize::new(0));
        let impatient = Arc::new(AtomicBool::new(false));
        let waits = (Arc::clone(&in_flight), Arc::clone(&impatient));
        let writer = Writer::new(Arc::clone(&shared), requests, sync_queue, waits, resume);
        let keeper = Keeper::new(Arc::clone(&shared), queue.clone(), found.synced_file, found.let_go);
        let spawn = |name, thread: io::Result<ThreadHandle>| {
            thread.map_err(|source| OpenError::Io { operation: name, path: dir.to_owned(), source })
        };
        let threads = vec![
            spawn("start the writer of", spawn_thread("log-writer", guarded(Arc::clone(&shared), writer.run())))?,
            spawn(
                "start the syncer of",
                spawn_thread(
                    "log-sync",
                    guarded(Arc::clone(&shared), sync::run(Arc::clone(&shared), written, in_flight)),
                ),
            )?,
            spawn("start the keeper of", spawn_thread("log-keeper", guarded(Arc::clone(&shared), keeper.run())))?,
        ];
        Ok((Self { shared, queue, threads: Mutex::new(threads), impatient }, recovered))
    }

    /// The log of one shard; empty when nothing was ever written.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> ShardLog {
        ShardLog::new(Arc::clone(&self.shared), self.shared.shard(shard), self.queue.clone())
    }

    /// All shards that the log knows.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.shared.shards.lock().keys().copied().collect()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The longest write or sync since this was asked last, what is under way included.
    #[must_use]
    pub fn longest_operation(&self) -> Duration {
        self.shared.stalls.longest()
    }

    /// Becomes `Some` when a write or sync fails; then the node must stop.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.shared.failure.subscribe()
    }

    #[must_use]
    pub fn disk_state(&self) -> watch::Receiver<DiskState> {
        self.shared.disk_state.subscribe()
    }

    /// From now on the log fails where it would wait for space on a full disk. A node that ends calls this before it
    /// waits for anything that waits for the log.
    pub fn stop_waiting_for_space(&self) {
        self.impatient.store(true, Ordering::Release);
    }

    /// Makes everything queued durable and ends the threads. What is appended afterwards is refused.
    pub async fn close(&self) {
        self.stop_waiting_for_space();
        let (sender, closed) = oneshot::channel();
        if self.queue.send(Request::Close(sender), 64).await.is_ok() {
            // An error is in `failure`; here it only means that there is nothing to wait for.
            let _ = closed.await;
        }
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A panic was told through `failure`.
            let _ = thread.join().await;
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.keeper_wake.notify_one();
    }
}

impl Drop for CommitLog {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A thread of the log that panics fails the log: nobody may wait for it for ever.
async fn guarded(shared: Arc<Shared>, run: impl Future<Output = ()> + Send) {
    struct Guard(Arc<Shared>);
    impl Drop for Guard {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let dir = self.0.dir.clone();
                self.0.fail("go on with", &dir, io::Error::other("a thread of the commit log panicked"));
            }
        }
    }
    let _guard = Guard(shared);
    run.await;
}

fn recovered(shard: &ShardState, dir: &Path, damage: &[ShardDamage], lost: &Losses) -> Recovered {
    let mut inner = shard.lock();
    let concerns = |found: &&ShardDamage| found.shard.is_none_or(|id| id == shard.id);
    let mut damage: Vec<Damage> = damage.iter().filter(concerns).map(|found| found.damage.clone()).collect();
    let lost = lost.get(&shard.id).map_or(&[][..], Vec::as_slice);
    damage.extend_from_slice(lost);
    for hole in inner.holes() {
        let covers = |known: &RangeOfIndexes| known.start() <= hole.start() && known.end() >= hole.end();
        if !damage.iter().filter_map(|known| known.indexes.as_ref()).any(covers) {
            damage.push(Damage { file: dir.to_owned(), position: 0, bytes: 0, indexes: Some(hole) });
        }
    }
    let state = inner.state;
    // Damage at the end may have taken the entry that the committed mark names.
    if state.committed > state.last {
        inner.state.committed = state.last;
    }
    inner.set_damage(damage.clone());
    inner.set_lost(lost.to_vec());
    Recovered { shard: shard.id, log_state: inner.state, damage }
}

type RangeOfIndexes = std::ops::RangeInclusive<record::LogIndex>;
