//! The time that this node gives to what it stores: its own clock's while it is alone, and one that most
//! nodes agree on when there are several.
//!
//! A shard's time is part of its state and never goes back: a clock that is an hour ahead would expire
//! for good what is an hour younger. So a node of several takes its time from an anchor, which moves on
//! with the monotonic clock, and sets the anchor anew only by what the others say theirs is. What they said moves on
//! with the monotonic clock too: held against the own clock when it came, it would be as wrong as that clock is since it
//! jumped. A clock that jumps shows nowhere; one that is wrong from the start is corrected by those of most nodes, of all that
//! there are: of those that happen to be reached most may be wrong. A node that has just started does not know yet whether there
//! are others: what it stores until then has no time.

use std::sync::Arc;

use base::time::{Instant, WallClock, now};
use parking_lot::Mutex;

/// Clocks that differ by less agree.
const SKEW_MAX_MS: u64 = 5_000;

/// A node's clock, corrected by those of others.
#[derive(Debug)]
pub(crate) struct ClusterClock {
    own: Arc<dyn WallClock>,
    state: Mutex<State>,
}

/// Whether there are other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Company {
    #[default]
    Unknown,
    Alone,
    Several,
}

#[derive(Debug, Default)]
struct State {
    company: Company,
    anchor: Option<(i64, Instant)>,
    /// By how much the own clock is corrected, for the log.
    correction_ms: i64,
}

impl ClusterClock {
    pub(crate) fn new(own: Arc<dyn WallClock>) -> Self {
        Self { own, state: Mutex::default() }
    }

    /// What the own clock says, to be told to others.
    pub(crate) fn own_ms(&self) -> i64 {
        self.own.now_ms()
    }

    /// The time, once it can be told.
    fn time_ms(&self) -> Option<i64> {
        let state = self.state.lock();
        let (wall_ms, at) = match state.company {
            Company::Unknown => return None,
            Company::Alone => return Some(self.own.now_ms()),
            Company::Several => state.anchor?,
        };
        Some(wall_ms.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX)))
    }

    /// This node is the only one, as its metadata says, until others are known.
    pub(crate) fn starts_alone(&self) {
        let mut state = self.state.lock();
        if state.company == Company::Unknown {
            state.company = Company::Alone;
        }
    }

    /// Sets the anchor by what the clocks of the others that are here say now, in milliseconds since 1970, of `known`
    /// other nodes.
    pub(crate) fn compare(&self, known: usize, others_ms: &[i64]) {
        let mut state = self.state.lock();
        if known == 0 {
            // At the start the others are not known yet.
            if state.company == Company::Several {
                state.company = Company::Alone;
            }
            state.anchor = None;
            return;
        }
        state.company = Company::Several;
        if others_ms.is_empty() {
            // Nobody to ask: a clock that jumped while nobody was here stays where it was.
            return;
        }
        // One look: a jump between two would pass for one of the others'.
        let own_ms = self.own.now_ms();
        let others = others_ms.iter().map(|other_ms| other_ms.saturating_sub(own_ms));
        let mut offsets: Vec<i64> = others.chain([0]).collect();
        offsets.sort_unstable();
        let correction_ms = match agreed(&offsets, known.div_ceil(2) + 1) {
            Some(correction_ms) => correction_ms,
            None if state.anchor.is_some() => return,
            // The earliest expires nothing too soon.
            None => offsets[0],
        };
        if correction_ms.abs_diff(state.correction_ms) > SKEW_MAX_MS {
            tracing::warn!(correction_ms, "this node's clock differs from the other nodes': their time is taken");
        }
        state.correction_ms = correction_ms;
        state.anchor = Some((own_ms.saturating_add(correction_ms), now()));
    }
}

/// What corrects the own clock, if `most` agree: nothing if it is one of them. The offsets from it are in order.
fn agreed(offsets: &[i64], most: usize) -> Option<i64> {
    let agree = |clocks: &&[i64]| clocks[most - 1].abs_diff(clocks[0]) <= SKEW_MAX_MS;
    let mut agreeing = offsets.windows(most).filter(agree);
    let any = agreeing.clone().next()?;
    Some(if agreeing.any(|clocks| clocks.contains(&0)) { 0 } else { any[most / 2] })
}

/// For what is told to clients: the own clock while nothing better is known.
impl WallClock for ClusterClock {
    fn now_ms(&self) -> i64 {
        self.time_ms().unwrap_or_else(|| self.own.now_ms())
    }
}

/// For what is stored: no time, which leaves a shard's where it is, while none can be told.
#[derive(Debug)]
pub(crate) struct ProposalClock(pub(crate) Arc<ClusterClock>);

