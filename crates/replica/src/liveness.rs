//! What of the log and of the index files is needed: all that the last durable checkpoint refers to, whatever died since.

use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex, ObjectKey};
use storage::index_file::IndexStore;

use crate::core::{Applied, Chores, Core, DurableCheckpoint};
use crate::objects::{Needed, Settled};

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

    /// Where all who read find objects in the place of files and of the log, these can go: at once where the last durable
    /// checkpoint knows of the objects, else with the next one.
    pub(crate) fn settle_objects(&self) {
        let settled = self.here.take_settled();
        if settled.is_empty() {
            return;
        }
        let within = |object: &Settled| self.index.files_within(*object.files.start(), *object.files.end());
        let mut files: Vec<_> = settled.iter().flat_map(within).collect();
        {
            // Where an object of one stream has a place, others may need what was there.
            let state = self.state.read();
            files.retain(|file| !state.shard.is_live_file(*file));
        }
        self.note_dead(&files);
        // Those that are still to be written, too.
        {
            let of_all = |object: &&Settled| object.stream.is_none();
            let in_place = |file: &FileNumber| settled.iter().filter(of_all).any(|object| object.files.contains(file));
            let Chores { sealed, dead } = &mut *self.chores.lock();
            dead.extend(sealed.iter().map(|sealed| sealed.file).filter(in_place));
        }
        if let Some(durable) = &mut *self.checkpoint.lock() {
            let at = durable.id.index;
            settled.iter().filter(|object| object.put_at <= at).for_each(|object| durable.settle(object));
        }
        self.keep_live();
    }

    /// After a replay: files that nothing names go, those that are named and missing are reported.
    pub(crate) fn compare_index_files(&self) {
        // First the files: what stands in the folder was sealed before the look at the state.
        let there = self.index.files();
        let (live, needed, waiting) = {
            let state = self.state.read();
            let chores = self.chores.lock();
            (
                state.shard.live_files(),
                self.here.needed(),
                chores.sealed.iter().map(|sealed| sealed.file).collect::<Vec<_>>(),
            )
        };
        let is_wanted = |file: &FileNumber| live.binary_search(file).is_ok() || needed.has_file(*file);
        let dead: Vec<FileNumber> =
            there.iter().copied().filter(|file| !is_wanted(file) && !waiting.contains(file)).collect();
        for file in live.iter().filter(|file| !waiting.contains(file) && !there.contains(file)) {
            // One that became durable since the look at the folder is there by now.
            if !self.index.files().contains(file) {
                let shard = self.config.shard.0;
                tracing::error!(shard, file = file.0, "an index file is missing: what it names cannot be read");
            }
        }
        for object in self.here.lost() {
            let shard = self.config.shard.0;
            tracing::error!(shard, object = %object.key, "an object is missing: until it comes from another member what it has cannot be read");
        }
        if !dead.is_empty() {
            self.note_dead(&dead);
            self.maintenance.notify_one();
        }
    }

    /// What of the log the state refers to now, or a later one can; none of a state that broke in the middle of a command, which
    /// says nothing of what lives.
    pub(crate) fn live_now(&self) -> Option<Vec<RangeInclusive<LogIndex>>> {
        let state = self.state.read();
        (!state.shard.is_failed() && !self.is_failed()).then(|| live(&state, self.here.needed()))
    }

    /// Whether a start from the last durable checkpoint could look for an index file.
    pub(crate) fn may_come_back(&self, file: FileNumber) -> bool {
        self.checkpoint.lock().as_ref().is_some_and(|durable| durable.files.binary_search(&file).is_ok())
    }

    /// Whether a start from it could look for an object.
    pub(crate) fn may_be_read_again(&self, object: ObjectKey) -> bool {
        self.checkpoint.lock().as_ref().is_some_and(|durable| durable.objects.binary_search(&object).is_ok())
    }
}

