//! Reading objects: parts of the index through a cache, blocks of data as whole as they were written.
//!
//! Nothing of an object is in memory before it is asked for. Of one that is open its trailer and its root are: eight
//! bytes for 20,000 streams.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use parking_lot::Mutex;
use record::{BatchEntry, ObjectNumber, StreamId, StreamOffset, TimestampMs, crc32c};

use super::Objects;
use super::disk_store::io_error;
use super::format::{
    self, AbortedRange, BLOCK_ENTRY_BYTES, BLOCKS_PER_PAGE, BlockEntry, ENTRIES_PER_PAGE, ENTRY_BYTES, FIRST_BYTES,
    FIRSTS_PER_PAGE, HEADER_BYTES, PAGE_BYTES, StreamEntry, TRAILER_BYTES, Trailer,
};
use crate::batch_run::{self, CHUNK_BYTES_MAX, CHUNK_ENTRY_BYTES, ChunkEntry};

/// Parts of the index up to this are kept in the cache.
const CACHED_BYTES_MAX: usize = 64 << 10;
/// Objects kept open.
const OPEN_MAX: usize = 128;
/// The most that is read of data at once.
pub const READ_BYTES_MAX: u64 = 4 << 20;

/// An object of which the end is known.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) trailer: Trailer,
    /// The first stream of each page of the summary.
    root: Vec<u64>,
}

/// A bounded number of open objects, first in first out.
#[derive(Debug, Default)]
pub(super) struct OpenObjects(Mutex<VecDeque<(ObjectNumber, Arc<OpenObject>)>>);

impl OpenObjects {
    fn find(&self, number: ObjectNumber) -> Option<Arc<OpenObject>> {
        self.0.lock().iter().find(|(other, _)| *other == number).map(|(_, object)| Arc::clone(object))
    }

    fn insert(&self, number: ObjectNumber, object: Arc<OpenObject>) {
        let mut objects = self.0.lock();
        if objects.len() >= OPEN_MAX {
            objects.pop_front();
        }
        objects.push_back((number, object));
    }

    pub(super) fn forget(&self, number: ObjectNumber) {
        self.0.lock().retain(|(other, _)| *other != number);
    }
}

/// What an object says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectStream {
    pub first_offset: StreamOffset,
    /// Behind the last record.
    pub next_offset: StreamOffset,
    pub max_timestamp: TimestampMs,
    /// The largest timestamp in the object and all before it.
    pub running_max_timestamp: TimestampMs,
    pub last_stable_offset: StreamOffset,
    pub batches: u32,
    /// Bytes of the batches.
    pub bytes: u64,
}

impl Objects {
    /// What the object knows of `stream`; none when it does not have the stream.
    ///
    /// # Errors
    /// `NotFound` when the object is not here, `InvalidData` when it is damaged, or what the store says.
    pub async fn stream(&self, number: ObjectNumber, stream: StreamId) -> io::Result<Option<ObjectStream>> {
        let entry = self.entry(number, stream).await?;
        Ok(entry.map(|entry| ObjectStream {
            first_offset: entry.first_offset,
            next_offset: entry.next_offset,
            max_timestamp: entry.max_timestamp,
            running_max_timestamp: entry.running_max_timestamp,
            last_stable_offset: entry.last_stable_offset,
            batches: entry.batches,
            bytes: entry.batch_bytes,
        }))
    }

