//! The layout of an object.
//!
//! ```text
//! header | blocks of data | runs and aborted ranges, stream by stream | pages: directory, summary, blocks | root | trailer
//! ```
//!
//! What is written last says where the rest is, so that an object is written from front to end, once.

use record::{FileNumber, LogIndex, ObjectKey, ShardId, StreamId, StreamOffset, crc32c};

use crate::batch_run;
use crate::index_file;
use crate::wire::{FieldReader, FieldWriter};

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const TRAILER_BYTES: usize = 128;
/// The rest of a page behind its entries is zeros and, at the end, a checksum.
pub(super) const PAGE_BYTES: usize = 4096;
/// A stream's entry in the directory.
pub(super) const ENTRY_BYTES: usize = 96;
pub(super) const ENTRIES_PER_PAGE: usize = (PAGE_BYTES - 4) / ENTRY_BYTES;
/// The first stream of a page of the directory, in a page of the summary; of a page of the summary, in the root.
pub(super) const FIRST_BYTES: usize = 8;
pub(super) const FIRSTS_PER_PAGE: usize = (PAGE_BYTES - 4) / FIRST_BYTES;
/// A block's entry in a page of blocks.
pub(super) const BLOCK_ENTRY_BYTES: usize = 16;
pub(super) const BLOCKS_PER_PAGE: usize = (PAGE_BYTES - 4) / BLOCK_ENTRY_BYTES;
/// A block is closed when it has so many bytes; a batch is never cut.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Batches of one chunk of a run.
pub(super) const CHUNK_BATCHES: usize = 1_024;
/// An aborted range.
pub(super) const ABORTED_BYTES: usize = 32;

const MAGIC: &[u8; 8] = b"RMQOBJT\0";
const MAGIC_TRAILER: &[u8; 8] = b"RMQOBJE\0";
const VERSION: u32 = 1;

/// What an object is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectId {
    pub shard: ShardId,
    pub key: ObjectKey,
    /// The object has what the index files from this one to `last` had.
    pub first: FileNumber,
    pub last: FileNumber,
    /// The only stream that it has, where key compaction made it.
    pub stream: Option<StreamId>,
}

/// The first bytes of an object: what it is, before anything else of it is read.
pub(super) fn encode_header(id: &ObjectId) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let mut fields = FieldWriter::new(&mut bytes);
    fields.bytes(MAGIC).u32(0).u32(VERSION);
    put_id(&mut fields, id);
    fields.u64(put_stream(id));
    sealed(bytes)
}

pub(super) fn decode_header(bytes: &[u8]) -> Option<ObjectId> {
    let mut fields = opened::<HEADER_BYTES>(bytes, MAGIC)?;
    let id = take_id(&mut fields)?;
    Some(ObjectId { stream: take_stream(fields.u64()?), ..id })
}

/// No stream has the number 0.
fn put_stream(id: &ObjectId) -> u64 {
    id.stream.map_or(0, |stream| stream.0)
}

fn take_stream(number: u64) -> Option<StreamId> {
    (number > 0).then_some(StreamId(number))
}

fn put_id(fields: &mut FieldWriter<'_>, id: &ObjectId) {
    fields.u32(id.shard.0).u32(0).u64(id.key.0).u32(id.first.0).u32(id.last.0);
}

fn take_id(fields: &mut FieldReader<'_>) -> Option<ObjectId> {
    let shard = ShardId(fields.u32()?);
    let _reserved = fields.u32()?;
    let id = ObjectId {
        shard,
        key: ObjectKey(fields.u64()?),
        first: FileNumber(fields.u32()?),
        last: FileNumber(fields.u32()?),
        // It stands elsewhere.
        stream: None,
    };
    (id.first <= id.last).then_some(id)
}

/// Writes the checksum into bytes 8 to 12.
fn sealed<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    let crc = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The fields behind magic number, checksum and version, if these are right.
fn opened<'a, const N: usize>(bytes: &'a [u8], magic: &[u8; 8]) -> Option<FieldReader<'a>> {
    let bytes = bytes.first_chunk::<N>()?;
    let mut fields = FieldReader::new(bytes);
    let found = fields.array::<8>()?;
    let crc = fields.u32()?;
    let mut covered = *bytes;
    covered[8..12].fill(0);
    (found == *magic && crc == crc32c(&covered) && fields.u32()? == VERSION).then_some(fields)
}

