//! Memory for one answer, taken as it is read.
//!
//! An answer has the memory of its first batch before it begins. More it takes as it goes, at once or
//! not at all, and only as long as it leaves others as much as it has: so there is nearly always some
//! left, and whoever finds little is answered with little instead of waiting. What turns out to stay
//! in files is given back while the rest is read.

use base::memory::{Permit, Share};

use super::StoredBatch;

/// So much is taken at a time, as more is likely to follow.
const STEP_BYTES: usize = 256 << 10;

/// Memory of an answer that is being read.
#[derive(Debug)]
pub struct AnswerMemory<'a> {
    /// None: without bound.
    share: Option<&'a Share>,
    permit: Permit,
    used: usize,
    bytes_max: usize,
}

impl<'a> AnswerMemory<'a> {
    /// What was got of `share`; it may grow to `bytes_max`.
    pub fn new(share: &'a Share, permit: Permit, bytes_max: usize) -> Self {
        Self { share: Some(share), permit, used: 0, bytes_max }
    }

    pub(super) fn unbounded() -> Self {
        Self { share: None, permit: Permit::empty(), used: 0, bytes_max: usize::MAX }
    }

    /// Whether so much is here; a batch larger than the whole share takes all of it.
    #[must_use]
    pub fn covers(&self, bytes: usize) -> bool {
        self.share.is_none_or(|share| bytes.min(share.bytes_max()) <= self.permit.bytes())
    }

    /// Takes as much as is missing of `bytes`, if it is there at once.
    pub fn try_cover(&mut self, bytes: usize) -> bool {
        if self.covers(bytes) {
            return true;
        }
        let Some(share) = self.share.filter(|_| bytes <= self.bytes_max) else { return false };
        let more = share.try_acquire(bytes.min(share.bytes_max()) - self.permit.bytes());
        more.is_some_and(|more| {
            self.permit.merge(more);
            true
        })
    }

    /// Begins an answer of so many batches, the first of so many bytes. How many of them may be read: at least
    /// one, which is to be covered.
    pub fn begin(&mut self, first_bytes: u64, batches: usize) -> usize {
        self.used = 0;
        let first = usize::try_from(first_bytes).unwrap_or(usize::MAX);
        let of = |batches: usize| first.saturating_add(batches.saturating_mul(StoredBatch::OVERHEAD_BYTES));
        let mut batches = batches;
        while batches > 1 && !self.take(of(batches)) {
            let here = self.permit.bytes().saturating_sub(first) / StoredBatch::OVERHEAD_BYTES;
            batches = (batches / 2).max(here.min(batches - 1)).max(1);
        }
        self.used = batches.saturating_mul(StoredBatch::OVERHEAD_BYTES);
        batches
    }

    /// What is needed until the end of the answer; the rest is given back.
    pub fn end(mut self, bytes: usize) -> Permit {
        self.permit.split(bytes)
    }

    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        let takes = self.share.is_none() || used <= self.permit.bytes() || self.grow(used);
        if takes {
            self.used = used;
        }
        takes
    }

    /// The first batch, which is read in any case.
    pub(super) fn take_first(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
        assert!(self.covers(self.used), "memory for the first batch was taken before");
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        assert!(bytes <= self.used, "no more is given back than was taken");
        self.used -= bytes;
    }

    fn grow(&mut self, needed: usize) -> bool {
        let Some(share) = self.share else { return true };
        let here = self.permit.bytes();
        let step = here.saturating_add(STEP_BYTES).min(self.bytes_max);
        [step.max(needed), needed].into_iter().any(|wanted| {
            let more = wanted - here;
            let left = share.bytes_max().saturating_sub(share.used()).saturating_sub(more);
            if wanted > self.bytes_max || left < wanted {
                return false;
            }
            let Some(more) = share.try_acquire(more) else { return false };
            self.permit.merge(more);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn an_answer_grows_as_long_as_it_leaves_as_much_as_it_has() {
        let share = Share::new("test", 16 * MIB);
        let permits: Vec<_> = [8, 4, 2, 1]
            .into_iter()
            .map(|expected| {
                let mut memory = AnswerMemory::new(&share, share.try_acquire(1_000).expect("there"), usize::MAX);
                let mut taken = 0;
                while memory.take(MIB / 16) {
                    taken += MIB / 16;
                }
                assert_eq!(taken, expected * MIB);
                memory.end(taken)
            })
            .collect();
        assert_eq!(share.used(), 15 * MIB);
        drop(permits);
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let share = Share::new("test", 1_600);
        let mut memory = AnswerMemory::new(&share, share.try_acquire(1_600).expect("there"), usize::MAX);
        for _ in 0..10 {
            assert!(memory.take(1_600) && !memory.take(1));
            memory.give_back(1_600);
        }
        drop(memory.end(0));
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn batches_are_left_out_when_there_is_no_memory_for_what_they_take_beside_their_bytes() {
        let check = |here: usize, expected: usize| {
            let share = Share::new("test", here);
            let mut memory = AnswerMemory::new(&share, share.try_acquire(here).expect("there"), usize::MAX);
            assert_eq!(memory.begin(64_000, 1_000), expected);
            memory.take_first(64_000.min(here.saturating_sub(StoredBatch::OVERHEAD_BYTES)));
        };
        check(64_000 + 64 * StoredBatch::OVERHEAD_BYTES, 64);
        check(64_000 + 2_000 * StoredBatch::OVERHEAD_BYTES, 1_000);
        check(6_400, 1);
    }

    #[test]
    fn what_is_bounded_does_not_grow_beyond() {
        let share = Share::new("test", MIB);
        let mut memory = AnswerMemory::new(&share, share.try_acquire(640).expect("there"), 6_400);
        assert!(memory.take(6_400) && !memory.take(1));
        assert!(!memory.try_cover(6_464));
        assert_eq!(share.used(), 6_400);
    }
}
