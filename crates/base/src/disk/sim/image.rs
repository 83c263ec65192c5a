//! The bytes of one simulated file: what readers see, and what takes the changes back that are not durable.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use crate::random::Random;

/// A disk writes sectors whole or not at all.
const SECTOR_BYTES: usize = 512;
/// The system writes back what it caches in pages, in any order.
const PAGE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Image {
    current: Vec<u8>,
    /// Changes that no sync covered, in order: what is durable is what there was before the first of them.
    pending: VecDeque<Undo>,
    next_change: u64,
}

/// What takes a change back.
#[derive(Debug)]
struct Undo {
    number: u64,
    is_write: bool,
    position: usize,
    /// Bytes of the change itself.
    changed: usize,
    /// What stood there before, as far as the file went.
    before: Vec<u8>,
    len_before: usize,
}

#[derive(Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.current.len() as u64
    }

    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn read(&self, position: u64, len: usize) -> &[u8] {
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(self.current.len());
        let end = start.saturating_add(len).min(self.current.len());
        &self.current[start..end]
    }

    pub(super) fn write(&mut self, position: u64, buffers: &[IoSlice<'_>]) {
        let position = usize::try_from(position).expect("a simulated file fits memory");
        let changed = buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        if changed == 0 {
            return;
        }
        let before = self.read(position as u64, changed).to_vec();
        self.note(true, position, changed, before);
        self.current.resize(self.current.len().max(position + changed), 0);
        let mut at = position;
        for buffer in buffers {
            self.current[at..at + buffer.len()].copy_from_slice(buffer);
            at += buffer.len();
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = usize::try_from(len).expect("a simulated file fits memory");
        let before = self.current.get(len..).unwrap_or_default().to_vec();
        self.note(false, len, 0, before);
        self.current.resize(len, 0);
    }

    fn note(&mut self, is_write: bool, position: usize, changed: usize, before: Vec<u8>) {
        let (number, len_before) = (self.next_change, self.current.len());
        self.pending.push_back(Undo { number, is_write, position, changed, before, len_before });
        self.next_change += 1;
    }

    /// Stands for all changes until now.
    pub(super) fn mark(&self) -> u64 {
        self.next_change
    }

    /// Makes the changes up to `mark` durable.
    pub(super) fn sync(&mut self, mark: u64) {
        let covered = self.pending.partition_point(|change| change.number < mark);
        self.pending.drain(..covered);
    }

    pub(super) fn flip(&mut self, position: u64, mask: u8) {
        let position = usize::try_from(position).expect("a simulated file fits memory");
        self.current[position] ^= mask;
        // A later crash must not bring the right byte back.
        for change in &mut self.pending {
            if let Some(byte) = position.checked_sub(change.position).and_then(|at| change.before.get_mut(at)) {
                *byte ^= mask;
            }
        }
    }

    /// Takes all changes back that no sync covered; what they were, in order.
    fn take_back(&mut self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.pending.len());
        while let Some(Undo { is_write, position, changed, before, len_before, .. }) = self.pending.pop_back() {
            changes.push(if is_write {
                let bytes = self.read(position as u64, changed).to_vec();
                assert_eq!(bytes.len(), changed, "what was written is there");
                Change::Write { position, bytes }
            } else {
                Change::SetLen(self.current.len())
            });
            self.current.resize(len_before, 0);
            self.current[position.min(len_before)..][..before.len()].copy_from_slice(&before);
        }
        changes.reverse();
        changes
    }

    /// Keeps of the unsynced changes what chance lets reach the disk.
    pub(super) fn crash(&mut self, random: &dyn Random) {
        let changes = self.take_back();
        let image = &mut self.current;
        // Now and then nothing or everything reached the disk: both are common in life.
        match random.below(7) {
            0 => {}
            1 => changes.iter().for_each(|change| change.apply(image)),
            2 => keep_first(&changes, image, random),
            3 | 4 => keep_some(&changes, image, random, PAGE_BYTES),
            _ => keep_some(&changes, image, random, SECTOR_BYTES),
        }
    }
}

/// The changes up to some place in the midst of one of them.
fn keep_first(changes: &[Change], image: &mut Vec<u8>, random: &dyn Random) {
    let kept = usize::try_from(random.below(changes.len() as u64 + 1)).expect("a count of changes");
    for change in &changes[..kept] {
        change.apply(image);
    }
    if let Some(torn) = changes.get(kept) {
        let range = torn.range();
        let sectors = range.len().div_ceil(SECTOR_BYTES);
        let sectors = usize::try_from(random.below(sectors as u64 + 1)).expect("a count of sectors");
        let end = (range.start / SECTOR_BYTES + sectors) * SECTOR_BYTES;
        torn.apply_within(image, &(range.start..end));
    }
}