impl DurableCheckpoint {
    /// After a start from it an object that is here is read, and what that replaced is not.
    fn settle(&mut self, object: &Settled) {
        if object.stream.is_none() {
            self.files = self.files.iter().copied().filter(|file| !object.files.contains(file)).collect();
            self.live = self.live.iter().flat_map(|live| outside(live, &object.log)).collect();
        }
        let mut objects = self.objects.to_vec();
        objects.retain(|key| !object.replaced.contains(key));
        if let Err(place) = objects.binary_search(&object.key) {
            objects.insert(place, object.key);
        }
        self.objects = objects.into();
    }
}

/// The parts of a range that lie before and behind another one.
fn outside(
    range: &RangeInclusive<LogIndex>,
    other: &RangeInclusive<LogIndex>,
) -> impl Iterator<Item = RangeInclusive<LogIndex>> {
    let before = *range.start()..=(*range.end()).min(LogIndex(other.start().0.saturating_sub(1)));
    let before = Some(before).filter(|_| other.start().0 > 0);
    let behind = (*range.start()).max(other.end().next())..=*range.end();
    before.into_iter().chain([behind]).filter(|part| !part.is_empty())
}

/// Index files that a state refers to, and those in whose place an object would be that is not here.
pub(crate) fn files(applied: &Applied, index: &IndexStore, needed: &Needed) -> Vec<FileNumber> {
    let mut files = applied.shard.live_files();
    let behind_objects = needed.files.iter().flat_map(|files| index.files_within(*files.start(), *files.end()));
    files.extend(behind_objects);
    files.sort_unstable();
    files.dedup();
    files
}

/// What of the log a state refers to, or a later one can, where that is `needed` because of objects.
pub(crate) fn live(applied: &Applied, needed: Needed) -> Vec<RangeInclusive<LogIndex>> {
    let mut live = applied.shard.live_ranges();
    live.extend(needed.log);
    live.extend(applied.shard.unsealed_range());
    live.push(applied.last.map_or(LogIndex(0), |last| last.index.next())..=LogIndex(u64::MAX));
    joined(live)
}

/// The same, in order, and none that overlaps another.
fn joined(mut ranges: Vec<RangeInclusive<LogIndex>>) -> Vec<RangeInclusive<LogIndex>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut joined: Vec<RangeInclusive<LogIndex>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end().0 >= range.start().0.saturating_sub(1) => {
                *last = *last.start()..=(*last.end()).max(*range.end());
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ranges: &[(u64, u64)]) -> Vec<RangeInclusive<LogIndex>> {
        ranges.iter().map(|(from, to)| LogIndex(*from)..=LogIndex(*to)).collect()
    }

    #[test]
    fn ranges_are_joined_and_in_order() {
        for (given, expected) in [
            (&[][..], &[][..]),
            (&[(90, 170), (90, 134), (172, u64::MAX)], &[(90, 170), (172, u64::MAX)]),
            (&[(5, 4), (7, 8), (0, 6)], &[(0, 8)]),
            (&[(10, 20), (0, 5), (15, 30), (3, 7)], &[(0, 7), (10, 30)]),
        ] {
            assert_eq!(joined(ranges(given)), ranges(expected), "{given:?}");
        }
    }

    #[test]
    fn what_lies_outside_of_a_range_is_left() {
        for (other, expected) in [
            ((20, 30), &[(10, 15)][..]),
            ((0, 9), &[(10, 15)]),
            ((10, 15), &[]),
            ((0, u64::MAX - 1), &[]),
            ((12, 13), &[(10, 11), (14, 15)]),
            ((0, 12), &[(13, 15)]),
            ((12, 40), &[(10, 11)]),
        ] {
            let other = LogIndex(other.0)..=LogIndex(other.1);
            let left: Vec<_> = outside(&(LogIndex(10)..=LogIndex(15)), &other).collect();
            assert_eq!(left, ranges(expected), "{other:?}");
        }
    }
}