/// The last bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) id: ObjectId,
    /// The log indexes that the batches had, between which they lay.
    pub(super) from: LogIndex,
    pub(super) through: LogIndex,
    pub(super) streams: u64,
    pub(super) batches: u64,
    pub(super) blocks: u64,
    /// Bytes of all blocks.
    pub(super) data_bytes: u64,
    /// Where the first run stands: right behind the blocks.
    pub(super) runs_at: u64,
    /// Where the pages stand: those of the directory, of the summary, of the blocks, one behind the other.
    pub(super) pages_at: u64,
    pub(super) root_crc: u32,
    /// CRC-64/NVME of everything from `runs_at` to the trailer.
    pub(super) index_digest: u64,
}

/// Where an object's pages are, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    pub(super) directory: u64,
    pub(super) summary: u64,
    pub(super) blocks: u64,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.bytes(MAGIC_TRAILER).u32(0).u32(VERSION);
        put_id(&mut fields, &self.id);
        fields.u64(self.from.0).u64(self.through.0);
        fields.u64(self.streams).u64(self.batches).u64(self.blocks).u64(self.data_bytes);
        fields.u64(self.runs_at).u64(self.pages_at).u32(self.root_crc).u32(0).u64(self.index_digest);
        fields.u64(put_stream(&self.id));
        sealed(bytes)
    }

    /// The trailer of an object of `size` bytes; none when it says what cannot be.
    pub(super) fn decode(bytes: &[u8], size: u64) -> Option<Self> {
        let mut fields = opened::<TRAILER_BYTES>(bytes, MAGIC_TRAILER)?;
        let id = take_id(&mut fields)?;
        let (from, through) = (LogIndex(fields.u64()?), LogIndex(fields.u64()?));
        let (streams, batches, blocks, data_bytes) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (runs_at, pages_at, root_crc) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let _reserved = fields.u32()?;
        let index_digest = fields.u64()?;
        let id = ObjectId { stream: take_stream(fields.u64()?), ..id };
        let trailer =
            Self { id, from, through, streams, batches, blocks, data_bytes, runs_at, pages_at, root_crc, index_digest };
        let pages = trailer.pages();
        let root_at = pages.directory.checked_add(pages.summary)?.checked_add(pages.blocks)?;
        let root_at = root_at.checked_mul(PAGE_BYTES as u64)?.checked_add(pages_at)?;
        let end = root_at.checked_add(pages.summary.checked_mul(FIRST_BYTES as u64)?)?;
        let fits = end.checked_add(TRAILER_BYTES as u64)? == size
            && runs_at == data_bytes.checked_add(HEADER_BYTES as u64)?
            && runs_at <= pages_at;
        fits.then_some(trailer)
    }

    pub(super) fn pages(&self) -> Pages {
        let directory = self.streams.div_ceil(ENTRIES_PER_PAGE as u64);
        let summary = directory.div_ceil(FIRSTS_PER_PAGE as u64);
        Pages { directory, summary, blocks: self.blocks.div_ceil(BLOCKS_PER_PAGE as u64) }
    }

    /// Where the root stands.
    pub(super) fn root_at(&self) -> u64 {
        let pages = self.pages();
        self.pages_at + (pages.directory + pages.summary + pages.blocks) * PAGE_BYTES as u64
    }
}

/// What an object knows of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    /// As in index files, of the object in place of a file: `previous` and `jump` are numbers of files before the object.
    pub(crate) index: index_file::StreamEntry,
    /// Aborted ranges, right behind the run, and a checksum of them.
    pub(crate) aborted: u32,
    /// Below it every transaction that has a record in the object or before was decided when the object was built.
    pub(crate) last_stable_offset: StreamOffset,
    /// Bytes of the batches, those that other streams refer to, too.
    pub(crate) batch_bytes: u64,
}

/// Where the count of aborted ranges stands: in the bytes that an index file's entry leaves free.
const ABORTED_AT: usize = index_file::ENTRY_BYTES - 4;

impl StreamEntry {
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..index_file::ENTRY_BYTES].copy_from_slice(&self.index.encode());
        let mut fields = FieldWriter::new(&mut bytes[ABORTED_AT..]);
        fields.u32(self.aborted).i64(self.last_stable_offset.0).u64(self.batch_bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..ENTRY_BYTES)?;
        let mut fields = FieldReader::new(&bytes[ABORTED_AT..]);
        Some(Self {
            index: index_file::StreamEntry::decode(bytes)?,
            aborted: fields.u32()?,
            last_stable_offset: StreamOffset(fields.i64()?),
            batch_bytes: fields.u64()?,
        })
    }

    /// Bytes of the aborted ranges with their checksum; nothing where there are none.
    pub(super) fn aborted_bytes(&self) -> usize {
        if self.aborted == 0 { 0 } else { self.aborted as usize * ABORTED_BYTES + 4 }
    }
}

