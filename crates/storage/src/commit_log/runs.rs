//! Where a shard's entries stand: runs of consecutive indexes, each in one segment.
//!
//! Runs never overlap. A write at an index replaces whatever was known from that index on, because
//! a log is only ever continued behind its end.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use record::{LogIndex, Term};

use super::footer::Slot;
use super::segment::Segment;

/// Consecutive entries of one term in one segment.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) segment: Arc<Segment>,
    pub(crate) term: Term,
    pub(crate) count: u32,
    pub(crate) slots: Slots,
}

/// The slots of a run.
#[derive(Debug, Clone)]
pub(crate) enum Slots {
    Memory(Vec<Slot>),
    /// In the segment's footer, whose slot blocks begin at `slots_at`.
    File {
        slots_at: u32,
        first_slot: u32,
    },
}

/// Where an entry stands.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) segment: Arc<Segment>,
    pub(crate) term: Term,
    pub(crate) slot: SlotPlace,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum SlotPlace {
    Known(Slot),
    File { slots_at: u32, number: u32 },
}

/// All runs of a shard, by their first index.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: BTreeMap<u64, Run>,
}

impl Runs {
    pub(crate) fn locate(&self, index: LogIndex) -> Option<Located> {
        let (first, run) = self.runs.range(..=index.0).next_back()?;
        let place = u32::try_from(index.0 - first).ok().filter(|place| *place < run.count)?;
        let slot = match &run.slots {
            Slots::Memory(slots) => SlotPlace::Known(slots[place as usize]),
            Slots::File { slots_at, first_slot } => SlotPlace::File { slots_at: *slots_at, number: first_slot + place },
        };
        Some(Located { segment: Arc::clone(&run.segment), term: run.term, slot })
    }

    /// Adds an entry that was written. What was known from `index` on is stale by that.
    /// Returns whether a new run began.
    pub(crate) fn push(&mut self, segment: &Arc<Segment>, term: Term, index: LogIndex, slot: Slot) -> bool {
        if let Some(mut last) = self.runs.last_entry() {
            let next = last.key() + u64::from(last.get().count);
            let run = last.get_mut();
            if next == index.0
                && run.term == term
                && Arc::ptr_eq(&run.segment, segment)
                && let Slots::Memory(slots) = &mut run.slots
            {
                slots.push(slot);
                run.count += 1;
                return false;
            }
            if next > index.0 {
                self.truncate_from(index.0);
            }
        }
        let run = Run { segment: Arc::clone(segment), term, count: 1, slots: Slots::Memory(vec![slot]) };
        self.runs.insert(index.0, run);
        true
    }

    /// Adds a whole run; what was known from its first index on is stale by that.
    pub(crate) fn insert(&mut self, first: LogIndex, run: Run) {
        assert!(run.count > 0, "a run is not empty");
        self.truncate_from(first.0);
        self.runs.insert(first.0, run);
    }

