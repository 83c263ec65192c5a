//! Who may still read where something was before it had another place.
//!
//! Whoever looks up where batches are, and reads them there, is counted from before the look to the end of the read. What loses
//! its place stays until all are done who came before.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// One who reads; until its drop.
#[derive(Debug, Clone)]
pub(crate) struct Reader(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// Those who came between two changes of places; the number rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    turn: u64,
    /// Held by each who came in this turn.
    now: Arc<()>,
    /// Turns that ended, of which somebody may still read; the oldest first.
    before: VecDeque<(Turn, Arc<()>)>,
}

impl Readers {
    /// Before a place is looked up.
    pub(crate) fn enter(&self) -> Reader {
        Reader(Arc::clone(&self.0.lock().now))
    }

    /// Something has another place from now on: the turn of all who may read where it was.
    pub(crate) fn end_turn(&self) -> Turn {
        let mut inner = self.0.lock();
        let turn = Turn(inner.turn);
        let now = std::mem::take(&mut inner.now);
        inner.before.push_back((turn, now));
        inner.turn += 1;
        turn
    }

    /// Whether all who came up to the end of that turn are done.
    pub(crate) fn are_done(&self, turn: Turn) -> bool {
        let mut inner = self.0.lock();
        while inner.before.front().is_some_and(|(_, held)| Arc::strong_count(held) == 1) {
            inner.before.pop_front();
        }
        inner.before.front().is_none_or(|(oldest, _)| *oldest > turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_all_are_done_who_came_up_to_its_end() {
        let readers = Readers::default();
        let first = readers.enter();
        let one = readers.end_turn();
        let second = readers.enter();
        let two = readers.end_turn();
        let third = readers.enter();
        assert!(!readers.are_done(one) && !readers.are_done(two));
        drop(second);
        assert!(!readers.are_done(two), "one of the turn before reads on");
        drop(first);
        assert!(readers.are_done(one) && readers.are_done(two));
        let three = readers.end_turn();
        let again = third.clone();
        drop(third);
        assert!(!readers.are_done(three), "a plan may be cloned");
        drop(again);
        assert!(readers.are_done(three));
    }
}
