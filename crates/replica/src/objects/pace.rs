//! How much of a node goes into rewriting what is old.

use std::sync::Arc;

use base::time::{Duration, Instant, now, sleep_until};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Shared by the replicas of a node: one object is made at a time, and no faster than allowed.
#[derive(Debug)]
pub struct Pace {
    turn: Semaphore,
    /// Of the one whose keys are in memory.
    cleaning: Arc<Semaphore>,
    keys_bytes_max: u64,
    bytes_per_second: Option<u64>,
    /// Before that nothing is written, so that the rate is kept.
    next_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many bytes are written in a second; as fast as it goes without a number. Keys that are compacted take as much memory
    /// at a time.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>, keys_bytes_max: u64) -> Self {
        let (turn, cleaning) = (Semaphore::new(1), Arc::new(Semaphore::new(1)));
        Self { turn, cleaning, keys_bytes_max, bytes_per_second, next_at: Mutex::new(None) }
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

    /// Waits as long as writing so many bytes may take at least.
    pub(crate) async fn spend(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let begins = {
            let mut next_at = self.next_at.lock();
            let begins = next_at.unwrap_or_else(now).max(now());
            *next_at = Some(begins + Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1)));
            begins
        };
        sleep_until(begins).await;
    }
}
