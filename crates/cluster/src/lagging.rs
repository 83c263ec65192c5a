//! Which nodes are behind with the metadata. Such a node tells clients of what is no more and not of what is, so it lets others
//! lead, and when it leads nothing it is out of routing until it has caught up: clients are not sent there, and no change
//! waits for it. One that still leads stays, as long as nobody can lead in its place.
//!
//! Nodes tell each other how far they are, and each judges by what it has heard. One is behind when it lacks what was applied
//! somewhere [`LAG_MAX`] ago, and not any more when it has all that is. Nobody is while the metadata has no leader from whom to
//! learn it, or for what only nodes have that are gone.

use std::collections::{BTreeSet, VecDeque};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::{LogIndex, NodeId};

/// Who is further behind is out of routing, and sooner than a change ceases to wait for it. Nobody is for want of news: who was
/// silent for two seconds is gone.
const LAG_MAX: Duration = Duration::from_secs(3);
/// Marks are at least so far apart, which bounds them.
const MARK_PAUSE: Duration = Duration::from_millis(250);

/// What this node knows of it.
#[derive(Debug, Default)]
pub(crate) struct Lagging(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How far the furthest node was, oldest first: one that is older than [`LAG_MAX`] and those that are not.
    marks: VecDeque<(Instant, LogIndex)>,
    behind: BTreeSet<NodeId>,
    /// Those of them that lead nothing.
    hidden: BTreeSet<NodeId>,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) node: NodeId,
    /// How far it has applied the metadata.
    pub(crate) applied: LogIndex,
    /// Whether it leads a shard.
    pub(crate) leads: bool,
}

/// What a look has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) fallen: Vec<NodeId>,
    pub(crate) caught_up: Vec<NodeId>,
    /// Other nodes are out of routing than before.
    pub(crate) routing: bool,
}

impl Lagging {
    /// Whether the node is behind.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.0.lock().behind.contains(&node)
    }

    /// Whether the node is behind and leads nothing.
    pub(crate) fn hides(&self, node: NodeId) -> bool {
        self.0.lock().hidden.contains(&node)
    }

    /// Looks at this node and those that are live. `is_led` says whether the metadata has a leader who is one of them.
    pub(crate) fn look(&self, positions: &[Position], is_led: bool) -> Changes {
        let mut inner = self.0.lock();
        let furthest = positions.iter().map(|position| position.applied).max().unwrap_or(LogIndex(0));
        // Without a leader nobody can catch up; with the next one the time begins anew.
        if !is_led {
            inner.marks.clear();
        }
        inner.mark(furthest);
        let needed = inner.known(LAG_MAX).min(furthest);
        // Of who is gone nothing is known.
        inner.behind.retain(|id| positions.iter().any(|position| position.node == *id));
        let mut changes = Changes::default();
        for Position { node, applied, .. } in positions {
            if *applied < needed && inner.behind.insert(*node) {
                changes.fallen.push(*node);
            } else if (*applied >= furthest || !is_led) && inner.behind.remove(node) {
                changes.caught_up.push(*node);
            }
        }
        let leads = |id: &NodeId| positions.iter().any(|position| position.node == *id && position.leads);
        let hidden: BTreeSet<NodeId> = inner.behind.iter().filter(|id| !leads(id)).copied().collect();
        changes.routing = hidden != inner.hidden;
        inner.hidden = hidden;
        changes
    }
}

impl Inner {
    fn mark(&mut self, furthest: LogIndex) {
        let is_news = self.marks.back().is_none_or(|(at, last)| furthest > *last && at.elapsed() >= MARK_PAUSE);
        if is_news {
            self.marks.push_back((now(), furthest));
        }
        while self.marks.get(1).is_some_and(|(at, _)| at.elapsed() >= LAG_MAX) {
            self.marks.pop_front();
        }
    }

    /// How far the furthest was that long ago, as it was known then.
    fn known(&self, ago: Duration) -> LogIndex {
        let old = self.marks.iter().rev().find(|(at, _)| at.elapsed() >= ago);
        old.map_or(LogIndex(0), |(_, furthest)| *furthest)
    }
}

