//! Runs: the batches of one stream in an index file or an object, in chunks, each batch as differences to the one before.
//!
//! ```text
//! one chunk, or: table of chunks | chunks
//! ```

use record::{BatchEntry, Extent, LeaderEpoch, LogIndex, StreamOffset, TimestampMs, crc32c};

use crate::wire::{FieldReader, FieldWriter};

/// A chunk's entry in the table at the start of a run of several chunks.
pub(crate) const CHUNK_ENTRY_BYTES: usize = 32;
/// The largest chunk there can be: bounds what a damaged file makes a reader allocate.
pub(crate) const CHUNK_BYTES_MAX: u32 = 16 << 20;

/// A run as it stands in its file.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) bytes: Vec<u8>,
    /// Of the only chunk, or of the table of chunks.
    pub(crate) crc: u32,
    pub(crate) chunks: u32,
    pub(crate) batches: u32,
    pub(crate) first_offset: StreamOffset,
    pub(crate) next_offset: StreamOffset,
    pub(crate) max_timestamp: TimestampMs,
}

/// Where a run is, as its stream's entry says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunPlace {
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    pub(crate) chunks: u32,
    pub(crate) batches: u32,
    pub(crate) first_offset: StreamOffset,
    pub(crate) max_timestamp: TimestampMs,
}

impl RunPlace {
    /// The chunk of a run that has one only, and no table.
    pub(crate) fn only_chunk(self) -> Option<ChunkEntry> {
        (self.chunks == 1).then_some(ChunkEntry {
            first_offset: self.first_offset,
            running_max_timestamp: self.max_timestamp,
            at: 0,
            bytes: self.bytes,
            crc: self.crc,
            batches: self.batches,
        })
    }

    /// Bytes of the table, if there is room for it in the run.
    pub(crate) fn table_bytes(self) -> Option<usize> {
        let bytes = (self.chunks as usize).checked_mul(CHUNK_ENTRY_BYTES)?;
        (bytes <= self.bytes as usize).then_some(bytes)
    }
}

/// Puts a run together, batch by batch.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    /// Batches of one chunk.
    chunk_batches: usize,
    waiting: Vec<BatchEntry>,
    table: Vec<ChunkEntry>,
    /// The chunks that are full.
    body: Vec<u8>,
    next_offset: Option<StreamOffset>,
    max_timestamp: TimestampMs,
}

impl RunBuilder {
    pub(crate) fn new(chunk_batches: usize) -> Self {
        let (waiting, table, body) = (Vec::new(), Vec::new(), Vec::new());
        let max_timestamp = TimestampMs(i64::MIN);
        Self { chunk_batches, waiting, table, body, next_offset: None, max_timestamp }
    }

    /// Adds a batch, which MUST lie behind the one before.
    pub(crate) fn push(&mut self, batch: BatchEntry) {
        assert!(self.next_offset.is_none_or(|next| next <= batch.base_offset), "batches are sorted by offset");
        self.next_offset = Some(batch.next_offset());
        if self.waiting.len() == self.chunk_batches {
            self.end_chunk();
        }
        self.waiting.push(batch);
    }

    fn end_chunk(&mut self) {
        let batches = &self.waiting;
        let bytes = encode_chunk(batches);
        let largest = batches.iter().map(|batch| batch.max_timestamp).max().expect("a chunk has batches");
        self.max_timestamp = self.max_timestamp.max(largest);
        self.table.push(ChunkEntry {
            first_offset: batches[0].base_offset,
            running_max_timestamp: self.max_timestamp,
            at: u32::try_from(self.body.len()).expect("a run is bounded"),
            bytes: u32::try_from(bytes.len()).expect("a chunk is bounded"),
            crc: crc32c(&bytes),
            batches: u32::try_from(batches.len()).expect("a chunk is bounded"),
        });
        self.body.extend_from_slice(&bytes);
        self.waiting.clear();
    }

