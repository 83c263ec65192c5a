//! Writing an object from front to end.
//!
//! The data goes out part by part; the index is kept until the end: about 12 bytes per batch, 16 per block of 64 KiB,
//! 96 per stream.

use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use record::{BatchEntry, LogIndex, StreamId, StreamOffset, TimestampMs, crc32c};

use super::format::{
    self, AbortedRange, BLOCK_BYTES, BlockEntry, CHUNK_BATCHES, HEADER_BYTES, ObjectId, StreamEntry, Trailer,
};
use super::parts_writer::PartsWriter;
use crate::batch_run::RunBuilder;
use crate::index_file;

/// What is said of a stream before its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStart {
    pub stream: StreamId,
    /// As in index files: numbers of files before the object that have the stream, 0 for none.
    pub previous: u32,
    pub jump: u32,
    pub depth: u32,
    /// The largest timestamp in files before the object; the smallest number where there are none.
    pub max_timestamp_before: TimestampMs,
    pub last_stable_offset: StreamOffset,
    pub aborted: Vec<AbortedRange>,
}

impl StreamStart {
    /// Of a stream that is in no file before the object, and has no transactions.
    #[must_use]
    pub fn first(stream: StreamId) -> Self {
        Self {
            stream,
            previous: 0,
            jump: 0,
            depth: 0,
            max_timestamp_before: TimestampMs(i64::MIN),
            last_stable_offset: StreamOffset(0),
            aborted: Vec::new(),
        }
    }
}

/// Where the bytes of a batch lie in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockPlace {
    pub block: u32,
    /// From the start of the block.
    pub position: u32,
}

/// What a finished object is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectSummary {
    pub id: ObjectId,
    /// Bytes of the whole object.
    pub bytes: u64,
    /// Of its index, which has a checksum of everything else.
    pub index_digest: u64,
}

/// An object that is being written. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub struct ObjectWriter {
    out: PartsWriter,
    id: ObjectId,
    block: Block,
    blocks: Vec<BlockEntry>,
    runs: Vec<u8>,
    streams: Vec<StreamEntry>,
    open: Option<OpenStream>,
    batches: u64,
    range: Option<(LogIndex, LogIndex)>,
}

/// The block that is being filled.
#[derive(Debug)]
struct Block {
    at: u64,
    bytes: usize,
    crc: crc_fast::Digest,
}

impl Block {
    fn new(at: u64) -> Self {
        Self { at, bytes: 0, crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi) }
    }
}

#[derive(Debug)]
struct OpenStream {
    start: StreamStart,
    run: RunBuilder,
    bytes: u64,
}

