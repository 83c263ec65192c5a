//! The index of a sealed segment, at the end of its file: which entries it holds and where.
//!
//! ```text
//! ... frames | slot blocks | run directory | trailer (64 bytes, at the very end)
//! ```
//!
//! A segment is sealed only after everything in it was durable, so a footer that passes its
//! checksums says that all frames before it were.

use base::planted::{Planted, is_planted};
use record::{LogIndex, ShardId, Term, crc32c};

use crate::types::{EntryKind, EntryMeta, LogId};
use crate::wire::{FieldReader, FieldWriter};

use super::frame::{FRAME_ALIGNMENT, PAYLOAD_BYTES_MAX};

/// Slots of one block; the last 8 bytes of its 4096 hold the checksum.
pub(crate) const SLOTS_PER_BLOCK: u32 = 511;
pub(crate) const SLOT_BLOCK_BYTES: u32 = 4096;
const RUN_BYTES: u32 = 32;
pub(crate) const TRAILER_BYTES: u32 = 64;

const MAGIC: &[u8; 8] = b"RMQFOOT\0";

/// Where an entry's frame stands in its segment, how long its payload is, and its kind, in 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u64);

impl Slot {
    pub(crate) fn new(offset: u32, payload_bytes: u32, kind: EntryKind) -> Self {
        assert!(offset.is_multiple_of(FRAME_ALIGNMENT) && payload_bytes <= PAYLOAD_BYTES_MAX, "the slot's fields fit");
        Self(u64::from(offset / FRAME_ALIGNMENT) << 34 | u64::from(payload_bytes) << 4 | u64::from(kind.number()))
    }

    pub(crate) fn decode(number: u64) -> Option<Self> {
        let kind = u8::try_from(number & 0xf).expect("four bits");
        EntryKind::from_number(kind).map(|_| Self(number))
    }

    pub(crate) const fn offset(self) -> u32 {
        (self.0 >> 34) as u32 * FRAME_ALIGNMENT
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to 30 bits")]
    pub(crate) const fn payload_bytes(self) -> u32 {
        (self.0 >> 4) as u32 & PAYLOAD_BYTES_MAX
    }

    pub(crate) fn kind(self) -> EntryKind {
        let kind = u8::try_from(self.0 & 0xf).expect("four bits");
        EntryKind::from_number(kind).expect("checked when the slot was made")
    }

    pub(crate) fn meta(self, id: LogId) -> EntryMeta {
        EntryMeta { id, kind: self.kind(), payload_bytes: self.payload_bytes() }
    }
}

/// Entries of one shard and term with consecutive indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunInfo {
    pub(crate) shard: ShardId,
    pub(crate) term: Term,
    pub(crate) first: LogIndex,
    pub(crate) count: u32,
    /// Number of the run's first slot among all of the segment.
    pub(crate) first_slot: u32,
}

/// The footer without its slots, which are read when needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where the segment's last frame ends.
    pub(crate) data_end: u32,
    /// Where the slot blocks begin.
    pub(crate) slots_at: u32,
    pub(crate) runs: Vec<RunInfo>,
}

/// Bytes that a footer takes at most, its trailer included.
pub(crate) fn footer_bytes(runs: u32, slots: u32) -> u32 {
    // One more page: slot blocks begin at a page's start.
    SLOT_BLOCK_BYTES + slots.div_ceil(SLOTS_PER_BLOCK) * SLOT_BLOCK_BYTES + runs * RUN_BYTES + TRAILER_BYTES
}

/// Where slot `number` stands: block and place in it.
pub(crate) const fn slot_place(number: u32) -> (u32, usize) {
    (number / SLOTS_PER_BLOCK, (number % SLOTS_PER_BLOCK) as usize * 8)
}

/// A run to be written, with its slots.
#[derive(Debug, Clone)]
pub(crate) struct FullRun {
    pub(crate) shard: ShardId,
    pub(crate) term: Term,
    pub(crate) first: LogIndex,
    pub(crate) slots: Vec<Slot>,
}

