//! What an index file has, stream by stream: for whoever puts it elsewhere.

use std::io;

use record::{BatchEntry, FileNumber, StreamId, StreamOffset, TimestampMs};

use super::IndexStore;
use super::format::{ENTRIES_PER_BLOCK, StreamEntry};
use super::open::DirectoryBlock;

/// What a file has of one stream.
#[derive(Debug, Clone, Copy)]
pub struct FilePart {
    file: FileNumber,
    entry: StreamEntry,
}

impl FilePart {
    #[must_use]
    pub const fn file(&self) -> FileNumber {
        self.file
    }

    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.entry.stream
    }

    #[must_use]
    pub const fn first_offset(&self) -> StreamOffset {
        self.entry.first_offset
    }

    /// Behind the last record.
    #[must_use]
    pub const fn next_offset(&self) -> StreamOffset {
        self.entry.next_offset
    }

    #[must_use]
    pub const fn batches(&self) -> u32 {
        self.entry.batches
    }

    /// The file before that has the stream, a farther one, and how many there are; numbers of files, 0 for none.
    #[must_use]
    pub const fn links(&self) -> (u32, u32, u32) {
        (self.entry.previous, self.entry.jump, self.entry.depth)
    }

    /// No timestamp in files before is larger, as far as this one tells; the smallest number where they have none that is.
    #[must_use]
    pub fn max_timestamp_before(&self) -> TimestampMs {
        let StreamEntry { max_timestamp, running_max_timestamp, .. } = self.entry;
        if running_max_timestamp > max_timestamp { running_max_timestamp } else { TimestampMs(i64::MIN) }
    }
}

impl IndexStore {
    /// What a file has of a stream; none where it does not have the stream, or is not there.
    ///
    /// # Errors
    /// `InvalidData` when it is damaged.
    pub async fn part_of(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<FilePart>> {
        let entry = self.entry(file, stream).await?;
        Ok(entry.map(|entry| FilePart { file, entry }))
    }

    /// Batches of all streams in a file.
    ///
    /// # Errors
    /// `NotFound` when the file is not there, `InvalidData` when it is damaged.
    pub async fn batches_of_all(&self, file: FileNumber) -> io::Result<u64> {
        if !self.contains(file) {
            return Err(self.missing(file));
        }
        self.batches_in_header(file).await
    }

    /// The streams of a page of a file, in order: pages count from 0, and behind the last one there is none.
    ///
    /// # Errors
    /// `NotFound` when the file is not there, `InvalidData` when it is damaged.
    pub async fn streams_in(&self, file: FileNumber, page: usize) -> io::Result<Option<Vec<FilePart>>> {
        if !self.contains(file) {
            return Err(self.missing(file));
        }
        let Some(DirectoryBlock { bytes, streams }) = self.directory_block(file, page).await? else { return Ok(None) };
        let entries = bytes.chunks_exact(super::ENTRY_BYTES).take(streams.min(ENTRIES_PER_BLOCK));
        let part = |entry| {
            let entry = StreamEntry::decode(entry).ok_or_else(|| self.damaged(file))?;
            Ok(FilePart { file, entry })
        };
        entries.map(part).collect::<io::Result<_>>().map(Some)
    }

    /// Batches of a part from the one that holds `from`, or comes behind it, on: about as many as `count_min`, or all that
    /// there are.
    ///
    /// # Errors
    /// As [`Self::streams_in`].
    pub async fn batches_in(
        &self,
        part: &FilePart,
        from: StreamOffset,
        count_min: usize,
    ) -> io::Result<Vec<BatchEntry>> {
        if !self.contains(part.file) {
            return Err(self.missing(part.file));
        }
        let chunks = self.chunks(part.file, &part.entry).await?;
        let skip = chunks.partition_point(|chunk| chunk.first_offset <= from).saturating_sub(1);
        let mut found = Vec::new();
        for chunk in &chunks[skip..] {
            let batches = self.chunk(part.file, &part.entry, chunk).await?;
            found.extend(batches.into_iter().filter(|batch| batch.next_offset() > from));
            if found.len() >= count_min {
                break;
            }
        }
        Ok(found)
    }
}
