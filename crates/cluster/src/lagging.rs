//! Which nodes are behind with the metadata. Such a node tells clients of what is no more and not of what is, so it is out of
//! routing until it has caught up: clients are not sent there, no change waits for it, and it lets others lead.
//!
//! Nodes tell each other how far they are. One is behind when it lacks what was somewhere applied [`LAG_MAX`] ago, and is back
//! when it has what was [`BACK_LAG_MAX`] ago, as far as this node had heard.

use std::collections::{BTreeSet, VecDeque};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::{LogIndex, NodeId};

/// Who is further behind is out of routing. Nobody is for want of news: who was silent for two seconds is gone.
const LAG_MAX: Duration = Duration::from_secs(5);
/// Who is no further behind than that is back.
const BACK_LAG_MAX: Duration = Duration::from_secs(2);
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
}

/// How far a node has applied the metadata.
pub(crate) type Position = (NodeId, LogIndex);

impl Lagging {
    /// Whether the node is behind.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.0.lock().behind.contains(&node)
    }

    /// Looks at how far this node and those are that are live. Gives who has fallen behind, and who has caught up.
    pub(crate) fn look(&self, positions: &[Position]) -> (Vec<NodeId>, Vec<NodeId>) {
        let mut inner = self.0.lock();
        inner.mark(positions);
        let (needed, back) = (inner.known(LAG_MAX), inner.known(BACK_LAG_MAX));
        // Of who is gone nothing is known.
        inner.behind.retain(|id| positions.iter().any(|(node, _)| node == id));
        let (mut fallen, mut caught_up) = (Vec::new(), Vec::new());
        for (node, applied) in positions {
            if *applied < needed && inner.behind.insert(*node) {
                fallen.push(*node);
            } else if *applied >= back && inner.behind.remove(node) {
                caught_up.push(*node);
            }
        }
        (fallen, caught_up)
    }
}

impl Inner {
    fn mark(&mut self, positions: &[Position]) {
        let furthest = positions.iter().map(|(_, applied)| *applied).max().unwrap_or(LogIndex(0));
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
        [(ONE, LogIndex(one)), (TWO, LogIndex(two))]
    }

    #[tokio::test(start_paused = true)]
    async fn who_lacks_for_long_what_another_has_is_behind_until_it_is_near() {
        let lagging = Lagging::default();
        let nothing = (Vec::new(), Vec::new());
        // Another is a little ahead all the time.
        for index in 10..40 {
            assert_eq!(lagging.look(&at(index, index - 3)), nothing, "{index}");
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(lagging.look(&at(40, 38)), nothing);
        sleep(LAG_MAX / 2).await;
        assert_eq!(lagging.look(&at(50, 38)), nothing);
        sleep(LAG_MAX / 2).await;
        assert_eq!(lagging.look(&at(50, 38)), (vec![TWO], Vec::new()), "it lacks what was there five seconds ago");
        assert!(lagging.has(TWO) && !lagging.has(ONE));
        assert_eq!(lagging.look(&at(60, 49)), nothing, "it lacks what was there two seconds ago");
        assert_eq!(lagging.look(&at(60, 50)), (Vec::new(), vec![TWO]));
        assert!(!lagging.has(TWO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_or_has_just_come_is_not_behind() {
        let lagging = Lagging::default();
        for index in 0..20 {
            assert_eq!(lagging.look(&[(TWO, LogIndex(index))]), (Vec::new(), Vec::new()));
            sleep(Duration::from_secs(1)).await;
        }
        // What others have known for long shows here for the first time.
        assert_eq!(lagging.look(&at(100, 20)), (Vec::new(), Vec::new()));
        sleep(LAG_MAX).await;
        assert_eq!(lagging.look(&at(100, 20)), (vec![TWO], Vec::new()));
        assert_eq!(lagging.look(&[(ONE, LogIndex(100))]), (Vec::new(), Vec::new()));
        assert!(!lagging.has(TWO), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_few_however_often_something_changes() {
        let lagging = Lagging::default();
        for index in 0..10_000 {
            lagging.look(&at(index, index));
            sleep(Duration::from_millis(1)).await;
        }
        assert!(lagging.0.lock().marks.len() <= 2 + (LAG_MAX.as_millis() / MARK_PAUSE.as_millis()) as usize);
    }
}