/// Every unit of so many bytes stands as it was after some one of the changes to it.
fn keep_some(changes: &[Change], image: &mut Vec<u8>, random: &dyn Random, unit: usize) {
    for change in changes {
        if let Change::SetLen(len) = change
            && random.below(2) == 0
        {
            image.resize(*len, 0);
        }
    }
    let ends = changes.iter().map(|change| change.range().end);
    let starts = changes.iter().map(|change| change.range().start);
    for number in starts.min().unwrap_or(0) / unit..ends.max().unwrap_or(0).div_ceil(unit) {
        let range = number * unit..(number + 1) * unit;
        let touching: Vec<&Change> = changes.iter().filter(|change| change.touches(&range)).collect();
        let kept = usize::try_from(random.below(touching.len() as u64 + 1)).expect("a count of changes");
        for change in &touching[..kept] {
            change.apply_within(image, &range);
        }
    }
}

impl Change {
    fn range(&self) -> Range<usize> {
        match self {
            Self::Write { position, bytes } => *position..position + bytes.len(),
            Self::SetLen(_) => 0..0,
        }
    }

    fn touches(&self, range: &Range<usize>) -> bool {
        let own = self.range();
        own.start < range.end && own.end > range.start
    }

    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { .. } => self.apply_within(image, &self.range()),
            Self::SetLen(len) => image.resize(*len, 0),
        }
    }

    fn apply_within(&self, image: &mut Vec<u8>, range: &Range<usize>) {
        let Self::Write { position, bytes } = self else { return };
        let own = self.range();
        let (start, end) = (own.start.max(range.start), own.end.min(range.end));
        if start < end {
            if image.len() < end {
                image.resize(end, 0);
            }
            image[start..end].copy_from_slice(&bytes[start - position..end - position]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    /// What it must be: both images as they are, and every change until it is durable.
    #[derive(Default)]
    struct Model {
        current: Vec<u8>,
        durable: Vec<u8>,
        pending: Vec<(u64, Change)>,
    }

    impl Model {
        fn change(&mut self, number: u64, change: Change) {
            change.apply(&mut self.current);
            self.pending.push((number, change));
        }

        fn only_writes(&self) -> bool {
            self.pending.iter().all(|(_, change)| matches!(change, Change::Write { .. }))
        }

        fn sync(&mut self, mark: u64) {
            let covered = self.pending.partition_point(|(number, _)| *number < mark);
            for (_, change) in self.pending.drain(..covered) {
                change.apply(&mut self.durable);
            }
        }
    }

    #[test]
    fn what_is_taken_back_is_what_no_sync_covered() {
        for seed in 0..200 {
            let random = SeededRandom::new(seed);
            let below = |bound: u64| usize::try_from(random.below(bound)).unwrap();
            let (mut image, mut model, mut marks) = (Image::default(), Model::default(), Vec::new());
            for _ in 0..60 {
                let number = image.mark();
                match below(6) {
                    0 => marks.push(number),
                    1 if !marks.is_empty() => {
                        let mark = marks.remove(0);
                        image.sync(mark);
                        model.sync(mark);
                    }
                    2 => {
                        let len = below(4_000);
                        image.set_len(len as u64);
                        model.change(number, Change::SetLen(len));
                    }
                    // What was nothing but zeros until a growth is durable has no byte there that could flip.
                    3 if !model.durable.is_empty() && model.only_writes() => {
                        let position = below(model.durable.len() as u64);
                        image.flip(position as u64, 4);
                        model.current[position] ^= 4;
                        if let Some(byte) = model.durable.get_mut(position) {
                            *byte ^= 4;
                        }
                        for (_, change) in &mut model.pending {
                            if let Change::Write { position: start, bytes } = change
                                && let Some(byte) = position.checked_sub(*start).and_then(|at| bytes.get_mut(at))
                            {
                                *byte ^= 4;
                            }
                        }
                    }
                    _ => {
                        let (position, bytes) = (below(4_000), vec![u8::try_from(below(256)).unwrap(); 1 + below(700)]);
                        let (one, other) = bytes.split_at(bytes.len() / 3);
                        image.write(position as u64, &[IoSlice::new(one), IoSlice::new(other)]);
                        model.change(number, Change::Write { position, bytes });
                    }
                }
                assert!(image.current() == model.current, "seed {seed}");
            }
            let changes = image.take_back();
            assert!(image.current() == model.durable, "seed {seed}");
            assert_eq!(changes.len(), model.pending.len());
            changes.iter().for_each(|change| change.apply(&mut image.current));
            model.pending.iter().for_each(|(_, change)| change.apply(&mut model.durable));
            assert!(image.current() == model.durable, "seed {seed}");
        }
    }
}
