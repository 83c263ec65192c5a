//! Monotonic time and timers (tokio's, so that a paused clock drives them) and the wall clock.

use std::fmt::Debug;
use std::future::Future;
#[cfg(feature = "simulation")]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

pub use std::time::Duration;
pub use tokio::time::error::Elapsed;
pub use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, Timeout};

/// The date and time of day. It may jump in either direction.
pub trait WallClock: Send + Sync + Debug {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// The operating system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWallClock;

impl WallClock for RealWallClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970.
            Err(_) => 0,
        }
    }
}

/// A wall clock that goes with the simulated time and jumps when told.
#[cfg(feature = "simulation")]
#[derive(Debug)]
pub struct SimWallClock {
    started: Instant,
    start_ms: AtomicI64,
}

#[cfg(feature = "simulation")]
impl SimWallClock {
    /// Shows `start_ms` now.
    #[must_use]
    pub fn new(start_ms: i64) -> Self {
        Self { started: now(), start_ms: AtomicI64::new(start_ms) }
    }

    /// Puts the clock forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.start_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

#[cfg(feature = "simulation")]
impl WallClock for SimWallClock {
    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.start_ms.load(Ordering::Relaxed).saturating_add(elapsed)
    }
}

/// Monotonic now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Completes after `duration`; the resolution is a millisecond.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn sleep(duration: Duration) -> Sleep {
    tokio::time::sleep(duration)
}

/// Completes at `deadline`.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// `future`'s output, or `Elapsed` after `duration`.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    tokio::time::timeout(duration, future)
}

/// `future`'s output, or `Elapsed` at `deadline`.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    tokio::time::timeout_at(deadline, future)
}

/// Ticks every `period`, the first time at once. A late tick delays those after it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
