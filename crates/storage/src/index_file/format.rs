//! The layout of an index file.
//!
//! ```text
//! header | runs, one per stream | directory blocks | summary
//! ```

use record::{BatchEntry, Extent, LeaderEpoch, LogIndex, StreamId, StreamOffset, TimestampMs, crc32c};

use crate::wire::{FieldReader, FieldWriter};

pub(super) const HEADER_BYTES: usize = 80;
/// A stream's entry in the directory.
pub(super) const ENTRY_BYTES: usize = 80;
/// Directory entries of one block; the rest of its 4096 bytes is zeros and, at the end, a checksum.
pub(super) const ENTRIES_PER_BLOCK: usize = 51;
pub(super) const BLOCK_BYTES: usize = 4096;
/// Batches of one chunk of a run.
pub(super) const CHUNK_BATCHES: usize = 128;
/// A chunk's entry in the table at the start of a run of several chunks.
pub(super) const CHUNK_ENTRY_BYTES: usize = 32;
/// The largest chunk there can be: bounds what a damaged file makes a reader allocate.
pub(super) const CHUNK_BYTES_MAX: u32 = 16 << 20;

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
pub(super) struct StreamEntry {
    pub(super) stream: StreamId,
    pub(super) first_offset: StreamOffset,
    pub(super) next_offset: StreamOffset,
    /// The largest timestamp in this file.
    pub(super) max_timestamp: TimestampMs,
    /// The largest timestamp in this file and all before it that have the stream.
    pub(super) running_max_timestamp: TimestampMs,
    pub(super) run_at: u64,
    pub(super) run_bytes: u32,
    /// Of the only chunk, or of the table of chunks.
    pub(super) run_crc: u32,
    pub(super) batches: u32,
    pub(super) chunks: u32,
    /// File numbers; 0 for none.
    pub(super) previous: u32,
    pub(super) jump: u32,
    /// How many files before this one have the stream.
    pub(super) depth: u32,
}

impl StreamEntry {
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
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

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
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

/// One chunk of a run of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkEntry {
    pub(super) first_offset: StreamOffset,
    /// The largest timestamp in this chunk and the run's chunks before it.
    pub(super) running_max_timestamp: TimestampMs,
    /// From the start of the run.
    pub(super) at: u32,
    pub(super) bytes: u32,
    pub(super) crc: u32,
    pub(super) batches: u32,
}

pub(super) fn encode_table(chunks: &[ChunkEntry]) -> Vec<u8> {
    let mut table = vec![0; chunks.len() * CHUNK_ENTRY_BYTES];
    let mut fields = FieldWriter::new(&mut table);
    for chunk in chunks {
        fields.i64(chunk.first_offset.0).i64(chunk.running_max_timestamp.0);
        fields.u32(chunk.at).u32(chunk.bytes).u32(chunk.crc).u32(chunk.batches);
    }
    table
}

pub(super) fn decode_table(table: &[u8]) -> Option<Vec<ChunkEntry>> {
    let mut fields = FieldReader::new(table);
    let mut chunks = Vec::with_capacity(table.len() / CHUNK_ENTRY_BYTES);
    for _ in 0..table.len() / CHUNK_ENTRY_BYTES {
        chunks.push(ChunkEntry {
            first_offset: StreamOffset(fields.i64()?),
            running_max_timestamp: TimestampMs(fields.i64()?),
            at: fields.u32()?,
            bytes: fields.u32()?,
            crc: fields.u32()?,
            batches: fields.u32()?,
        });
    }
    Some(chunks)
}

