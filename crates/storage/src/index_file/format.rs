//! The layout of an index file.
//!
//! ```text
//! header | runs, one per stream | directory blocks | summary
//! ```

use record::{LogIndex, StreamId, StreamOffset, TimestampMs, crc32c};

use crate::batch_run::{self, RunPlace};
use crate::wire::{FieldReader, FieldWriter};

pub(super) const HEADER_BYTES: usize = 80;
/// A stream's entry in the directory.
pub(crate) const ENTRY_BYTES: usize = 80;
/// Directory entries of one block; the rest of its 4096 bytes is zeros and, at the end, a checksum.
pub(super) const ENTRIES_PER_BLOCK: usize = 51;
pub(super) const BLOCK_BYTES: usize = 4096;
/// Batches of one chunk of a run.
pub(super) const CHUNK_BATCHES: usize = 128;

const MAGIC: &[u8; 8] = b"RMQINDX\0";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) file: u32,
    pub(super) first_index: LogIndex,
    pub(super) last_index: LogIndex,
    pub(super) streams: u64,
    pub(super) batches: u64,
    pub(super) directory_at: u64,
    pub(super) directory_blocks: u32,
    pub(super) summary_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        FieldWriter::new(&mut bytes)
            .bytes(MAGIC)
            .u32(0)
            .u32(VERSION)
            .u32(self.file)
            .u32(0)
            .u64(self.first_index.0)
            .u64(self.last_index.0)
            .u64(self.streams)
            .u64(self.batches)
            .u64(self.directory_at)
            .u32(self.directory_blocks)
            .u32(self.summary_crc)
            .u64(0);
        let crc = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let mut fields = FieldReader::new(bytes);
        let magic = fields.array::<8>()?;
        let crc = fields.u32()?;
        let mut covered = *bytes;
        covered[8..12].fill(0);
        if magic != *MAGIC || crc != crc32c(&covered) || fields.u32()? != VERSION {
            return None;
        }
        let file = fields.u32()?;
        let _reserved = fields.u32()?;
        let header = Self {
            file,
            first_index: LogIndex(fields.u64()?),
            last_index: LogIndex(fields.u64()?),
            streams: fields.u64()?,
            batches: fields.u64()?,
            directory_at: fields.u64()?,
            directory_blocks: fields.u32()?,
            summary_crc: fields.u32()?,
        };
        let blocks = header.streams.div_ceil(ENTRIES_PER_BLOCK as u64);
        (u64::from(header.directory_blocks) == blocks && header.directory_at.is_multiple_of(8)).then_some(header)
    }

    /// Where the summary stands, and its length.
    pub(super) fn summary(&self) -> Option<(u64, usize)> {
        let blocks = u64::from(self.directory_blocks);
        let at = self.directory_at.checked_add(blocks * BLOCK_BYTES as u64)?;
        Some((at, usize::try_from(blocks * 8).ok()?))
    }
}

/// What a file knows of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) stream: StreamId,
    pub(crate) first_offset: StreamOffset,
    pub(crate) next_offset: StreamOffset,
    /// The largest timestamp in this file.
    pub(crate) max_timestamp: TimestampMs,
    /// The largest timestamp in this file and all before it that have the stream.
    pub(crate) running_max_timestamp: TimestampMs,
    pub(crate) run_at: u64,
    pub(crate) run_bytes: u32,
    /// Of the only chunk, or of the table of chunks.
    pub(crate) run_crc: u32,
    pub(crate) batches: u32,
    pub(crate) chunks: u32,
    /// File numbers; 0 for none.
    pub(crate) previous: u32,
    pub(crate) jump: u32,
    /// How many files before this one have the stream.
    pub(crate) depth: u32,
}

impl StreamEntry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        FieldWriter::new(&mut bytes)
            .u64(self.stream.0)
            .i64(self.first_offset.0)
            .i64(self.next_offset.0)
            .i64(self.max_timestamp.0)
            .i64(self.running_max_timestamp.0)
            .u64(self.run_at)
            .u32(self.run_bytes)
            .u32(self.run_crc)
            .u32(self.batches)
            .u32(self.chunks)
            .u32(self.previous)
            .u32(self.jump)
            .u32(self.depth);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(bytes.get(..ENTRY_BYTES)?);
        Some(Self {
            stream: StreamId(fields.u64()?),
            first_offset: StreamOffset(fields.i64()?),
            next_offset: StreamOffset(fields.i64()?),
            max_timestamp: TimestampMs(fields.i64()?),
            running_max_timestamp: TimestampMs(fields.i64()?),
            run_at: fields.u64()?,
            run_bytes: fields.u32()?,
            run_crc: fields.u32()?,
            batches: fields.u32()?,
            chunks: fields.u32()?,
            previous: fields.u32()?,
            jump: fields.u32()?,
            depth: fields.u32()?,
        })
    }

    pub(crate) fn run(&self) -> RunPlace {
        RunPlace {
            at: self.run_at,
            bytes: self.run_bytes,
            crc: self.run_crc,
            chunks: self.chunks,
            batches: self.batches,
            first_offset: self.first_offset,
            max_timestamp: self.max_timestamp,
        }
    }
}

/// A directory block of at most [`ENTRIES_PER_BLOCK`] entries.
pub(super) fn encode_block(entries: &[StreamEntry]) -> Vec<u8> {
    assert!(entries.len() <= ENTRIES_PER_BLOCK, "a block is bounded");
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for entry in entries {
        block.extend_from_slice(&entry.encode());
    }
    block.resize(BLOCK_BYTES - 4, 0);
    block.extend_from_slice(&crc32c(&block).to_le_bytes());
    block
}

pub(super) fn block_is_whole(block: &[u8]) -> bool {
    let Some((covered, crc)) = block.split_last_chunk::<4>() else { return false };
    block.len() == BLOCK_BYTES && u32::from_le_bytes(*crc) == crc32c(covered)
}

/// The entry of `stream` in a block that has `count` of them.
pub(super) fn entry_in_block(block: &[u8], count: usize, stream: StreamId) -> Option<StreamEntry> {
    let entry_at = |place: usize| StreamEntry::decode(block.get(place * ENTRY_BYTES..)?);
    let (mut low, mut high) = (0, count.min(ENTRIES_PER_BLOCK));
    while low < high {
        let middle = usize::midpoint(low, high);
        let entry = entry_at(middle)?;
        match entry.stream.cmp(&stream) {
            std::cmp::Ordering::Equal => return Some(entry),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    let _ = block_is_whole(bytes);
    let _ = entry_in_block(bytes, ENTRIES_PER_BLOCK, StreamId(1));
    batch_run::fuzz(bytes);
}
