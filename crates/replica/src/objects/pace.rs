//! How much of a node goes into rewriting what is old.

use std::sync::Arc;

use base::time::{Duration, Instant, now, sleep_until};
use parking_lot::Mutex;
use record::ShardId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::work::{Register, Work, WorkKind, Working};

/// Shared by the replicas of a node: one object is made at a time, and no faster than allowed.
#[derive(Debug)]
pub struct Pace {
    turn: Semaphore,
    /// Of the one whose keys are in memory.
    cleaning: Arc<Semaphore>,
    keys_bytes_max: u64,
    rate: Option<Rate>,
    /// Of what is read that nobody asked for.
    reading: Rate,
    /// How long after one the next pass over a shard begins that looks for damage.
    scrub_interval: Option<Duration>,
    works: Arc<Register>,
}

/// What is read of damaged objects to see whether they still are, where nothing else is read unasked.
const READING_BYTES_PER_SECOND: u64 = 8 << 20;

/// So many bytes in a second, whoever moves them.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// Before that nothing is moved, so that the rate is kept.
    next_at: Mutex<Option<Instant>>,
}

impl Rate {
    const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, next_at: Mutex::new(None) }
    }

    /// Waits as long as so many bytes may take at least.
    async fn spend(&self, bytes: u64) {
        let begins = {
            let mut next_at = self.next_at.lock();
            let begins = next_at.unwrap_or_else(now).max(now());
            let micros = bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1);
            *next_at = Some(begins + Duration::from_micros(micros));
            begins
        };
        sleep_until(begins).await;
    }
}

impl Pace {
    /// At most so many bytes are written in a second; as fast as it goes without a number. Keys that are compacted take as much memory
    /// at a time.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>, keys_bytes_max: u64) -> Self {
        let (turn, cleaning) = (Semaphore::new(1), Arc::new(Semaphore::new(1)));
        Self {
            turn,
            cleaning,
            keys_bytes_max,
            rate: bytes_per_second.map(Rate::new),
            reading: Rate::new(READING_BYTES_PER_SECOND),
            scrub_interval: None,
            works: Arc::default(),
        }
    }

    /// What lies here is read again and again to find damage, at most so many bytes in a second, and each shard at most once in an
    /// interval.
    #[must_use]
    pub fn scrubbing(mut self, bytes_per_second: u64, interval: Duration) -> Self {
        (self.reading, self.scrub_interval) = (Rate::new(bytes_per_second), Some(interval));
        self
    }

    /// How long after one the next pass over a shard begins that looks for damage; none without such passes.
    pub(crate) const fn scrub_interval(&self) -> Option<Duration> {
        self.scrub_interval
    }

    /// Waits as long as reading so many bytes may take at least that nobody asked for.
    pub(crate) async fn spend_scrubbing(&self, bytes: u64) {
        self.reading.spend(bytes).await;
    }

    pub(crate) const fn keys_bytes_max(&self) -> u64 {
        self.keys_bytes_max
    }

    /// While it is held no other keys are in memory; none while others are.
    pub(crate) fn cleaning_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.cleaning).try_acquire_owned().ok()
    }

    /// Waits until no other object is made.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turn.acquire().await.expect("the semaphore is never closed")
    }

    /// Says that work of about so many bytes is under way, until what is returned is dropped.
    pub(crate) fn begin(&self, shard: ShardId, kind: WorkKind, bytes_all: u64) -> Working {
        self.works.begin(shard, kind, bytes_all)
    }

    /// What is under way of a shard.
    pub(crate) fn work_of(&self, shard: ShardId) -> Vec<Work> {
        self.works.of(shard)
    }

    /// Waits as long as writing so many bytes may take at least.
    pub(crate) async fn spend(&self, bytes: u64) {
        if let Some(rate) = &self.rate {
            rate.spend(bytes).await;
        }
    }
}
