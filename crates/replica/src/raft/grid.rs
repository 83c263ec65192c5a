//! The moments at which groups act without being asked.
//!
//! A node has many groups, each of which looks at its timers many times a second and, where it leads, tells the others
//! that it does. All groups of a process do so at the same moments: an idle node wakes once for all of them, and what its
//! leaders have to say to another node leaves in one write.

use std::sync::OnceLock;

use base::time::{Duration, Instant, now};

/// The first moment that is not before `deadline`, of those that are whole multiples of `step` apart from each other.
pub(super) fn aligned(deadline: Instant, step: Duration) -> Instant {
    origin().map_or(deadline, |origin| aligned_from(origin, deadline, step))
}

/// The next moment, for what happens every `step`.
pub(super) fn next(step: Duration) -> Instant {
    // Not the one at which it has just happened.
    origin().map_or_else(|| now() + step, |origin| aligned_from(origin, now() + step / 2, step))
}

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// From now on all groups of the process act at the same moments. Where it is not said each acts in its own time: what
/// is simulated repeats itself, and depends on nothing that happened before it in its process.
pub fn act_together() {
    ORIGIN.get_or_init(now);
}

fn origin() -> Option<Instant> {
    // Other threads of the process may have said it.
    ORIGIN.get().copied().filter(|_| !base::task::simulated())
}

fn aligned_from(origin: Instant, deadline: Instant, step: Duration) -> Instant {
    let into = |since: Duration| Duration::from_nanos_u128(since.as_nanos() % step.as_nanos());
    match deadline.checked_duration_since(origin) {
        Some(after) if into(after).is_zero() => deadline,
        Some(after) => deadline + (step - into(after)),
        None => deadline + into(origin - deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_meet_on_one_grid_and_never_end_early() {
        let origin = now() + Duration::from_secs(1);
        let at = |ms: u64| origin - Duration::from_millis(100) + Duration::from_millis(ms);
        for (deadline, expected) in
            [(0, 0), (1, 20), (19, 20), (99, 100), (100, 100), (101, 120), (120, 120), (139, 140)]
        {
            assert_eq!(aligned_from(origin, at(deadline), Duration::from_millis(20)), at(expected), "{deadline}");
        }
    }
}