/// A transaction that was aborted: what Kafka's transaction index holds of it (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedRange {
    pub producer: i64,
    pub first_offset: StreamOffset,
    /// Of the marker.
    pub last_offset: StreamOffset,
    /// When the marker was written.
    pub last_stable_offset: StreamOffset,
}

pub(super) fn encode_aborted(ranges: &[AbortedRange]) -> Vec<u8> {
    let mut bytes = vec![0; ranges.len() * ABORTED_BYTES];
    let mut fields = FieldWriter::new(&mut bytes);
    for range in ranges {
        fields.i64(range.producer).i64(range.first_offset.0).i64(range.last_offset.0).i64(range.last_stable_offset.0);
    }
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn decode_aborted(bytes: &[u8]) -> Option<Vec<AbortedRange>> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != crc32c(covered) || !covered.len().is_multiple_of(ABORTED_BYTES) {
        return None;
    }
    let mut fields = FieldReader::new(covered);
    let mut ranges = Vec::with_capacity(covered.len() / ABORTED_BYTES);
    for _ in 0..covered.len() / ABORTED_BYTES {
        ranges.push(AbortedRange {
            producer: fields.i64()?,
            first_offset: StreamOffset(fields.i64()?),
            last_offset: StreamOffset(fields.i64()?),
            last_stable_offset: StreamOffset(fields.i64()?),
        });
    }
    Some(ranges)
}

/// Where a block lies, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockEntry {
    pub(super) at: u64,
    pub(super) bytes: u32,
    pub(super) crc: u32,
}

impl BlockEntry {
    pub(super) fn encode(&self) -> [u8; BLOCK_ENTRY_BYTES] {
        let mut bytes = [0; BLOCK_ENTRY_BYTES];
        FieldWriter::new(&mut bytes).u64(self.at).u32(self.bytes).u32(self.crc);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(bytes);
        Some(Self { at: fields.u64()?, bytes: fields.u32()?, crc: fields.u32()? })
    }
}

/// Pages of entries of `N` bytes each.
pub(super) fn encode_pages<const N: usize>(entries: impl Iterator<Item = [u8; N]>, out: &mut Vec<u8>) {
    let per_page = (PAGE_BYTES - 4) / N;
    let mut entries = entries.peekable();
    while entries.peek().is_some() {
        let from = out.len();
        entries.by_ref().take(per_page).for_each(|entry| out.extend_from_slice(&entry));
        out.resize(from + PAGE_BYTES - 4, 0);
        let crc = crc32c(&out[from..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }
}

pub(super) fn page_is_whole(page: &[u8]) -> bool {
    let Some((covered, crc)) = page.split_last_chunk::<4>() else { return false };
    page.len() == PAGE_BYTES && u32::from_le_bytes(*crc) == crc32c(covered)
}

/// The stream in the place of a page of the directory or of the summary.
pub(super) fn stream_at(page: &[u8], place: usize, entry_bytes: usize) -> Option<u64> {
    let at = place.checked_mul(entry_bytes)?;
    page.get(at..)?.first_chunk().map(|stream| u64::from_le_bytes(*stream))
}

/// The last place of `count` whose stream is at most `stream`.
pub(super) fn place_of(page: &[u8], count: usize, entry_bytes: usize, stream: StreamId) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if stream_at(page, middle, entry_bytes)? <= stream.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1)
}

pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(id) = decode_header(bytes) {
        assert_eq!(decode_header(&encode_header(&id)), Some(id));
    }
    if let Some(trailer) = Trailer::decode(bytes, bytes.len() as u64) {
        assert_eq!(Trailer::decode(&trailer.encode(), bytes.len() as u64), Some(trailer));
        let _ = trailer.root_at();
    }
    if let Some(entry) = StreamEntry::decode(bytes) {
        assert_eq!(StreamEntry::decode(&entry.encode()), Some(entry));
        let _ = entry.aborted_bytes();
    }
    if let Some(ranges) = decode_aborted(bytes) {
        assert_eq!(decode_aborted(&encode_aborted(&ranges)), Some(ranges));
    }
    if let Some(block) = BlockEntry::decode(bytes) {
        assert_eq!(BlockEntry::decode(&block.encode()), Some(block));
    }
    let _ = (page_is_whole(bytes), place_of(bytes, ENTRIES_PER_PAGE, ENTRY_BYTES, StreamId(1)));
    batch_run::fuzz(bytes);
}