impl WallClock for ProposalClock {
    fn now_ms(&self) -> i64 {
        self.0.time_ms().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const HOUR: i64 = 3_600_000;
    const START: i64 = 1_700_000_000_000;

    #[derive(Debug)]
    struct Fake(AtomicI64);

    impl WallClock for Fake {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn clock() -> (Arc<Fake>, Arc<ClusterClock>) {
        let own = Arc::new(Fake(AtomicI64::new(START)));
        let clock = ClusterClock::new(Arc::<Fake>::clone(&own));
        (own, Arc::new(clock))
    }

    fn is_near(clock: &ClusterClock, expected: i64) -> bool {
        (clock.now_ms() - expected).abs() < 2_000
    }

    #[test]
    fn a_lone_node_follows_its_own_clock() {
        let (own, clock) = clock();
        clock.starts_alone();
        own.0.fetch_add(HOUR, Ordering::Relaxed);
        assert!(is_near(&clock, START + HOUR));
        clock.compare(0, &[]);
        own.0.fetch_sub(HOUR, Ordering::Relaxed);
        assert!(is_near(&clock, START));
        assert!(ProposalClock(clock).now_ms() > 0);
    }

    #[test]
    fn nothing_is_stored_with_a_time_before_it_is_known_who_is_there() {
        let (own, clock) = clock();
        own.0.fetch_add(HOUR, Ordering::Relaxed);
        let stored = || ProposalClock(Arc::clone(&clock)).now_ms();
        assert_eq!(stored(), 0);
        clock.compare(0, &[]);
        assert_eq!(stored(), 0, "the others' addresses are not here yet");
        clock.compare(2, &[START, START]);
        assert!((stored() - START).abs() < 2_000);
        clock.starts_alone();
        assert!((stored() - START).abs() < 2_000, "it is not");
        clock.compare(0, &[]);
        assert!((stored() - START - HOUR).abs() < 2_000, "all others are gone");
    }

    #[test]
    fn nothing_is_stored_with_a_time_before_others_were_heard_of() {
        let (_, clock) = clock();
        clock.compare(2, &[]);
        assert_eq!(ProposalClock(Arc::clone(&clock)).now_ms(), 0);
        assert!(is_near(&clock, START), "clients are told something");
        clock.compare(2, &[START + 30]);
        assert!((ProposalClock(clock).now_ms() - START).abs() < 2_000);
    }

    #[test]
    fn a_clock_that_jumps_shows_nowhere() {
        let (own, clock) = clock();
        let others = [START, START + 10];
        clock.compare(2, &others);
        for jump in [HOUR, -2 * HOUR, 8_760 * HOUR] {
            own.0.fetch_add(jump, Ordering::Relaxed);
            assert!(is_near(&clock, START), "before anybody is asked");
            clock.compare(2, &others);
            assert!(is_near(&clock, START), "by what they had said before");
            clock.compare(2, &others[..1]);
            assert!(is_near(&clock, START), "one of two does not decide");
            clock.compare(2, &[]);
            assert!(is_near(&clock, START), "nobody decides nothing");
        }
    }

    #[test]
    fn the_others_that_are_wrong_change_nothing() {
        let (_, clock) = clock();
        clock.compare(4, &[START + HOUR, START, START - 20, START + HOUR]);
        assert!(is_near(&clock, START));
        clock.compare(1, &[START + HOUR]);
        assert!(is_near(&clock, START), "an anchor that stands is better than one of two");
    }

    #[test]
    fn of_two_that_disagree_at_the_start_the_earlier_is_taken() {
        for (offset, expected) in [(HOUR, START), (-HOUR, START - HOUR)] {
            let (_, clock) = clock();
            clock.compare(1, &[START + offset]);
            assert!(is_near(&clock, expected));
        }
    }

    #[test]
    fn no_clock_is_too_wrong() {
        for offset in [i64::MIN, i64::MAX] {
            let (_, clock) = clock();
            clock.compare(1, &[offset]);
            clock.compare(2, &[offset, offset]);
            clock.now_ms();
            clock.compare(2, &[START, START + 10]);
            assert!(is_near(&clock, START), "{offset}");
        }
    }

    #[test]
    fn most_of_those_that_are_reached_do_not_decide() {
        let (_, clock) = clock();
        clock.compare(4, &[START, START, START, START]);
        clock.compare(4, &[START + HOUR, START + HOUR]);
        assert!(is_near(&clock, START), "two of five");
        clock.compare(4, &[START + HOUR, START + HOUR, START + HOUR]);
        assert!(is_near(&clock, START + HOUR));
    }

    #[test]
    fn of_many_that_disagree_at_the_start_the_earliest_is_taken() {
        let (_, clock) = clock();
        clock.compare(4, &[START + HOUR, START - HOUR, START + 2 * HOUR, START + 3 * HOUR]);
        assert!(is_near(&clock, START - HOUR));
    }

    #[test]
    fn most_of_them_decide() {
        let (_, clock) = clock();
        clock.compare(2, &[START + HOUR, START + HOUR + 5]);
        assert!(is_near(&clock, START + HOUR));
    }
}