/// Encodes a footer. Returns where its bytes begin in the file, the bytes, which reach to the end
/// of the file, and what a reader will see of it.
pub(crate) fn encode(
    sequence: u32,
    life: u32,
    capacity: u32,
    data_end: u32,
    runs: &[FullRun],
) -> (u32, Vec<u8>, Footer) {
    let slots: Vec<Slot> = runs.iter().flat_map(|run| run.slots.iter().copied()).collect();
    let slot_count = u32::try_from(slots.len()).expect("a segment holds fewer entries than bytes");
    let run_count = u32::try_from(runs.len()).expect("a segment holds fewer runs than bytes");
    let blocks = slot_count.div_ceil(SLOTS_PER_BLOCK);
    let directory_bytes = run_count * RUN_BYTES;
    let start = (capacity - TRAILER_BYTES - directory_bytes - blocks * SLOT_BLOCK_BYTES) & !(SLOT_BLOCK_BYTES - 1);
    assert!(start >= data_end, "the writer leaves room for the footer");

    let mut bytes = Vec::with_capacity((capacity - start) as usize);
    for block in slots.chunks(SLOTS_PER_BLOCK as usize) {
        let block_start = bytes.len();
        for slot in block {
            bytes.extend_from_slice(&slot.0.to_le_bytes());
        }
        bytes.resize(block_start + SLOT_BLOCK_BYTES as usize - 8, 0);
        let crc = crc32c(&bytes[block_start..]);
        bytes.extend_from_slice(&u64::from(crc).to_le_bytes());
    }
    let mut infos = Vec::with_capacity(runs.len());
    let mut directory = vec![0; directory_bytes as usize];
    let mut fields = FieldWriter::new(&mut directory);
    let mut first_slot = 0;
    for run in runs {
        let count = u32::try_from(run.slots.len()).expect("fewer than all slots");
        infos.push(RunInfo { shard: run.shard, term: run.term, first: run.first, count, first_slot });
        fields.u32(run.shard.0).u32(count).u64(run.term.0).u64(run.first.0).u64(u64::from(first_slot));
        first_slot += count;
    }
    bytes.extend_from_slice(&directory);
    bytes.resize((capacity - start - TRAILER_BYTES) as usize, 0);
    let mut trailer = [0; TRAILER_BYTES as usize];
    FieldWriter::new(&mut trailer)
        .bytes(MAGIC)
        .u32(0)
        .u32(sequence)
        .u32(life)
        .u32(capacity)
        .u32(data_end)
        .u32(start)
        .u32(slot_count)
        .u32(run_count)
        .u32(crc32c(&directory));
    let crc = crc32c(&trailer);
    trailer[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&trailer);
    assert_eq!(bytes.len(), (capacity - start) as usize, "the footer ends with the file");
    (start, bytes, Footer { data_end, slots_at: start, runs: infos })
}

/// What the trailer says about the directory in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) data_end: u32,
    pub(crate) slots_at: u32,
    pub(crate) slots: u32,
    pub(crate) runs: u32,
    directory_crc: u32,
}

impl Trailer {
    /// The trailer of segment `sequence` of that size, or nothing when these bytes are not one.
    pub(crate) fn decode(bytes: &[u8], sequence: u32, capacity: u32) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ TRAILER_BYTES as usize }>()?;
        let mut fields = FieldReader::new(bytes);
        if fields.array::<8>()? != *MAGIC {
            return None;
        }
        let crc = fields.u32()?;
        let mut covered = *bytes;
        covered[8..12].fill(0);
        if crc != crc32c(&covered) {
            return None;
        }
        let (found, _life, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (data_end, slots_at, slots, runs) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let trailer = Self { data_end, slots_at, slots, runs, directory_crc: fields.u32()? };
        let directory_end = trailer.directory_at() + u64::from(runs) * u64::from(RUN_BYTES);
        let plausible = (found == sequence || is_planted(Planted::FormerLifeAccepted))
            && size == capacity
            && data_end <= slots_at
            && directory_end + u64::from(TRAILER_BYTES) <= u64::from(capacity);
        plausible.then_some(trailer)
    }

    fn directory_at(&self) -> u64 {
        u64::from(self.slots_at) + u64::from(self.slots.div_ceil(SLOTS_PER_BLOCK)) * u64::from(SLOT_BLOCK_BYTES)
    }

    /// Position and length of the run directory.
    pub(crate) fn directory(&self) -> (u64, usize) {
        (self.directory_at(), (self.runs * RUN_BYTES) as usize)
    }

    /// The footer, when `directory` is what was written.
    pub(crate) fn footer(&self, directory: &[u8]) -> Option<Footer> {
        if directory.len() != self.directory().1 || crc32c(directory) != self.directory_crc {
            return None;
        }
        let mut fields = FieldReader::new(directory);
        let mut runs = Vec::with_capacity(self.runs as usize);
        for _ in 0..self.runs {
            let (shard, count) = (ShardId(fields.u32()?), fields.u32()?);
            let (term, first) = (Term(fields.u64()?), LogIndex(fields.u64()?));
            let first_slot = u32::try_from(fields.u64()?).ok()?;
            if count == 0
                || first_slot.checked_add(count)? > self.slots
                || first.0.checked_add(u64::from(count)).is_none()
            {
                return None;
            }
            runs.push(RunInfo { shard, term, first, count, first_slot });
        }
        Some(Footer { data_end: self.data_end, slots_at: self.slots_at, runs })
    }
}

