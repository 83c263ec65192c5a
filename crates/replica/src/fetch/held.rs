//! What an answer keeps alive, against what it has of it.
//!
//! Slices of one buffer keep it once, however many they are. While most of it is wanted they stay as
//! they are; what is less than half of its buffer is copied out as soon as the answer as a whole
//! keeps more than twice its bytes alive. So the bytes of an answer are a measure of its memory.

use base::hash::FixedHashMap;
use storage::{Backing, Chunk, Slice};

use super::Chunks;

/// What an answer may keep alive beyond twice its bytes while it is being read: what is read next may be
/// another part of the same buffers.
const SURPLUS_BYTES_MAX: usize = 2 << 20;

/// The buffers of one answer.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Bytes of the answer in memory.
    wanted: usize,
    /// Bytes of all buffers that they are slices of.
    held: usize,
    /// How much is wanted of the buffers that are not wanted whole.
    parts: FixedHashMap<Backing, usize>,
    /// The buffer that the last part was of, with what is not yet noted of it above: neighbours mostly are of one.
    last: Option<(Backing, usize)>,
    /// Which batches have parts that were not judged yet.
    places: Vec<Place>,
}

/// A batch of the answer: its plan, and its number there.
pub(super) type Place = (usize, usize);

impl Held {
    /// Counts what was read of one batch.
    pub(super) fn note(&mut self, place: Place, chunks: &[Chunk]) {
        let mut any_part = false;
        for slice in chunks.iter().flat_map(slices) {
            let (bytes, backing) = (slice.bytes().len(), slice.backing());
            self.wanted += bytes;
            if bytes == backing.bytes() {
                self.held += bytes;
                continue;
            }
            any_part = true;
            match &mut self.last {
                Some((last, wanted)) if *last == backing => *wanted += bytes,
                _ => {
                    self.flush();
                    if !self.parts.contains_key(&backing) {
                        self.held += backing.bytes();
                        self.parts.insert(backing, 0);
                    }
                    self.last = Some((backing, bytes));
                }
            }
        }
        if any_part {
            self.places.push(place);
        }
    }

    /// Whether so much more than what is wanted is kept that it must not wait for the end.
    pub(super) fn is_too_much(&self) -> bool {
        self.held > self.wanted.saturating_mul(2).saturating_add(SURPLUS_BYTES_MAX)
    }

    /// Copies what is too little of its buffer, if all together keeps more than twice what is wanted.
    pub(super) fn settle(&mut self, read: &mut [Vec<Chunks>]) {
        if self.held <= self.wanted.saturating_mul(2) {
            return;
        }
        self.flush();
        for (plan, number) in std::mem::take(&mut self.places) {
            for slice in read[plan][number].iter_mut().flat_map(slices_mut) {
                let (bytes, backing) = (slice.bytes().len(), slice.backing());
                if self.parts.get(&backing).is_some_and(|wanted| wanted.saturating_mul(2) < backing.bytes()) {
                    slice.detach();
                    self.held += bytes;
                }
            }
        }
        let held = &mut self.held;
        self.parts.retain(|backing, wanted| {
            let stays = wanted.saturating_mul(2) >= backing.bytes();
            if !stays {
                *held -= backing.bytes();
            }
            stays
        });
        assert!(self.held <= self.wanted.saturating_mul(2), "what is small was copied, the rest is at least half");
    }

    fn flush(&mut self) {
        if let Some((backing, wanted)) = self.last.take() {
            *self.parts.get_mut(&backing).expect("noted with the first of its parts") += wanted;
        }
    }
}

fn slices(chunk: &Chunk) -> &[Slice] {
    match chunk {
        Chunk::Memory(slices) => slices,
        Chunk::File { .. } => &[],
    }
}

fn slices_mut(chunk: &mut Chunk) -> &mut [Slice] {
    match chunk {
        Chunk::Memory(slices) => slices,
        Chunk::File { .. } => &mut [],
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use smallvec::smallvec;

    use super::*;

    const BLOCK: usize = 512 << 10;

    fn block() -> Slice {
        Slice::whole(Bytes::from(vec![7; BLOCK]))
    }

    /// Notes the slices as batches of one plan, judging as a fetch does; what they then keep alive, and how many
    /// were copied.
    fn check(given: Vec<Slice>, expected_copies: usize) {
        let mut held = Held::default();
        let mut read = vec![Vec::new()];
        let before: Vec<_> = given.iter().map(Slice::backing).collect();
        for (number, slice) in given.into_iter().enumerate() {
            let chunks: Chunks = smallvec![slice.into()];
            held.note((0, number), &chunks);
            read[0].push(chunks);
            if held.is_too_much() {
                held.settle(&mut read);
            }
        }
        held.settle(&mut read);
        let after: Vec<_> = read[0].iter().flatten().flat_map(slices).collect();
        let wanted: usize = after.iter().map(|slice| slice.bytes().len()).sum();
        let distinct: std::collections::BTreeMap<_, _> =
            after.iter().map(|slice| (format!("{:?}", slice.backing()), slice.backing().bytes())).collect();
        assert!(distinct.values().sum::<usize>() <= 2 * wanted, "{wanted} bytes keep {distinct:?}");
        let copies = after.iter().zip(before).filter(|(slice, before)| slice.backing() != *before).count();
        assert_eq!(copies, expected_copies);
    }

    #[test]
    fn a_small_batch_of_a_large_block_is_copied() {
        check(vec![block().slice(10..1_010)], 1);
        check((0..100).map(|_| block().slice(10..1_010)).collect(), 100);
    }

    #[test]
    fn neighbours_that_are_most_of_a_block_stay() {
        let block = block();
        check((0..BLOCK / 1_024).map(|at| block.slice(at * 1_024..(at + 1) * 1_024)).collect(), 0);
    }

    #[test]
    fn parts_of_two_blocks_in_turn_are_judged_by_block() {
        let (one, two) = (block(), block());
        let parts = (0..BLOCK / 2_048).flat_map(|at| {
            let range = at * 2_048..at * 2_048 + 1_500;
            [one.slice(range.clone()), two.slice(range)]
        });
        check(parts.collect(), 0);
    }

    #[test]
    fn the_ends_of_a_long_run_stay_as_long_as_the_whole_is_worth_its_memory() {
        check(vec![block().slice(0..BLOCK / 4), block(), block(), block().slice(0..BLOCK / 4)], 0);
    }

    #[test]
    fn only_what_is_small_is_copied() {
        let mut slices: Vec<_> = (0..20).map(|_| block().slice(0..100)).collect();
        slices.push(block().slice(0..BLOCK * 3 / 4));
        check(slices, 20);
    }
}
