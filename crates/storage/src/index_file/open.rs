//! Reading parts of index files, through the caches.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use base::disk::{File, OpenOptions, read_exact_at};
use bytes::Bytes;
use parking_lot::Mutex;
use record::{BatchEntry, FileNumber, StreamId, crc32c};

use super::IndexStore;
use super::format::{self, BLOCK_BYTES, ENTRIES_PER_BLOCK, HEADER_BYTES, Header, StreamEntry};
use crate::batch_run::{self, CHUNK_BYTES_MAX, ChunkEntry};

/// Runs up to this are kept in the cache.
const CACHED_BYTES_MAX: u32 = 64 << 10;

/// An open index file.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: Arc<dyn File>,
    header: Header,
    /// The first stream of each directory block.
    summary: Vec<u64>,
}

/// A block of a file's directory.
#[derive(Debug)]
pub(super) struct DirectoryBlock {
    pub(super) bytes: Bytes,
    /// Streams from its first one on, in it and in those behind it.
    pub(super) streams: usize,
}

/// A bounded number of open files, first in first out.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files_max: usize,
    files: Mutex<VecDeque<(FileNumber, Arc<OpenFile>)>>,
}

impl OpenFiles {
    pub(super) fn new(files_max: usize) -> Self {
        Self { files_max, files: Mutex::default() }
    }

    fn find(&self, number: FileNumber) -> Option<Arc<OpenFile>> {
        self.files.lock().iter().find(|(other, _)| *other == number).map(|(_, file)| Arc::clone(file))
    }

    fn insert(&self, number: FileNumber, file: Arc<OpenFile>) {
        let mut files = self.files.lock();
        if files.len() >= self.files_max {
            files.pop_front();
        }
        files.push_back((number, file));
    }

    pub(super) fn forget(&self, number: FileNumber) {
        self.files.lock().retain(|(other, _)| *other != number);
    }
}

impl IndexStore {
    /// What `file` knows of `stream`; none when it does not have the stream, or is not there.
    pub(super) async fn entry(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<StreamEntry>> {
        if !self.contains(file) {
            return Ok(None);
        }
        let open = self.open_file(file).await?;
        let Some(block) = open.summary.partition_point(|first| *first <= stream.0).checked_sub(1) else {
            return Ok(None);
        };
        let DirectoryBlock { bytes, streams } = self.block(file, &open, block).await?;
        Ok(format::entry_in_block(&bytes, streams, stream))
    }

    pub(super) async fn batches_in_header(&self, file: FileNumber) -> io::Result<u64> {
        Ok(self.open_file(file).await?.header.batches)
    }

    /// A block of the directory of a file that is there, if it has so many.
    pub(super) async fn directory_block(&self, file: FileNumber, block: usize) -> io::Result<Option<DirectoryBlock>> {
        let open = self.open_file(file).await?;
        if block >= open.summary.len() {
            return Ok(None);
        }
        self.block(file, &open, block).await.map(Some)
    }

    async fn block(&self, file: FileNumber, open: &OpenFile, block: usize) -> io::Result<DirectoryBlock> {
        let at = open.header.directory_at + (block * BLOCK_BYTES) as u64;
        let bytes = self.part(file, open, at, BLOCK_BYTES, format::block_is_whole).await?;
        let before = (block * ENTRIES_PER_BLOCK) as u64;
        let streams = usize::try_from(open.header.streams.saturating_sub(before)).unwrap_or(usize::MAX);
        Ok(DirectoryBlock { bytes, streams })
    }

    /// The table of a run's chunks.
    pub(super) async fn chunks(&self, file: FileNumber, entry: &StreamEntry) -> io::Result<Vec<ChunkEntry>> {
        let run = entry.run();
        if let Some(only) = run.only_chunk() {
            return Ok(vec![only]);
        }
        let open = self.open_file(file).await?;
        let len = run.table_bytes().ok_or_else(|| self.damaged(file))?;
        let table = self.part(file, &open, entry.run_at, len, |bytes| crc32c(bytes) == entry.run_crc).await?;
        batch_run::decode_table(&table).ok_or_else(|| self.damaged(file))
    }

    pub(super) async fn chunk(
        &self,
        file: FileNumber,
        entry: &StreamEntry,
        chunk: &ChunkEntry,
    ) -> io::Result<Vec<BatchEntry>> {
        let open = self.open_file(file).await?;
        if chunk.bytes > CHUNK_BYTES_MAX {
            return Err(self.damaged(file));
        }
        let at = entry.run_at + u64::from(chunk.at);
        let bytes = self.part(file, &open, at, chunk.bytes as usize, |bytes| crc32c(bytes) == chunk.crc).await?;
        let batches = batch_run::decode_chunk(&bytes, chunk.batches).ok_or_else(|| self.damaged(file))?;
        if batches.first().is_none_or(|first| first.base_offset != chunk.first_offset) {
            return Err(self.damaged(file));
        }
        Ok(batches)
    }

    async fn open_file(&self, number: FileNumber) -> io::Result<Arc<OpenFile>> {
        if let Some(file) = self.shared.open.find(number) {
            return Ok(file);
        }
        let shared = Arc::clone(&self.shared);
        let path = shared.path(number);
        let file = base::task::blocking(move || shared.disk.open(&path, OpenOptions::read())).await?;
        let bytes = file.read_at(0, HEADER_BYTES).await?;
        let header = Header::decode(&bytes).filter(|header| header.file == number.0);
        let header = header.ok_or_else(|| self.damaged(number))?;
        let (at, len) = header
            .summary()
            .filter(|(at, len)| file.len().is_ok_and(|size| at.checked_add(*len as u64) == Some(size)))
            .ok_or_else(|| self.damaged(number))?;
        let bytes = read_exact_at(&*file, at, len).await?;
        if crc32c(&bytes) != header.summary_crc {
            return Err(self.damaged(number));
        }
        let summary =
            bytes.chunks_exact(8).map(|first| u64::from_le_bytes(first.try_into().expect("eight bytes"))).collect();
        let open = Arc::new(OpenFile { file, header, summary });
        self.shared.open.insert(number, Arc::clone(&open));
        Ok(open)
    }

    /// Bytes of a file that pass `check`.
    async fn part(
        &self,
        number: FileNumber,
        open: &OpenFile,
        at: u64,
        len: usize,
        check: impl Fn(&[u8]) -> bool + Send,
    ) -> io::Result<Bytes> {
        if let Some(bytes) = self.shared.cache.find((number.0.into(), at)).filter(|bytes| bytes.len() == len) {
            return Ok(bytes);
        }
        let bytes = open.file.read_at(at, len).await?.freeze();
        if bytes.len() != len || !check(&bytes) {
            return Err(self.damaged(number));
        }
        if len <= CACHED_BYTES_MAX as usize {
            self.shared.cache.insert((number.0.into(), at), bytes.clone());
        }
        Ok(bytes)
    }

    pub(super) fn missing(&self, file: FileNumber) -> io::Error {
        let text = format!("the index file {} is missing", self.shared.path(file).display());
        io::Error::new(io::ErrorKind::NotFound, text)
    }

    pub(super) fn lacks(&self, file: FileNumber, stream: StreamId) -> io::Error {
        let text = format!("the index file {} does not have the stream {}", self.shared.path(file).display(), stream.0);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    pub(super) fn damaged(&self, file: FileNumber) -> io::Error {
        let text = format!("the index file {} is damaged", self.shared.path(file).display());
        tracing::error!("{text}");
        if self.contains(file) {
            self.shared.damaged.lock().insert(file.0);
        }
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}