impl ObjectWriter {
    /// Begins an object at `location`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn begin(store: &dyn ObjectStore, location: &Path, id: ObjectId) -> io::Result<Self> {
        assert!(id.first <= id.last && id.key.0 > 0, "an object is of files that there are");
        let mut writer = Self {
            out: PartsWriter::begin(store, location).await?,
            id,
            block: Block::new(HEADER_BYTES as u64),
            blocks: Vec::new(),
            runs: Vec::new(),
            streams: Vec::new(),
            open: None,
            batches: 0,
            range: None,
        };
        writer.out.put(&format::encode_header(&id)).await?;
        Ok(writer)
    }

    /// What follows is of this stream, which MUST be larger than the one before, and have a batch at least.
    pub fn stream(&mut self, start: StreamStart) {
        self.end_stream();
        let before = self.streams.last().map(|before| before.index.stream);
        assert!(before.is_none_or(|before| before < start.stream), "streams are sorted");
        assert!(start.previous < self.id.last.0, "files point back");
        assert!(self.id.stream.is_none_or(|only| only == start.stream), "an object of one stream has no other");
        self.open = Some(OpenStream { start, run: RunBuilder::new(CHUNK_BATCHES), bytes: 0 });
    }

    /// The log for which the object stands has at least these entries, wherever its batches were taken from.
    pub fn stands_for(&mut self, log: RangeInclusive<LogIndex>) {
        let (from, through) = (*log.start(), *log.end());
        let (before, behind) = self.range.unwrap_or((from, through));
        self.range = Some((before.min(from), behind.max(through)));
    }

    /// Adds the next batch of the stream: its offsets and times as `batch` says, and its `body`; where that is now.
    ///
    /// # Errors
    /// When it cannot be written: the object comes to nothing then.
    pub async fn batch(&mut self, batch: &BatchEntry, body: &[Bytes]) -> io::Result<BlockPlace> {
        let len: usize = body.iter().map(Bytes::len).sum();
        assert_eq!(len as u64, batch.total_bytes(), "the body is the batch's");
        if self.block.bytes > 0 && self.block.bytes + len > BLOCK_BYTES {
            self.end_block();
        }
        let place = BlockPlace { block: number(self.blocks.len()), position: number(self.block.bytes) };
        for piece in body {
            self.block.crc.update(piece);
            self.out.put(piece).await?;
        }
        self.block.bytes += len;
        self.note(batch, place);
        Ok(place)
    }

    /// As [`Self::batch`], of one whose body was written already, for another stream.
    pub fn refer(&mut self, batch: &BatchEntry, place: BlockPlace) {
        self.note(batch, place);
    }

    fn note(&mut self, batch: &BatchEntry, place: BlockPlace) {
        let bytes = batch.total_bytes();
        // In an object the number of a block stands where otherwise the entry of the log does.
        if batch.object.is_none() {
            let first = batch.extents().map(|extent| extent.log_index).min().expect("a batch lies somewhere");
            self.stands_for(first..=batch.log_index);
        }
        self.batches += 1;
        let open = self.open.as_mut().expect("a batch is of a stream");
        open.bytes += bytes;
        // In an object the block stands where an index file has the entry of the log.
        open.run.push(BatchEntry {
            log_index: LogIndex(u64::from(place.block)),
            position: place.position,
            bytes: u32::try_from(bytes).expect("a batch is bounded"),
            earlier: None,
            object: None,
            ..*batch
        });
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.out.at()
    }

    /// Bytes that the index takes in memory until the end.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.runs.len() + self.blocks.len() * size_of::<BlockEntry>() + self.streams.len() * size_of::<StreamEntry>()
    }

    fn end_block(&mut self) {
        let next = Block::new(self.block.at + self.block.bytes as u64);
        let Block { at, bytes, crc } = std::mem::replace(&mut self.block, next);
        if bytes > 0 {
            let crc = u32::try_from(crc.finalize()).expect("a CRC32 has 32 bits");
            self.blocks.push(BlockEntry { at, bytes: number(bytes), crc });
        }
    }

    fn end_stream(&mut self) {
        let Some(OpenStream { start, run, bytes }) = self.open.take() else { return };
        let run = run.finish();
        let index = index_file::StreamEntry {
            stream: start.stream,
            first_offset: run.first_offset,
            next_offset: run.next_offset,
            max_timestamp: run.max_timestamp,
            running_max_timestamp: run.max_timestamp.max(start.max_timestamp_before),
            // From the first run on, until it is known where that is.
            run_at: self.runs.len() as u64,
            run_bytes: number(run.bytes.len()),
            run_crc: run.crc,
            batches: run.batches,
            chunks: run.chunks,
            previous: start.previous,
            jump: start.jump,
            depth: start.depth,
        };
        let (aborted, last_stable_offset) = (number(start.aborted.len()), start.last_stable_offset);
        self.streams.push(StreamEntry { index, aborted, last_stable_offset, batch_bytes: bytes });
        self.runs.extend_from_slice(&run.bytes);
        if !start.aborted.is_empty() {
            self.runs.extend_from_slice(&format::encode_aborted(&start.aborted));
        }
    }

    /// Writes the index; the object is durable and has its name when this returns.
    ///
    /// # Errors
    /// When it cannot be written: it is not there then.
    pub async fn finish(mut self) -> io::Result<ObjectSummary> {
        self.end_stream();
        self.end_block();
        assert!(self.batches > 0, "an object has batches");
        let runs_at = self.out.at();
        for entry in &mut self.streams {
            entry.index.run_at += runs_at;
        }
        let mut index = std::mem::take(&mut self.runs);
        let pages_at = runs_at + index.len() as u64;
        let directory: Vec<u64> =
            firsts(self.streams.iter().map(|entry| entry.index.stream.0), format::ENTRIES_PER_PAGE);
        let summary: Vec<u64> = firsts(directory.iter().copied(), format::FIRSTS_PER_PAGE);
        format::encode_pages(self.streams.iter().map(StreamEntry::encode), &mut index);
        format::encode_pages(directory.iter().map(|first| first.to_le_bytes()), &mut index);
        format::encode_pages(self.blocks.iter().map(BlockEntry::encode), &mut index);
        let root: Vec<u8> = summary.iter().flat_map(|first| first.to_le_bytes()).collect();
        index.extend_from_slice(&root);
        let (from, through) = self.range.expect("what is taken from objects is said to stand for some log");
        let index_digest = crc_fast::crc64_nvme(&index);
        let trailer = Trailer {
            id: self.id,
            from,
            through,
            streams: self.streams.len() as u64,
            batches: self.batches,
            blocks: self.blocks.len() as u64,
            data_bytes: runs_at - HEADER_BYTES as u64,
            runs_at,
            pages_at,
            root_crc: crc32c(&root),
            index_digest,
        };
        for piece in index.chunks(1 << 20) {
            self.out.put(piece).await?;
        }
        self.out.put(&trailer.encode()).await?;
        let bytes = self.out.finish().await?;
        Ok(ObjectSummary { id: self.id, bytes, index_digest })
    }
}

/// The first of each group of so many.
fn firsts(streams: impl Iterator<Item = u64>, per_page: usize) -> Vec<u64> {
    streams.step_by(per_page).collect()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("an object is bounded")
}
