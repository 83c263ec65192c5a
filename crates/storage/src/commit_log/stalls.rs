//! How long the disk takes for what it is asked: so that a node whose disk is slow can let others lead.

use std::sync::atomic::{AtomicU64, Ordering};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;

/// The operations under way, one of each kind at a time, and the longest that ended.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    write: Mutex<Option<Instant>>,
    sync: Mutex<Option<Instant>>,
    longest_us: AtomicU64,
}

/// What the disk is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Write,
    Sync,
}

impl Stalls {
    fn slot(&self, operation: Operation) -> &Mutex<Option<Instant>> {
        match operation {
            Operation::Write => &self.write,
            Operation::Sync => &self.sync,
        }
    }

    pub(crate) fn begin(&self, operation: Operation) {
        *self.slot(operation).lock() = Some(now());
    }

    pub(crate) fn end(&self, operation: Operation) {
        let Some(begun) = self.slot(operation).lock().take() else { return };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(micros, Ordering::Relaxed);
    }

    /// The longest since this was asked last, what is under way included.
    pub(crate) fn longest(&self) -> Duration {
        let ended = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
        let underway = [Operation::Write, Operation::Sync].map(|operation| *self.slot(operation).lock());
        underway.into_iter().flatten().map(|begun| begun.elapsed()).fold(ended, Duration::max)
    }
}

#[cfg(test)]
mod tests {
    use base::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_while_it_lasts_and_once_after() {
        let stalls = Stalls::default();
        assert_eq!(stalls.longest(), Duration::ZERO);
        stalls.begin(Operation::Sync);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(stalls.longest(), Duration::from_secs(2));
        sleep(Duration::from_secs(1)).await;
        stalls.begin(Operation::Write);
        stalls.end(Operation::Sync);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stalls.longest(), Duration::from_secs(3));
        assert_eq!(stalls.longest(), Duration::from_secs(1), "the write lasts");
        stalls.end(Operation::Write);
        assert_eq!(stalls.longest(), Duration::from_secs(1));
        assert_eq!(stalls.longest(), Duration::ZERO);
    }
}
