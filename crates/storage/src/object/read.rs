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
use record::{BatchEntry, ObjectKey, StreamId, StreamOffset, TimestampMs, crc32c};

use super::Objects;
use super::errors::io_error;
use super::format::{
    self, AbortedRange, BLOCK_ENTRY_BYTES, BLOCKS_PER_PAGE, BlockEntry, ENTRIES_PER_PAGE, ENTRY_BYTES, FIRST_BYTES,
    FIRSTS_PER_PAGE, HEADER_BYTES, PAGE_BYTES, StreamEntry, TRAILER_BYTES, Trailer,
};
use crate::Slice;
use crate::batch_run::{self, CHUNK_BYTES_MAX, ChunkEntry, RunPlace};
use crate::passing::is_unreadable;

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
pub(super) struct OpenObjects(Mutex<VecDeque<(ObjectKey, Arc<OpenObject>)>>);

impl OpenObjects {
    fn find(&self, key: ObjectKey) -> Option<Arc<OpenObject>> {
        self.0.lock().iter().find(|(other, _)| *other == key).map(|(_, object)| Arc::clone(object))
    }

    fn insert(&self, key: ObjectKey, object: Arc<OpenObject>) {
        let mut objects = self.0.lock();
        if objects.len() >= OPEN_MAX {
            objects.pop_front();
        }
        objects.push_back((key, object));
    }

