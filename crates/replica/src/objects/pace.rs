//! How much of a node goes into rewriting what is old.

use base::time::{Duration, Instant, now, sleep_until};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Shared by the replicas of a node: one object is made at a time, and no faster than allowed.
#[derive(Debug)]
pub struct Pace {
    turn: Semaphore,
    bytes_per_second: Option<u64>,
    /// Before that nothing is written, so that the rate is kept.
    next_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many bytes are written in a second; as fast as it goes without a number.
    #[must_use]
    pub const fn new(bytes_per_second: Option<u64>) -> Self {
        Self { turn: Semaphore::const_new(1), bytes_per_second, next_at: Mutex::new(None) }
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