/// The slot at `place` of a block, when the block is what was written.
pub(crate) fn slot_of_block(block: &[u8], place: usize) -> Option<Slot> {
    let mut fields = FieldReader::new(block.get(place..place + 8)?);
    Slot::decode(fields.u64()?)
}

/// Whether a block of slots passes its checksum.
pub(crate) fn block_is_whole(block: &[u8]) -> bool {
    let Some((covered, crc)) = block.split_last_chunk::<8>() else { return false };
    block.len() == SLOT_BLOCK_BYTES as usize && u64::from_le_bytes(*crc) == u64::from(crc32c(covered))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(count: u32) -> Vec<FullRun> {
        (0..3)
            .map(|shard| FullRun {
                shard: ShardId(shard),
                term: Term(7),
                first: LogIndex(u64::from(shard) * 1_000_000),
                slots: (0..count).map(|index| Slot::new(4096 + index * 8, index, EntryKind::Commands)).collect(),
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (capacity, runs) = (1 << 20, runs(1_000));
        let (start, bytes, footer) = encode(9, 1, capacity, 12_096, &runs);
        assert_eq!(start as usize + bytes.len(), capacity as usize);
        assert!(bytes.len() <= footer_bytes(3, 3_000) as usize);
        let trailer = &bytes[bytes.len() - TRAILER_BYTES as usize..];
        let trailer = Trailer::decode(trailer, 9, capacity).unwrap();
        let (at, len) = trailer.directory();
        let at = usize::try_from(at).unwrap() - start as usize;
        assert_eq!(trailer.footer(&bytes[at..at + len]), Some(footer.clone()));
        for (run, info) in runs.iter().zip(&footer.runs) {
            for (place, slot) in run.slots.iter().enumerate() {
                let (block, place) = slot_place(info.first_slot + u32::try_from(place).unwrap());
                let block = &bytes[(block * SLOT_BLOCK_BYTES) as usize..][..SLOT_BLOCK_BYTES as usize];
                assert!(block_is_whole(block));
                assert_eq!(slot_of_block(block, place), Some(*slot));
            }
        }
    }

    #[test]
    fn a_former_life_or_a_flipped_bit_never_passes() {
        let (_, bytes, _) = encode(9, 1, 1 << 20, 4096, &runs(10));
        let trailer = &bytes[bytes.len() - TRAILER_BYTES as usize..];
        assert!(Trailer::decode(trailer, 10, 1 << 20).is_none());
        assert!(Trailer::decode(trailer, 9, 1 << 21).is_none());
        for bit in 0..trailer.len() * 8 {
            let mut flipped = trailer.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&flipped, 9, 1 << 20).is_none(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn a_slot_keeps_its_fields(offset in 0_u32..1 << 27, payload_bytes in 0..=PAYLOAD_BYTES_MAX, kind in 0_u8..3) {
            let kind = EntryKind::from_number(kind).unwrap();
            let slot = Slot::new(offset * 8, payload_bytes, kind);
            prop_assert_eq!((slot.offset(), slot.payload_bytes(), slot.kind()), (offset * 8, payload_bytes, kind));
            prop_assert_eq!(Slot::decode(slot.0), Some(slot));
        }
    }
}