#[cfg(test)]
mod tests {
    use base::time::sleep;

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn at(one: u64, two: u64) -> [Position; 2] {
        [(ONE, one), (TWO, two)].map(|(node, applied)| Position { node, applied: LogIndex(applied), leads: false })
    }

    fn fallen(node: NodeId) -> Changes {
        Changes { fallen: vec![node], caught_up: Vec::new(), routing: true }
    }

    fn caught_up(node: NodeId) -> Changes {
        Changes { fallen: Vec::new(), caught_up: vec![node], routing: true }
    }

    #[tokio::test(start_paused = true)]
    async fn who_lacks_for_long_what_another_has_is_behind_until_it_has_all() {
        let lagging = Lagging::default();
        let nothing = Changes::default();
        // Another is a little ahead all the time.
        for index in 10..40 {
            assert_eq!(lagging.look(&at(index, index - 2), true), nothing, "{index}");
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(lagging.look(&at(40, 39), true), nothing);
        sleep(LAG_MAX / 2).await;
        assert_eq!(lagging.look(&at(50, 39), true), nothing);
        sleep(LAG_MAX / 2).await;
        assert_eq!(lagging.look(&at(50, 39), true), fallen(TWO), "it lacks what was there so long ago");
        assert!(lagging.has(TWO) && lagging.hides(TWO) && !lagging.has(ONE));
        assert_eq!(lagging.look(&at(60, 59), true), nothing);
        assert_eq!(lagging.look(&at(60, 60), true), caught_up(TWO));
        assert!(!lagging.has(TWO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leads_stays_in_routing() {
        let lagging = Lagging::default();
        let mut positions = at(100, 20);
        positions[1].leads = true;
        lagging.look(&positions, true);
        sleep(LAG_MAX).await;
        assert_eq!(lagging.look(&positions, true), Changes { routing: false, ..fallen(TWO) });
        assert!(lagging.has(TWO) && !lagging.hides(TWO));
        positions[1].leads = false;
        assert_eq!(lagging.look(&positions, true), Changes { routing: true, ..Changes::default() });
        assert!(lagging.hides(TWO));
        positions[1].leads = true;
        assert!(lagging.look(&positions, true).routing && !lagging.hides(TWO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_or_has_just_come_or_survives_who_was_further_is_not_behind() {
        let lagging = Lagging::default();
        for index in 0..20 {
            assert_eq!(lagging.look(&at(0, index)[1..], true), Changes::default());
            sleep(Duration::from_secs(1)).await;
        }
        // What others have known for long shows here for the first time.
        assert_eq!(lagging.look(&at(100, 20), true), Changes::default());
        sleep(LAG_MAX).await;
        assert_eq!(lagging.look(&at(100, 20), true), fallen(TWO));
        assert_eq!(lagging.look(&at(100, 20)[..1], true), Changes { routing: true, ..Changes::default() });
        assert!(!lagging.has(TWO), "it is gone");
        assert_eq!(lagging.look(&at(100, 20)[1..], true), Changes::default(), "nobody there has more");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_behind_while_nobody_leads_the_metadata() {
        let lagging = Lagging::default();
        lagging.look(&at(100, 20), true);
        sleep(LAG_MAX).await;
        assert_eq!(lagging.look(&at(100, 20), true), fallen(TWO));
        assert_eq!(lagging.look(&at(100, 20), false), caught_up(TWO));
        sleep(2 * LAG_MAX).await;
        assert_eq!(lagging.look(&at(100, 20), false), Changes::default());
        // From the next leader it has time to learn it.
        assert_eq!(lagging.look(&at(100, 20), true), Changes::default());
        sleep(LAG_MAX).await;
        assert_eq!(lagging.look(&at(100, 20), true), fallen(TWO));
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_few_however_often_something_changes() {
        let lagging = Lagging::default();
        for index in 0..10_000 {
            lagging.look(&at(index, index), true);
            sleep(Duration::from_millis(1)).await;
        }
        assert!(lagging.0.lock().marks.len() <= 2 + (LAG_MAX.as_millis() / MARK_PAUSE.as_millis()) as usize);
    }
}
