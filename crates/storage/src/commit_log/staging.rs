//! A reused buffer from which whole blocks go to the device, past the page cache where that pays.
//!
//! The buffer begins where the last partial block of the file begins, with what is already in that
//! block: the next write rewrites it with the same bytes, so a torn sector is never a loss.

use base::disk::DIRECT_ALIGNMENT;

use super::position::align_up;

/// Bytes of a block: writes begin and end at multiples of it.
pub(crate) const BLOCK_BYTES: u32 = 4096;
const BLOCK_LEN: usize = BLOCK_BYTES as usize;

/// What the buffer has from the start, and keeps when it was larger.
const CAPACITY_MIN: usize = 1 << 20;
const CAPACITY_KEPT: usize = 10 << 20;

/// Bytes to be written behind one another.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The buffer's aligned part begins at `base`.
    memory: Vec<u8>,
    base: usize,
    /// Bytes in use, from `base` on.
    len: usize,
    /// Where the buffer begins in the file: a multiple of the block.
    position: u32,
    /// Where what was added since the last write begins in the file.
    fresh_from: u32,
}

impl Staging {
    /// A buffer for bytes from `position` on; `before` is what the file has in that block before it.
    pub(crate) fn new(position: u32, before: &[u8]) -> Self {
        let mut staging = Self { memory: Vec::new(), base: 0, len: 0, position: 0, fresh_from: 0 };
        staging.restart(position, before);
        staging
    }

    /// Begins anew at another place.
    pub(crate) fn restart(&mut self, position: u32, before: &[u8]) {
        assert_eq!(before.len(), (position % BLOCK_BYTES) as usize, "the block is known up to the position");
        self.position = position - position % BLOCK_BYTES;
        self.len = 0;
        self.extend(before);
        self.fresh_from = position;
    }

    /// Where the next byte goes in the file.
    pub(crate) fn end(&self) -> u32 {
        self.position + u32::try_from(self.len).expect("a segment is smaller than 4 GiB")
    }

    /// Bytes added since the last write.
    pub(crate) fn fresh_bytes(&self) -> u32 {
        self.end() - self.fresh_from
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.base + self.len;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn extend_zeros(&mut self, count: usize) {
        self.reserve(count);
        let at = self.base + self.len;
        self.memory[at..at + count].fill(0);
        self.len += count;
    }

    /// Position and bytes of the write: whole blocks, the last one filled up with zeros.
    pub(crate) fn blocks(&mut self) -> (u32, &[u8]) {
        let padded = self.padded_len();
        self.reserve(padded - self.len);
        let (from, to) = (self.base + self.len, self.base + padded);
        self.memory[from..to].fill(0);
        (self.position, &self.memory[self.base..to])
    }

    /// Where the write ends in the file.
    pub(crate) fn padded_end(&self) -> u32 {
        align_up(self.end(), BLOCK_BYTES)
    }

    /// The write was done: only the last partial block is kept.
    pub(crate) fn written(&mut self) {
        self.fresh_from = self.end();
        let whole = self.len - self.len % BLOCK_LEN;
        self.memory.copy_within(self.base + whole..self.base + self.len, self.base);
        self.position += u32::try_from(whole).expect("a segment is smaller than 4 GiB");
        self.len -= whole;
        if self.memory.len() > CAPACITY_KEPT {
            self.resize(CAPACITY_MIN);
        }
    }

    fn padded_len(&self) -> usize {
        self.len.next_multiple_of(BLOCK_LEN)
    }

    fn reserve(&mut self, more: usize) {
        let wanted = (self.len + more).next_multiple_of(BLOCK_LEN);
        if self.memory.len() < wanted + DIRECT_ALIGNMENT {
            let doubled = (self.memory.len() * 2).min(CAPACITY_KEPT - DIRECT_ALIGNMENT);
            self.resize(wanted.max(doubled).max(CAPACITY_MIN));
        }
    }

    fn resize(&mut self, bytes: usize) {
        let mut memory = vec![0; bytes + DIRECT_ALIGNMENT];
        let base = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
        memory[base..base + self.len].copy_from_slice(&self.memory[self.base..self.base + self.len]);
        (self.memory, self.base) = (memory, base);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_staged_reaches_the_file_in_whole_aligned_blocks(
            start in 0..20_000_u32,
            groups in proptest::collection::vec(proptest::collection::vec(1..9_000_usize, 1..6), 1..6),
        ) {
            let mut file = vec![9; 400_000];
            let before = vec![9; (start % BLOCK_BYTES) as usize];
            let mut staging = Staging::new(start, &before);
            let mut expected = vec![9; start as usize];
            for (number, group) in groups.iter().enumerate() {
                for len in group {
                    let bytes = vec![u8::try_from(number + 1).unwrap(); *len];
                    staging.extend(&bytes);
                    expected.extend_from_slice(&bytes);
                }
                prop_assert_eq!(staging.end() as usize, expected.len());
                prop_assert_eq!(staging.fresh_bytes() as usize, group.iter().sum::<usize>());
                let padded_end = staging.padded_end();
                let (position, blocks) = staging.blocks();
                prop_assert!(position % BLOCK_BYTES == 0 && blocks.len() % BLOCK_LEN == 0);
                prop_assert_eq!(blocks.as_ptr().align_offset(DIRECT_ALIGNMENT), 0);
                prop_assert_eq!(position as usize + blocks.len(), padded_end as usize);
                let at = position as usize;
                file[at..at + blocks.len()].copy_from_slice(blocks);
                staging.written();
                prop_assert_eq!(&file[..expected.len()], &expected[..]);
                prop_assert!(file[expected.len()..padded_end as usize].iter().all(|byte| *byte == 0));
            }
        }
    }
}