    /// The run; at least one batch MUST have been added.
    pub(crate) fn finish(mut self) -> Run {
        self.end_chunk();
        let Self { mut table, body, next_offset, max_timestamp, .. } = self;
        let first_offset = table[0].first_offset;
        let next_offset = next_offset.expect("a run has batches");
        let chunks = u32::try_from(table.len()).expect("fewer chunks than batches");
        let batches = table.iter().map(|chunk| chunk.batches).sum();
        let (bytes, crc) = if let [only] = &table[..] {
            (body, only.crc)
        } else {
            let behind_table = u32::try_from(table.len() * CHUNK_ENTRY_BYTES).expect("a run is bounded");
            for chunk in &mut table {
                chunk.at += behind_table;
            }
            let mut bytes = encode_table(&table);
            let crc = crc32c(&bytes);
            bytes.extend_from_slice(&body);
            (bytes, crc)
        };
        Run { bytes, crc, chunks, batches, first_offset, next_offset, max_timestamp }
    }
}

/// One chunk of a run of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) first_offset: StreamOffset,
    /// The largest timestamp in this chunk and the run's chunks before it.
    pub(crate) running_max_timestamp: TimestampMs,
    /// From the start of the run.
    pub(crate) at: u32,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    pub(crate) batches: u32,
}

pub(crate) fn encode_table(chunks: &[ChunkEntry]) -> Vec<u8> {
    let mut table = vec![0; chunks.len() * CHUNK_ENTRY_BYTES];
    let mut fields = FieldWriter::new(&mut table);
    for chunk in chunks {
        fields.i64(chunk.first_offset.0).i64(chunk.running_max_timestamp.0);
        fields.u32(chunk.at).u32(chunk.bytes).u32(chunk.crc).u32(chunk.batches);
    }
    table
}

pub(crate) fn decode_table(table: &[u8]) -> Option<Vec<ChunkEntry>> {
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
pub(crate) fn encode_chunk(batches: &[BatchEntry]) -> Vec<u8> {
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
pub(crate) fn decode_chunk(mut bytes: &[u8], count: u32) -> Option<Vec<BatchEntry>> {
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
        let (bytes, object) = (len, None);
        let batch =
            BatchEntry { base_offset, record_count, max_timestamp, log_index, position, bytes, epoch, earlier, object };
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

/// Whether `run` is, in every part, the one of that entry; `visit` sees all its batches, and may find something wrong, too.
pub(crate) fn check(run: &[u8], place: RunPlace, mut visit: impl FnMut(&[BatchEntry]) -> Option<()>) -> Option<()> {
    let holds = |condition: bool| condition.then_some(());
    if place.chunks == 1 {
        holds(crc32c(run) == place.crc)?;
        return visit(&decode_chunk(run, place.batches)?);
    }
    let table = run.get(..place.table_bytes()?)?;
    holds(crc32c(table) == place.crc)?;
    let (mut at, mut batches) = (table.len(), 0_u64);
    for chunk in decode_table(table)? {
        holds(chunk.at as usize == at && chunk.bytes <= CHUNK_BYTES_MAX)?;
        let bytes = run.get(at..at + chunk.bytes as usize)?;
        holds(crc32c(bytes) == chunk.crc)?;
        let decoded = decode_chunk(bytes, chunk.batches)?;
        holds(decoded.first()?.base_offset == chunk.first_offset)?;
        visit(&decoded)?;
        (at, batches) = (at + bytes.len(), batches + u64::from(chunk.batches));
    }
    holds(at == run.len() && batches == u64::from(place.batches))
}

/// Decodes `bytes` as parts of a run, for a fuzz target: must not panic.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(table) = decode_table(bytes) {
        assert_eq!(decode_table(&encode_table(&table)).as_ref(), Some(&table));
    }
    for count in [1, 2, 128, u32::MAX] {
        if let Some(batches) = decode_chunk(bytes, count) {
            assert_eq!(decode_chunk(&encode_chunk(&batches), count), Some(batches));
        }
    }
}