    pub(super) fn forget(&self, key: ObjectKey) {
        self.0.lock().retain(|(other, _)| *other != key);
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
    pub async fn stream(&self, key: ObjectKey, stream: StreamId) -> io::Result<Option<ObjectStream>> {
        let entry = self.entry(key, stream).await?;
        Ok(entry.map(|entry| ObjectStream {
            first_offset: entry.index.first_offset,
            next_offset: entry.index.next_offset,
            max_timestamp: entry.index.max_timestamp,
            running_max_timestamp: entry.index.running_max_timestamp,
            last_stable_offset: entry.last_stable_offset,
            batches: entry.index.batches,
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
        key: ObjectKey,
        stream: StreamId,
        from: StreamOffset,
        count_max: usize,
    ) -> io::Result<Vec<BatchEntry>> {
        let Some(entry) = self.entry(key, stream).await? else { return Ok(Vec::new()) };
        let chunks = self.chunks(key, entry.index.run()).await?;
        let first = chunks.partition_point(|chunk| chunk.first_offset <= from).saturating_sub(1);
        let mut found = Vec::new();
        for chunk in &chunks[first..] {
            let batches = self.chunk(key, entry.index.run_at, chunk).await?;
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
    pub async fn aborted(&self, key: ObjectKey, stream: StreamId) -> io::Result<Vec<AbortedRange>> {
        let Some(entry) = self.entry(key, stream).await?.filter(|entry| entry.aborted > 0) else {
            return Ok(Vec::new());
        };
        let at = entry.index.run_at.checked_add(u64::from(entry.index.run_bytes)).ok_or_else(|| self.damaged(key))?;
        let whole = |bytes: &[u8]| format::decode_aborted(bytes).is_some();
        let bytes = self.part(key, at, entry.aborted_bytes(), whole).await?;
        format::decode_aborted(&bytes).ok_or_else(|| self.damaged(key))
    }

    pub(crate) async fn batches_in_trailer(&self, key: ObjectKey) -> io::Result<u64> {
        Ok(self.open_object(key).await?.trailer.batches)
    }

    /// The entries of a page of the directory, if there are so many.
    pub(crate) async fn entries_in(&self, key: ObjectKey, page: usize) -> io::Result<Option<Vec<StreamEntry>>> {
        let open = self.open_object(key).await?;
        let page = page as u64;
        if page >= open.trailer.pages().directory {
            return Ok(None);
        }
        let bytes = self.page(key, &open, page).await?;
        let entries = bytes.chunks_exact(ENTRY_BYTES).take(left(open.trailer.streams, page, ENTRIES_PER_PAGE));
        let entry = |bytes| StreamEntry::decode(bytes).ok_or_else(|| self.damaged(key));
        entries.map(entry).collect::<io::Result<_>>().map(Some)
    }

    pub(crate) async fn entry(&self, key: ObjectKey, stream: StreamId) -> io::Result<Option<StreamEntry>> {
        let open = self.open_object(key).await?;
        let pages = open.trailer.pages();
        let Some(summary) = open.root.partition_point(|first| *first <= stream.0).checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(key, &open, pages.directory + summary as u64).await?;
        let count = left(pages.directory, summary as u64, FIRSTS_PER_PAGE);
        let place = format::place_of(&page, count, FIRST_BYTES, stream).ok_or_else(|| self.damaged(key))?;
        let directory = (summary * FIRSTS_PER_PAGE + place) as u64;
        let page = self.page(key, &open, directory).await?;
        let count = left(open.trailer.streams, directory, ENTRIES_PER_PAGE);
        let place = format::place_of(&page, count, ENTRY_BYTES, stream).ok_or_else(|| self.damaged(key))?;
        let entry = StreamEntry::decode(&page[place * ENTRY_BYTES..]).ok_or_else(|| self.damaged(key))?;
        Ok(Some(entry).filter(|entry| entry.index.stream == stream))
    }

    /// The table of a run's chunks.
    pub(crate) async fn chunks(&self, key: ObjectKey, run: RunPlace) -> io::Result<Vec<ChunkEntry>> {
        if let Some(only) = run.only_chunk() {
            return Ok(vec![only]);
        }
        let len = run.table_bytes().ok_or_else(|| self.damaged(key))?;
        let table = self.part(key, run.at, len, |bytes| crc32c(bytes) == run.crc).await?;
        batch_run::decode_table(&table).ok_or_else(|| self.damaged(key))
    }

    /// The batches of a chunk of the run at `run_at`.
    pub(crate) async fn chunk(&self, key: ObjectKey, run_at: u64, chunk: &ChunkEntry) -> io::Result<Vec<BatchEntry>> {
        if chunk.bytes > CHUNK_BYTES_MAX {
            return Err(self.damaged(key));
        }
        let at = run_at.checked_add(u64::from(chunk.at)).ok_or_else(|| self.damaged(key))?;
        let bytes = self.part(key, at, chunk.bytes as usize, |bytes| crc32c(bytes) == chunk.crc).await?;
        let batches = batch_run::decode_chunk(&bytes, chunk.batches).ok_or_else(|| self.damaged(key))?;
        if batches.first().is_none_or(|first| first.base_offset != chunk.first_offset) {
            return Err(self.damaged(key));
        }
        Ok(batches.into_iter().map(|batch| BatchEntry { object: Some(key), ..batch }).collect())
    }

    /// Blocks from one on, as many of `blocks` as are read at once, one at least, each compared with its checksum; all of them
    /// keep alive what was read together.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn blocks(&self, key: ObjectKey, blocks: Range<u32>) -> io::Result<Vec<Slice>> {
        assert!(!blocks.is_empty(), "some block is asked for");
        let open = self.open_object(key).await?;
        let mut wanted: Vec<BlockEntry> = Vec::new();
        let mut page: Option<(u64, Bytes)> = None;
        for block in blocks.map(u64::from) {
            if block >= open.trailer.blocks {
                return Err(self.damaged(key));
            }
            let in_page = block / BLOCKS_PER_PAGE as u64;
            let bytes = match &page {
                Some((known, bytes)) if *known == in_page => bytes.clone(),
                _ => {
                    let pages = open.trailer.pages();
                    self.page(key, &open, pages.directory + pages.summary + in_page).await?
                }
            };
            let place = usize::try_from(block % BLOCKS_PER_PAGE as u64).expect("a place in a page");
            let entry = BlockEntry::decode(&bytes[place * BLOCK_ENTRY_BYTES..]).ok_or_else(|| self.damaged(key))?;
            page = Some((in_page, bytes));
            let follows = wanted.last().is_none_or(|before| before.at + u64::from(before.bytes) == entry.at);
            let is_inside = entry.at.checked_add(entry.bytes.into()).is_some_and(|end| end <= open.trailer.runs_at);
            if !follows || !is_inside {
                return Err(self.damaged(key));
            }
            if wanted.first().is_some_and(|first| entry.at + u64::from(entry.bytes) > first.at + READ_BYTES_MAX) {
                break;
            }
            wanted.push(entry);
        }
        let (first, last) = wanted.first().zip(wanted.last()).expect("one at least");
        let range = first.at..last.at + u64::from(last.bytes);
        let whole = Slice::whole(self.read(key, range).await?);
        let mut at = 0;
        let mut found = Vec::with_capacity(wanted.len());
        for entry in wanted {
            let block = whole.slice(at..at + entry.bytes as usize);
            if crc32c(block.bytes()) != entry.crc {
                return Err(self.damaged(key));
            }
            at += entry.bytes as usize;
            found.push(block);
        }
        Ok(found)
    }

    /// What the object is of, and how it is known.
    pub(super) async fn open_object(&self, key: ObjectKey) -> io::Result<Arc<OpenObject>> {
        if let Some(open) = self.shared.open.find(key) {
            return Ok(open);
        }
        let size = self.size(key).ok_or_else(|| self.missing(key))?;
        let trailer_at = size.checked_sub((TRAILER_BYTES + HEADER_BYTES) as u64).map(|at| at + HEADER_BYTES as u64);
        let trailer_at = trailer_at.ok_or_else(|| self.damaged(key))?;
        let header = self.read(key, 0..HEADER_BYTES as u64).await?;
        let bytes = self.read(key, trailer_at..size).await?;
        let trailer = Trailer::decode(&bytes, size).filter(|trailer| {
            let id = &trailer.id;
            id.key == key && id.shard == self.shared.shard && format::decode_header(&header) == Some(*id)
        });
        let trailer = trailer.ok_or_else(|| self.damaged(key))?;
        let root = self.read(key, trailer.root_at()..trailer_at).await?;
        if crc32c(&root) != trailer.root_crc {
            return Err(self.damaged(key));
        }
        let root = root.chunks_exact(FIRST_BYTES).map(|first| first.try_into().map(u64::from_le_bytes));
        let root = root.collect::<Result<_, _>>().expect("eight bytes each");
        let open = Arc::new(OpenObject { trailer, root });
        self.shared.open.insert(key, Arc::clone(&open));
        Ok(open)
    }

    async fn page(&self, key: ObjectKey, open: &OpenObject, page: u64) -> io::Result<Bytes> {
        let at = open.trailer.pages_at + page * PAGE_BYTES as u64;
        self.part(key, at, PAGE_BYTES, format::page_is_whole).await
    }

    /// Bytes of the index that pass `check`.
    async fn part(
        &self,
        key: ObjectKey,
        at: u64,
        len: usize,
        check: impl Fn(&[u8]) -> bool + Send,
    ) -> io::Result<Bytes> {
        if let Some(bytes) = self.shared.cache.find((key.0, at)).filter(|bytes| bytes.len() == len) {
            return Ok(bytes);
        }
        let bytes = self.read(key, at..at.saturating_add(len as u64)).await?;
        if !check(&bytes) {
            return Err(self.damaged(key));
        }
        if len <= CACHED_BYTES_MAX {
            self.shared.cache.insert((key.0, at), bytes.clone());
        }
        Ok(bytes)
    }

    pub(super) async fn read(&self, key: ObjectKey, range: Range<u64>) -> io::Result<Bytes> {
        if self.size(key).is_none_or(|size| range.end > size) {
            return Err(if self.contains(key) { self.damaged(key) } else { self.missing(key) });
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let len = range.end - range.start;
        let bytes = self.shared.store.get_range(&self.location(key), range).await.map_err(io_error);
        match bytes {
            Ok(bytes) if bytes.len() as u64 == len => Ok(bytes),
            Ok(_) => Err(self.damaged(key)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged(key)),
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound || is_unreadable(&error) {
                    let _ = self.suspect(key);
                }
                Err(error)
            }
        }
    }
}

/// Entries of a page, of `count` in all.
fn left(count: u64, page: u64, per_page: usize) -> usize {
    let before = page.saturating_mul(per_page as u64);
    usize::try_from(count.saturating_sub(before)).unwrap_or(usize::MAX).min(per_page)
}
