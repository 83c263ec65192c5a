//! Parts of payloads as they are handed out, and what memory they keep alive.
//!
//! A slice of a buffer keeps all of it. Each slice therefore says which buffer that is and how
//! large, so that whoever holds slices can count each buffer once, and copies out what is too
//! small a part of it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use base::disk::{File, read_exact_at};
use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::segment::SegmentPin;
use crate::types::Payload;

/// The slices of one part of a payload, in order.
pub type Slices = SmallVec<[Slice; 1]>;

/// The buffer behind a slice. Equal for slices of one buffer, as long as one of them lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backing {
    address: usize,
    bytes: usize,
}

impl Backing {
    /// Bytes of memory that a slice of it keeps alive.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// A buffer of `bytes`, all slices of which begin at or behind `first`.
    pub(super) fn new(first: &[u8], bytes: usize) -> Self {
        Self { address: first.as_ptr() as usize, bytes }
    }
}

/// Bytes in memory, with the buffer that they are part of.
#[derive(Debug, Clone)]
pub struct Slice {
    bytes: Bytes,
    backing: Backing,
}

impl Slice {
    /// A buffer of its own.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        let backing = Backing::new(&bytes, bytes.len());
        Self { bytes, backing }
    }

    pub(super) fn of(backing: Backing, bytes: Bytes) -> Self {
        assert!(bytes.len() <= backing.bytes, "a slice is no larger than its buffer");
        Self { bytes, backing }
    }

    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What it keeps alive.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Part of it, of the same buffer.
    ///
    /// # Panics
    /// When the range exceeds the slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { bytes: self.bytes.slice(range), backing: self.backing }
    }

    /// Copies the bytes into a buffer of their size, and lets go of the one they were in.
    pub fn detach(&mut self) {
        *self = Self::whole(Bytes::copy_from_slice(&self.bytes));
    }
}

/// The part in `range`, which lies within the payload, without copying.
pub(super) fn slices_of(payload: &Payload, range: Range<usize>) -> Slices {
    assert!(range.start <= range.end && range.end <= payload.len(), "a slice lies within its payload");
    let mut slices = Slices::new();
    let mut start = 0;
    for buffer in payload.buffers() {
        if start >= range.end {
            break;
        }
        let end = start + buffer.len();
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            slices.push(Slice::of(Backing::new(buffer, buffer.len()), buffer.slice(from - start..to - start)));
        }
        start = end;
    }
    slices
}

/// All bytes in one slice; copies only when there are several.
pub(super) fn join(mut slices: Slices) -> Slice {
    if slices.len() == 1 {
        return slices.remove(0);
    }
    let mut joined = BytesMut::with_capacity(slices.iter().map(|slice| slice.bytes.len()).sum());
    for slice in slices {
        joined.extend_from_slice(&slice.bytes);
    }
    Slice::whole(joined.freeze())
}

/// Part of a payload.
#[derive(Debug, Clone)]
pub enum Chunk {
    Memory(Slices),
    /// To be sent from the file; `pin` MUST be held until that is done.
    File {
        file: Arc<dyn File>,
        position: u64,
        len: u32,
        pin: SegmentPin,
    },
}

impl From<Slice> for Chunk {
    fn from(slice: Slice) -> Self {
        Self::Memory(smallvec![slice])
    }
}

impl Chunk {
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::Memory(slices) => u32::try_from(slices.iter().map(|slice| slice.bytes.len()).sum::<usize>())
                .expect("part of a payload fits 32 bits"),
            Self::File { len, .. } => *len,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in `range` of it.
    ///
    /// # Panics
    /// When the range exceeds the chunk.
    #[must_use]
    pub fn part(self, range: Range<u32>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "a part lies within its chunk");
        match self {
            Self::Memory(slices) => {
                let (mut skip, mut left) = (range.start as usize, range.len());
                let mut parts = Slices::new();
                for slice in slices {
                    let length = slice.bytes.len();
                    let from = skip.min(length);
                    let to = length.min(from + left);
                    skip -= from;
                    left -= to - from;
                    if from < to {
                        parts.push(slice.slice(from..to));
                    }
                }
                Self::Memory(parts)
            }
            Self::File { file, position, pin, len: _ } => {
                let len = range.end - range.start;
                Self::File { file, position: position + u64::from(range.start), len, pin }
            }
        }
    }

    /// All bytes in one slice.
    ///
    /// # Errors
    /// As reading the file.
    pub async fn into_slice(self) -> io::Result<Slice> {
        match self {
            Self::Memory(slices) => Ok(join(slices)),
            Self::File { file, position, len, pin } => {
                let bytes = read_exact_at(&*file, position, len as usize).await?;
                drop(pin);
                Ok(Slice::whole(bytes.freeze()))
            }
        }
    }

    /// All bytes in one buffer.
    ///
    /// # Errors
    /// As reading the file.
    pub async fn into_bytes(self) -> io::Result<Bytes> {
        self.into_slice().await.map(Slice::into_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_one_buffer_know_it_and_a_detached_one_has_its_own() {
        let payload: Payload = [vec![1; 10], vec![2; 1_000]].into_iter().map(Bytes::from).collect();
        let across = slices_of(&payload, 5..20);
        assert_eq!(across.iter().map(|slice| slice.bytes().len()).collect::<Vec<_>>(), [5, 10]);
        let mut later = slices_of(&payload, 500..600).remove(0);
        assert_eq!(across[1].backing(), later.backing());
        assert_ne!(across[0].backing(), later.backing());
        assert_eq!(later.slice(1..2).backing(), later.backing());
        later.detach();
        assert_eq!((later.bytes().len(), later.backing().bytes()), (100, 100));
        assert_ne!(across[1].backing(), later.backing());
        for (from, to) in [(0, 15), (2, 5), (4, 6), (5, 9), (3, 3)] {
            let part = Chunk::Memory(across.clone()).part(from..to);
            let Chunk::Memory(slices) = part else { panic!("it was in memory") };
            let expected = payload.slice(5 + from as usize..5 + to as usize).to_bytes();
            assert_eq!(join(slices).bytes(), &expected);
        }
        assert_eq!(join(across).bytes(), &payload.slice(5..20).to_bytes());
    }
}
