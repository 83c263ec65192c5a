//! The bytes of one simulated file: what readers see, what is durable, and the changes between.

use std::ops::Range;

use crate::random::Random;

/// A disk writes sectors whole or not at all.
const SECTOR_BYTES: usize = 512;
/// The system writes back what it caches in pages, in any order.
const PAGE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Image {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Changes that no sync covered, in order.
    pending: Vec<(u64, Change)>,
    next_change: u64,
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

    pub(super) fn write(&mut self, position: u64, bytes: Vec<u8>) {
        let position = usize::try_from(position).expect("a simulated file fits memory");
        self.change(Change::Write { position, bytes });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = usize::try_from(len).expect("a simulated file fits memory");
        self.change(Change::SetLen(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push((self.next_change, change));
        self.next_change += 1;
    }

    /// Stands for all changes until now.
    pub(super) fn mark(&self) -> u64 {
        self.next_change
    }

    /// Makes the changes up to `mark` durable.
    pub(super) fn sync(&mut self, mark: u64) {
        let covered = self.pending.partition_point(|(number, _)| *number < mark);
        for (_, change) in self.pending.drain(..covered) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn flip(&mut self, position: u64, mask: u8) {
        let position = usize::try_from(position).expect("a simulated file fits memory");
        self.current[position] ^= mask;
        if let Some(byte) = self.durable.get_mut(position) {
            *byte ^= mask;
        }
        // A later crash must not bring the right byte back.
        for (_, change) in &mut self.pending {
            if let Change::Write { position: start, bytes } = change
                && let Some(byte) = position.checked_sub(*start).and_then(|at| bytes.get_mut(at))
            {
                *byte ^= mask;
            }
        }
    }

    /// Keeps of the unsynced changes what chance lets reach the disk.
    pub(super) fn crash(&mut self, random: &dyn Random) {
        let mut image = std::mem::take(&mut self.durable);
        // Now and then nothing or everything reached the disk: both are common in life.
        match random.below(7) {
            0 => {}
            1 => self.pending.iter().for_each(|(_, change)| change.apply(&mut image)),
            2 => self.keep_first(&mut image, random),
            3 | 4 => self.keep_some(&mut image, random, PAGE_BYTES),
            _ => self.keep_some(&mut image, random, SECTOR_BYTES),
        }
        self.pending.clear();
        self.current.clone_from(&image);
        self.durable = image;
    }

    /// The changes up to some place in the midst of one of them.
    fn keep_first(&self, image: &mut Vec<u8>, random: &dyn Random) {
        let kept = usize::try_from(random.below(self.pending.len() as u64 + 1)).expect("a count of changes");
        for (_, change) in &self.pending[..kept] {
            change.apply(image);
        }
        if let Some((_, torn)) = self.pending.get(kept) {
            let range = torn.range();
            let sectors = range.len().div_ceil(SECTOR_BYTES);
            let sectors = usize::try_from(random.below(sectors as u64 + 1)).expect("a count of sectors");
            let end = (range.start / SECTOR_BYTES + sectors) * SECTOR_BYTES;
            torn.apply_within(image, &(range.start..end));
        }
    }

    /// Every unit of so many bytes stands as it was after some one of the changes to it.
    fn keep_some(&self, image: &mut Vec<u8>, random: &dyn Random, unit: usize) {
        for (_, change) in &self.pending {
            if let Change::SetLen(len) = change
                && random.below(2) == 0
            {
                image.resize(*len, 0);
            }
        }
        let ends = self.pending.iter().map(|(_, change)| change.range().end);
        let starts = self.pending.iter().map(|(_, change)| change.range().start);
        for number in starts.min().unwrap_or(0) / unit..ends.max().unwrap_or(0).div_ceil(unit) {
            let range = number * unit..(number + 1) * unit;
            let touching: Vec<&Change> =
                self.pending.iter().map(|(_, change)| change).filter(|change| change.touches(&range)).collect();
            let kept = usize::try_from(random.below(touching.len() as u64 + 1)).expect("a count of changes");
            for change in &touching[..kept] {
                change.apply_within(image, &range);
            }
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