/// Batches, each as differences to the one before.
pub(super) fn encode_chunk(batches: &[BatchEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batches.len() * 12);
    let mut before = Before::default();
    for batch in batches {
        let earlier = batch.earlier_extents();
        put_signed(&mut bytes, batch.base_offset.0.wrapping_sub(before.next_offset));
        put(&mut bytes, u64::from(batch.record_count) << 1 | u64::from(!earlier.is_empty()));
        put_signed(&mut bytes, batch.max_timestamp.0.wrapping_sub(before.timestamp));
        put_signed(&mut bytes, difference(batch.log_index.0, before.log_index));
        put(&mut bytes, u64::from(batch.position));
        put(&mut bytes, u64::from(batch.bytes));
        put_signed(&mut bytes, i64::from(batch.epoch.0).wrapping_sub(before.epoch));
        if !earlier.is_empty() {
            put(&mut bytes, earlier.len() as u64);
            for extent in earlier {
                put_signed(&mut bytes, difference(extent.log_index.0, batch.log_index.0));
                put(&mut bytes, u64::from(extent.position));
                put(&mut bytes, u64::from(extent.bytes));
            }
        }
        before = Before::of(batch);
    }
    bytes
}

/// Reads `count` batches; nothing when the bytes are not such a chunk.
pub(super) fn decode_chunk(mut bytes: &[u8], count: u32) -> Option<Vec<BatchEntry>> {
    // A batch takes at least seven bytes.
    let mut batches = Vec::with_capacity((count as usize).min(bytes.len() / 7));
    let mut before = Before::default();
    let bytes = &mut bytes;
    for _ in 0..count {
        let base_offset = StreamOffset(before.next_offset.wrapping_add(take_signed(bytes)?));
        let count = take(bytes)?;
        let (record_count, has_earlier) = (u32::try_from(count >> 1).ok()?, count & 1 == 1);
        let max_timestamp = TimestampMs(before.timestamp.wrapping_add(take_signed(bytes)?));
        let log_index = LogIndex(before.log_index.wrapping_add_signed(take_signed(bytes)?));
        let position = u32::try_from(take(bytes)?).ok()?;
        let len = u32::try_from(take(bytes)?).ok()?;
        let epoch = LeaderEpoch(i32::try_from(before.epoch.wrapping_add(take_signed(bytes)?)).ok()?);
        let mut earlier = None;
        if has_earlier {
            let extents = usize::try_from(take(bytes)?).ok().filter(|count| *count > 0)?;
            // An extent takes at least three bytes.
            let mut list = Vec::with_capacity(extents.min(bytes.len() / 3));
            for _ in 0..extents {
                list.push(Extent {
                    log_index: LogIndex(log_index.0.wrapping_add_signed(take_signed(bytes)?)),
                    position: u32::try_from(take(bytes)?).ok()?,
                    bytes: u32::try_from(take(bytes)?).ok()?,
                });
            }
            earlier = Some(list.into());
        }
        let batch =
            BatchEntry { base_offset, record_count, max_timestamp, log_index, position, bytes: len, epoch, earlier };
        before = Before::of(&batch);
        batches.push(batch);
    }
    bytes.is_empty().then_some(batches)
}

/// What the next batch's fields are differences to.
#[derive(Default)]
struct Before {
    next_offset: i64,
    timestamp: i64,
    log_index: u64,
    epoch: i64,
}

impl Before {
    fn of(batch: &BatchEntry) -> Self {
        Self {
            next_offset: batch.base_offset.0.wrapping_add(i64::from(batch.record_count)),
            timestamp: batch.max_timestamp.0,
            log_index: batch.log_index.0,
            epoch: i64::from(batch.epoch.0),
        }
    }
}

#[expect(clippy::cast_possible_wrap, reason = "differences wrap both ways")]
const fn difference(left: u64, right: u64) -> i64 {
    left.wrapping_sub(right) as i64
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

#[expect(clippy::cast_sign_loss, reason = "zigzag")]
fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, (value << 1 ^ value >> 63) as u64);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[expect(clippy::cast_possible_wrap, reason = "zigzag")]
fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    let _ = block_is_whole(bytes);
    let _ = entry_in_block(bytes, ENTRIES_PER_BLOCK, StreamId(1));
    if let Some(table) = decode_table(bytes) {
        assert_eq!(decode_table(&encode_table(&table)).as_ref(), Some(&table));
    }
    for count in [1, 2, 128, u32::MAX] {
        if let Some(batches) = decode_chunk(bytes, count) {
            assert_eq!(decode_chunk(&encode_chunk(&batches), count), Some(batches));
        }
    }
}