    /// Forgets all entries from `index` on.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        drop(self.runs.split_off(&index));
        let Some(mut last) = self.runs.last_entry() else { return };
        let keep = index - last.key();
        let run = last.get_mut();
        if keep < u64::from(run.count) {
            run.count = u32::try_from(keep).expect("less than a count");
            assert!(run.count > 0, "a run that begins before the cut keeps its first entry");
            if let Slots::Memory(slots) = &mut run.slots {
                slots.truncate(run.count as usize);
            }
        }
    }

    /// First index and length of the runs that hold `index` or lie behind it.
    pub(crate) fn counts_from(&self, index: u64) -> impl Iterator<Item = (u64, u32)> {
        let from = self.runs.range(..=index).next_back().map_or(index, |(first, _)| *first);
        self.runs.range(from..).map(|(first, run)| (*first, run.count))
    }

    /// The first index of the runs up to `through` whose segments together have at most `bytes`.
    pub(crate) fn kept_within(&self, through: u64, bytes: u64) -> Option<u64> {
        let (mut left, mut counted, mut from) = (bytes, None, None);
        for (first, run) in self.runs.range(..=through).rev() {
            if counted != Some(run.segment.sequence) {
                let Some(rest) = left.checked_sub(u64::from(run.segment.capacity)) else { break };
                left = rest;
                counted = Some(run.segment.sequence);
            }
            from = Some(*first);
        }
        from
    }

    /// From where on the entries lie in segments from `sequence` on; the index behind the last one when none do.
    pub(crate) fn first_in_segment(&self, sequence: u32) -> Option<u64> {
        let mut from = None;
        for (first, run) in self.runs.iter().rev() {
            if run.segment.sequence < sequence {
                return Some(from.unwrap_or_else(|| first + u64::from(run.count)));
            }
            from = Some(*first);
        }
        from
    }

    /// The newest segment that holds something.
    pub(crate) fn newest_segment(&self) -> Option<&Arc<Segment>> {
        self.runs.values().next_back().map(|run| &run.segment)
    }

    /// The segments of the runs next to `index` on both sides.
    pub(crate) fn around(&self, index: u64) -> (Option<&Arc<Segment>>, Option<&Arc<Segment>>) {
        let before = self.runs.range(..index).next_back().map(|(_, run)| &run.segment);
        let behind = self.runs.range(index..).next().map(|(_, run)| &run.segment);
        (before, behind)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Run)> {
        self.runs.iter().map(|(first, run)| (*first, run))
    }

    /// Drops runs of sealed segments of which nothing is wanted.
    pub(crate) fn drop_dead(&mut self, wanted: impl Fn(RangeInclusive<u64>) -> bool) {
        self.runs.retain(|first, run| !run.segment.is_sealed() || wanted(*first..=*first + u64::from(run.count) - 1));
    }

    /// Takes the slots of a sealed segment's runs out of memory. `first_slots` gives, for the first
    /// index that a run had when the footer was made, the number of its slot there.
    pub(crate) fn move_to_file(&mut self, segment: &Arc<Segment>, slots_at: u32, first_slots: &BTreeMap<u64, u32>) {
        for (first, run) in &mut self.runs {
            if Arc::ptr_eq(&run.segment, segment)
                && matches!(run.slots, Slots::Memory(_))
                && let Some(first_slot) = first_slots.get(first)
            {
                run.slots = Slots::File { slots_at, first_slot: *first_slot };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use base::disk::{Disk, OpenOptions, RealDisk};

    use super::*;
    use crate::types::EntryKind;

    fn segment(sequence: u32) -> Arc<Segment> {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), OpenOptions::create_new()).unwrap();
        Arc::new(Segment::new(sequence, PathBuf::new(), file, 1 << 20, 0, true))
    }

    fn push(runs: &mut Runs, segment: &Arc<Segment>, index: u64) {
        let offset = u32::try_from(index * 8).unwrap();
        runs.push(segment, Term(1), LogIndex(index), Slot::new(offset, 1, EntryKind::Commands));
    }

    fn known(runs: &Runs) -> Vec<(u64, u32)> {
        (0..100).filter_map(|index| runs.locate(LogIndex(index)).map(|found| (index, found.segment.sequence))).collect()
    }

    #[test]
    fn a_write_replaces_what_was_known_behind_it() {
        let (first, second) = (segment(1), segment(2));
        let mut runs = Runs::default();
        (3..8).for_each(|index| push(&mut runs, &first, index));
        assert_eq!(known(&runs).len(), 5);
        runs.truncate_from(6);
        assert_eq!(known(&runs), [(3, 1), (4, 1), (5, 1)]);
        push(&mut runs, &second, 6);
        push(&mut runs, &second, 5);
        assert_eq!(known(&runs), [(3, 1), (4, 1), (5, 2)]);
        runs.truncate_from(0);
        assert_eq!(known(&runs), []);
    }

    #[test]
    fn what_is_kept_is_counted_in_whole_segments() {
        let mut runs = Runs::default();
        for (sequence, indexes) in [(1, 0..4), (2, 4..6), (3, 6..9)] {
            let segment = segment(sequence);
            indexes.for_each(|index| push(&mut runs, &segment, index));
        }
        let capacity = 1 << 20;
        assert_eq!(runs.kept_within(8, capacity - 1), None);
        assert_eq!(runs.kept_within(8, capacity), Some(6));
        assert_eq!(runs.kept_within(8, 2 * capacity + 5), Some(4));
        assert_eq!(runs.kept_within(5, 2 * capacity), Some(0));
        assert_eq!(runs.kept_within(8, u64::MAX), Some(0));
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let only = segment(1);
        let mut runs = Runs::default();
        push(&mut runs, &only, 3);
        push(&mut runs, &only, 9);
        assert_eq!(known(&runs), [(3, 1), (9, 1)]);
    }

    #[test]
    fn only_dead_runs_of_sealed_segments_go() {
        let (first, second) = (segment(1), segment(2));
        let mut runs = Runs::default();
        (0..3).for_each(|index| push(&mut runs, &first, index));
        (3..6).for_each(|index| push(&mut runs, &second, index));
        first.set_sealed();
        runs.drop_dead(|range| *range.end() >= 2);
        assert_eq!(known(&runs).len(), 6);
        runs.drop_dead(|_| false);
        assert_eq!(known(&runs), [(3, 2), (4, 2), (5, 2)]);
    }
}
