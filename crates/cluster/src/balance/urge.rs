//! When streams move: at once where a shard came, or an operator says so; after a while where shards have come to differ
//! by themselves. Topics come and go, and what evens out tomorrow is not worth a pause of a partition today.

use std::collections::{BTreeMap, BTreeSet};

use base::time::{Duration, Instant};
use record::{NodeId, ShardId};
use shard::{Shard, Standing, TopicState};

use super::is_worth_it;
use crate::cluster::METADATA;

/// A great difference needs so much less patience than a small one.
const FAR_APART_PATIENCE_PART: u32 = 20;
/// Shards are far apart when one has so many streams more than twice another's.
const FAR_APART_MORE: usize = 8;

/// How many streams each shard has that could take more.
pub(super) fn loads(metadata: &Shard) -> BTreeMap<ShardId, usize> {
    let stays = |id: &NodeId| metadata.standing(*id) == Some(Standing::Member);
    let is_used = |shard: ShardId| shard != METADATA && metadata.founder(shard).is_none();
    let shards = metadata.shard_records().into_iter().filter(|shard| is_used(shard.id));
    let mut loads: BTreeMap<ShardId, usize> =
        shards.filter(|shard| shard.voters.iter().any(stays)).map(|shard| (shard.id, 0)).collect();
    for topic in metadata.topics().filter(|topic| topic.state == TopicState::Live) {
        for home in topic.live().iter().filter_map(|placement| placement.history.last()) {
            if let Some(load) = loads.get_mut(&home.shard) {
                *load += 1;
            }
        }
    }
    loads
}

#[derive(Debug, Default)]
pub(super) struct Urge {
    /// The version of the metadata that was looked at last.
    pub(super) seen: Option<u64>,
    shards: BTreeSet<ShardId>,
    /// An operator said that streams stay where they are.
    stopped: bool,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Even,
    /// Uneven; streams move when it still is then.
    Waits { until: Instant, far_apart: bool },
    /// Until it is even.
    Moves,
}

impl Urge {
    /// Whether streams may move; when they may again, whoever says so waits for it.
    pub(super) fn told(&mut self, rebalances: bool) {
        if rebalances && self.stopped {
            self.state = State::Moves;
            self.seen = None;
        }
        self.stopped = !rebalances;
    }

    pub(super) fn look(&mut self, loads: BTreeMap<ShardId, usize>, patience: Duration, now: Instant) {
        let most = loads.values().max().copied().unwrap_or(0);
        let least = loads.values().min().copied().unwrap_or(0);
        let shards: BTreeSet<ShardId> = loads.into_keys().collect();
        let has_grown = !self.shards.is_empty() && !shards.is_subset(&self.shards);
        self.shards = shards;
        let far_apart = most >= 2 * least + FAR_APART_MORE;
        let patience = if far_apart { patience / FAR_APART_PATIENCE_PART } else { patience };
        match &mut self.state {
            state if !is_worth_it(most, least) => *state = State::Even,
            state if has_grown => *state = State::Moves,
            state @ State::Even => *state = State::Waits { until: now + patience, far_apart },
            State::Waits { until, far_apart: was_far_apart } => {
                if far_apart && !*was_far_apart {
                    *until = (*until).min(now + patience);
                }
                *was_far_apart = far_apart;
            }
            State::Moves => {}
        }
    }

    /// Whether it is time for the next streams to move.
    pub(super) fn moves(&mut self, now: Instant) -> bool {
        if let State::Waits { until, .. } = self.state
            && now >= until
        {
            self.state = State::Moves;
        }
        self.state == State::Moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    fn loads(counts: &[usize]) -> BTreeMap<ShardId, usize> {
        (1..).map(ShardId).zip(counts.iter().copied()).collect()
    }

    struct Case {
        urge: Urge,
        began: Instant,
    }

    impl Case {
        fn new(counts: &[usize]) -> Self {
            let mut case = Self { urge: Urge::default(), began: base::time::now() };
            case.look(0, counts);
            case
        }

        fn look(&mut self, second: u64, counts: &[usize]) {
            self.urge.look(loads(counts), PATIENCE, self.began + Duration::from_secs(second));
        }

        fn moves(&mut self, second: u64) -> bool {
            self.urge.moves(self.began + Duration::from_secs(second))
        }
    }

    #[test]
    fn a_shard_that_comes_gets_its_streams_at_once_and_all_of_them() {
        let mut case = Case::new(&[3, 3]);
        assert!(!case.moves(0));
        case.look(1, &[3, 3, 0]);
        assert!(case.moves(1));
        case.look(2, &[3, 2, 1]);
        assert!(case.moves(2), "until it is even");
        case.look(3, &[2, 2, 2]);
        assert!(!case.moves(3));
    }

    #[test]
    fn topics_that_come_and_go_move_nothing() {
        let mut case = Case::new(&[1, 1]);
        case.look(10, &[0, 2]);
        assert!(!case.moves(10) && !case.moves(609));
        case.look(609, &[1, 2]);
        case.look(610, &[3, 1]);
        assert!(!case.moves(611), "it was even meanwhile");
        assert!(case.moves(1_210));
    }

    #[test]
    fn far_apart_is_waited_for_less() {
        let mut case = Case::new(&[4, 2]);
        assert!(!case.moves(100));
        case.look(100, &[20, 2]);
        assert!(!case.moves(129));
        assert!(case.moves(130));
    }

    #[test]
    fn who_said_that_they_stay_and_then_that_they_move_need_not_wait() {
        let mut case = Case::new(&[4, 2]);
        case.urge.told(false);
        assert!(!case.moves(0));
        case.urge.told(true);
        case.look(1, &[4, 2]);
        assert!(case.moves(1));
        case.look(2, &[3, 3]);
        case.urge.told(true);
        assert!(!case.moves(2));
    }
}
