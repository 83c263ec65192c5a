//! What of the log and of the index files is needed: all that the last durable checkpoint refers to, whatever died since.

use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex};

use crate::core::{Applied, Core};

impl Core {
    /// Tells the commit log which of its entries are needed: those that the last durable checkpoint refers to, whatever died
    /// since. After a crash the state is that one again, and is read before it has come as far as it was.
    pub(crate) fn keep_live(&self) {
        // Nothing is purged before the first.
        let Some(durable) = self.durable_checkpoint() else { return };
        let mut live = durable.live.to_vec();
        live.extend(self.pins.ranges());
        self.log.keep(live);
    }

    /// What of the log the state refers to now, or a later one can; none of a state that broke in the middle of a command, which
    /// says nothing of what lives.
    pub(crate) fn live_now(&self) -> Option<Vec<RangeInclusive<LogIndex>>> {
        let state = self.state.read();
        (!state.shard.is_failed() && !self.is_failed()).then(|| live(&state))
    }

    /// Whether a start from the last durable checkpoint could look for an index file.
    pub(crate) fn may_come_back(&self, file: FileNumber) -> bool {
        self.checkpoint.lock().as_ref().is_some_and(|durable| durable.files.binary_search(&file).is_ok())
    }
}

/// What of the log a state refers to, or a later one can.
pub(crate) fn live(applied: &Applied) -> Vec<RangeInclusive<LogIndex>> {
    let mut live = applied.shard.live_ranges();
    live.extend(applied.shard.unsealed_range());
    live.push(applied.last.map_or(LogIndex(0), |last| last.index.next())..=LogIndex(u64::MAX));
    live
}