    /// Batches of a stream from the one that holds `from`, or comes behind it, on: at most `count_max`. In place of a log index
    /// they have the number of their block.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn batches(
        &self,
        number: ObjectNumber,
        stream: StreamId,
        from: StreamOffset,
        count_max: usize,
    ) -> io::Result<Vec<BatchEntry>> {
        let Some(entry) = self.entry(number, stream).await? else { return Ok(Vec::new()) };
        let chunks = self.chunks(number, &entry).await?;
        let first = chunks.partition_point(|chunk| chunk.first_offset <= from).saturating_sub(1);
        let mut found = Vec::new();
        for chunk in &chunks[first..] {
            let batches = self.chunk(number, &entry, chunk).await?;
            let wanted = batches.into_iter().filter(|batch| batch.next_offset() > from);
            found.extend(wanted.take(count_max - found.len()));
            if found.len() == count_max {
                break;
            }
        }
        Ok(found)
    }

    /// The aborted transactions of a stream in the object, as they were given.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn aborted(&self, number: ObjectNumber, stream: StreamId) -> io::Result<Vec<AbortedRange>> {
        let Some(entry) = self.entry(number, stream).await?.filter(|entry| entry.aborted > 0) else {
            return Ok(Vec::new());
        };
        let at = entry.run_at.checked_add(u64::from(entry.run_bytes)).ok_or_else(|| self.damaged(number))?;
        let whole = |bytes: &[u8]| format::decode_aborted(bytes).is_some();
        let bytes = self.part(number, at, entry.aborted_bytes(), whole).await?;
        format::decode_aborted(&bytes).ok_or_else(|| self.damaged(number))
    }

    async fn entry(&self, number: ObjectNumber, stream: StreamId) -> io::Result<Option<StreamEntry>> {
        let open = self.open_object(number).await?;
        let pages = open.trailer.pages();
        let Some(summary) = open.root.partition_point(|first| *first <= stream.0).checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(number, &open, pages.directory + summary as u64).await?;
        let count = left(pages.directory, summary as u64, FIRSTS_PER_PAGE);
        let place = format::place_of(&page, count, FIRST_BYTES, stream).ok_or_else(|| self.damaged(number))?;
        let directory = (summary * FIRSTS_PER_PAGE + place) as u64;
        let page = self.page(number, &open, directory).await?;
        let count = left(open.trailer.streams, directory, ENTRIES_PER_PAGE);
        let place = format::place_of(&page, count, ENTRY_BYTES, stream).ok_or_else(|| self.damaged(number))?;
        let entry = StreamEntry::decode(&page[place * ENTRY_BYTES..]).ok_or_else(|| self.damaged(number))?;
        Ok(Some(entry).filter(|entry| entry.stream == stream))
    }

    /// The table of a run's chunks.
    async fn chunks(&self, number: ObjectNumber, entry: &StreamEntry) -> io::Result<Vec<ChunkEntry>> {
        if entry.chunks == 1 {
            return Ok(vec![ChunkEntry {
                first_offset: entry.first_offset,
                running_max_timestamp: entry.max_timestamp,
                at: 0,
                bytes: entry.run_bytes,
                crc: entry.run_crc,
                batches: entry.batches,
            }]);
        }
        let len = entry.chunks as usize * CHUNK_ENTRY_BYTES;
        if len > entry.run_bytes as usize {
            return Err(self.damaged(number));
        }
        let table = self.part(number, entry.run_at, len, |bytes| crc32c(bytes) == entry.run_crc).await?;
        batch_run::decode_table(&table).ok_or_else(|| self.damaged(number))
    }

    async fn chunk(
        &self,
        number: ObjectNumber,
        entry: &StreamEntry,
        chunk: &ChunkEntry,
    ) -> io::Result<Vec<BatchEntry>> {
        if chunk.bytes > CHUNK_BYTES_MAX {
            return Err(self.damaged(number));
        }
        let at = entry.run_at.checked_add(u64::from(chunk.at)).ok_or_else(|| self.damaged(number))?;
        let bytes = self.part(number, at, chunk.bytes as usize, |bytes| crc32c(bytes) == chunk.crc).await?;
        let batches = batch_run::decode_chunk(&bytes, chunk.batches).ok_or_else(|| self.damaged(number))?;
        if batches.first().is_none_or(|first| first.base_offset != chunk.first_offset) {
            return Err(self.damaged(number));
        }
        Ok(batches)
    }

    /// Blocks from one on, as many of `blocks` as are read at once, one at least, each compared with its checksum.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn blocks(&self, number: ObjectNumber, blocks: Range<u32>) -> io::Result<Vec<Bytes>> {
        assert!(!blocks.is_empty(), "some block is asked for");
        let open = self.open_object(number).await?;
        let mut wanted: Vec<BlockEntry> = Vec::new();
        let mut page: Option<(u64, Bytes)> = None;
        for block in blocks.map(u64::from) {
            if block >= open.trailer.blocks {
                return Err(self.damaged(number));
            }
            let in_page = block / BLOCKS_PER_PAGE as u64;
            let bytes = match &page {
                Some((known, bytes)) if *known == in_page => bytes.clone(),
                _ => {
                    let pages = open.trailer.pages();
                    self.page(number, &open, pages.directory + pages.summary + in_page).await?
                }
            };
            let place = usize::try_from(block % BLOCKS_PER_PAGE as u64).expect("a place in a page");
            let entry = BlockEntry::decode(&bytes[place * BLOCK_ENTRY_BYTES..]).ok_or_else(|| self.damaged(number))?;
            page = Some((in_page, bytes));
            let follows = wanted.last().is_none_or(|before| before.at + u64::from(before.bytes) == entry.at);
            let is_inside = entry.at.checked_add(entry.bytes.into()).is_some_and(|end| end <= open.trailer.runs_at);
            if !follows || !is_inside {
                return Err(self.damaged(number));
            }
            if wanted.first().is_some_and(|first| entry.at + u64::from(entry.bytes) > first.at + READ_BYTES_MAX) {
                break;
            }
            wanted.push(entry);
        }
        let (first, last) = wanted.first().zip(wanted.last()).expect("one at least");
        let range = first.at..last.at + u64::from(last.bytes);
        let mut bytes = self.read(number, range).await?;
        let cut = wanted.iter().map(|entry| (entry.crc, bytes.split_to(entry.bytes as usize)));
        let cut: Vec<(u32, Bytes)> = cut.collect();
        if cut.iter().any(|(crc, block)| crc32c(block) != *crc) {
            return Err(self.damaged(number));
        }
        Ok(cut.into_iter().map(|(_, block)| block).collect())
    }

    /// What the object is of, and how it is known.
    pub(super) async fn open_object(&self, number: ObjectNumber) -> io::Result<Arc<OpenObject>> {
        if let Some(open) = self.shared.open.find(number) {
            return Ok(open);
        }
        let size = self.size(number).ok_or_else(|| self.missing(number))?;
        let trailer_at = size.checked_sub((TRAILER_BYTES + HEADER_BYTES) as u64).map(|at| at + HEADER_BYTES as u64);
        let trailer_at = trailer_at.ok_or_else(|| self.damaged(number))?;
        let header = self.read(number, 0..HEADER_BYTES as u64).await?;
        let bytes = self.read(number, trailer_at..size).await?;
        let trailer = Trailer::decode(&bytes, size).filter(|trailer| {
            let id = &trailer.id;
            id.number == number && id.shard == self.shared.shard && format::decode_header(&header) == Some(*id)
        });
        let trailer = trailer.ok_or_else(|| self.damaged(number))?;
        let root = self.read(number, trailer.root_at()..trailer_at).await?;
        if crc32c(&root) != trailer.root_crc {
            return Err(self.damaged(number));
        }
        let root = root.chunks_exact(FIRST_BYTES).map(|first| first.try_into().map(u64::from_le_bytes));
        let root = root.collect::<Result<_, _>>().expect("eight bytes each");
        let open = Arc::new(OpenObject { trailer, root });
        self.shared.open.insert(number, Arc::clone(&open));
        Ok(open)
    }

    async fn page(&self, number: ObjectNumber, open: &OpenObject, page: u64) -> io::Result<Bytes> {
        let at = open.trailer.pages_at + page * PAGE_BYTES as u64;
        self.part(number, at, PAGE_BYTES, format::page_is_whole).await
    }

    /// Bytes of the index that pass `check`.
    async fn part(
        &self,
        number: ObjectNumber,
        at: u64,
        len: usize,
        check: impl Fn(&[u8]) -> bool + Send,
    ) -> io::Result<Bytes> {
        if let Some(bytes) = self.shared.cache.find((number.0, at)).filter(|bytes| bytes.len() == len) {
            return Ok(bytes);
        }
        let bytes = self.read(number, at..at.saturating_add(len as u64)).await?;
        if !check(&bytes) {
            return Err(self.damaged(number));
        }
        if len <= CACHED_BYTES_MAX {
            self.shared.cache.insert((number.0, at), bytes.clone());
        }
        Ok(bytes)
    }

    pub(super) async fn read(&self, number: ObjectNumber, range: Range<u64>) -> io::Result<Bytes> {
        if self.size(number).is_none_or(|size| range.end > size) {
            return Err(if self.contains(number) { self.damaged(number) } else { self.missing(number) });
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let len = range.end - range.start;
        let bytes = self.shared.store.get_range(&self.location(number), range).await.map_err(io_error);
        match bytes {
            Ok(bytes) if bytes.len() as u64 == len => Ok(bytes),
            Ok(_) => Err(self.damaged(number)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged(number)),
            Err(error) => Err(error),
        }
    }
}

/// Entries of a page, of `count` in all.
fn left(count: u64, page: u64, per_page: usize) -> usize {
    let before = page.saturating_mul(per_page as u64);
    usize::try_from(count.saturating_sub(before)).unwrap_or(usize::MAX).min(per_page)
}
