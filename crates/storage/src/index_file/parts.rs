//! What an index file, or an object, has, stream by stream: for whoever puts it elsewhere.

use std::io;
use std::ops::RangeInclusive;

use record::{BatchEntry, FileNumber, ObjectKey, StreamId, StreamOffset, TimestampMs};

use super::format::{ENTRIES_PER_BLOCK, StreamEntry};
use super::open::DirectoryBlock;
use super::{InPlace, IndexStore, object};

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    File(FileNumber),
    /// An object in the place of files, whichever.
    Object {
        first: FileNumber,
        last: FileNumber,
        key: ObjectKey,
    },
}

impl Source {
    /// The files that it is, or has the place of.
    #[must_use]
    pub const fn files(&self) -> RangeInclusive<FileNumber> {
        match *self {
            Self::File(file) => file..=file,
            Self::Object { first, last, .. } => first..=last,
        }
    }
}

/// What a source has of one stream.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    source: Source,
    entry: StreamEntry,
    /// Bytes of its batches, where the source tells.
    bytes: Option<u64>,
    /// What begins before is elsewhere.
    floor: StreamOffset,
}

impl Part {
    /// Where it is read.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// The files that it was in.
    #[must_use]
    pub const fn files(&self) -> RangeInclusive<FileNumber> {
        self.source.files()
    }

    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.entry.stream
    }

    #[must_use]
    pub fn first_offset(&self) -> StreamOffset {
        self.entry.first_offset.max(self.floor)
    }

    /// Behind the last record.
    #[must_use]
    pub const fn next_offset(&self) -> StreamOffset {
        self.entry.next_offset
    }

    /// Bytes of its batches; of an index file none.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        self.bytes
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

    /// No timestamp in it and in files before is larger.
    #[must_use]
    pub const fn running_max_timestamp(&self) -> TimestampMs {
        self.entry.running_max_timestamp
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
    pub async fn part_of(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<Part>> {
        let entry = self.known(file, stream).await?;
        Ok(entry.map(|entry| Part { source: Source::File(file), entry, bytes: None, floor: StreamOffset(0) }))
    }

    /// What is read of a stream in the place of a file; none where that has nothing of the stream.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, `InvalidData` when it is damaged.
    pub async fn part_at(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<Part>> {
        if let Some(place) = self.object_at(file, stream) {
            let InPlace { first, last, key, .. } = place;
            let source = Source::Object { first, last, key };
            let found = self.entry_in(place, stream).await?;
            let part = |(entry, floor): (object::StreamEntry, _)| Part {
                source,
                entry: entry.index,
                bytes: Some(entry.batch_bytes),
                floor,
            };
            return Ok(found.map(part));
        }
        if !self.contains(file) {
            return Err(self.missing(file));
        }
        let entry = self.entry(file, stream).await?;
        Ok(entry.map(|entry| Part { source: Source::File(file), entry, bytes: None, floor: StreamOffset(0) }))
    }

    /// Batches of all streams in a source.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `InvalidData` when it is damaged.
    pub async fn batches_of_all(&self, source: Source) -> io::Result<u64> {
        match source {
            Source::File(file) if self.contains(file) => self.batches_in_header(file).await,
            Source::File(file) => Err(self.missing(file)),
            Source::Object { key, .. } => self.objects().batches_in_trailer(key).await,
        }
    }

    /// The streams of a page of a source, in order: pages count from 0, and behind the last one there is none.
    ///
    /// # Errors
    /// As [`Self::batches_of_all`].
    pub async fn streams_in(&self, source: Source, page: usize) -> io::Result<Option<Vec<Part>>> {
        let part = |(entry, bytes)| Part { source, entry, bytes, floor: StreamOffset(0) };
        Ok(match source {
            Source::File(file) if self.contains(file) => {
                let entries = self.entries_in(file, page).await?;
                entries.map(|entries| entries.into_iter().map(|entry| part((entry, None))).collect())
            }
            Source::File(file) => return Err(self.missing(file)),
            Source::Object { key, .. } => {
                let entries = self.objects().entries_in(key, page).await?;
                entries.map(|entries| {
                    entries.into_iter().map(|entry| part((entry.index, Some(entry.batch_bytes)))).collect()
                })
            }
        })
    }

    async fn entries_in(&self, file: FileNumber, page: usize) -> io::Result<Option<Vec<StreamEntry>>> {
        let Some(DirectoryBlock { bytes, streams }) = self.directory_block(file, page).await? else { return Ok(None) };
        let entries = bytes.chunks_exact(super::ENTRY_BYTES).take(streams.min(ENTRIES_PER_BLOCK));
        entries
            .map(|entry| StreamEntry::decode(entry).ok_or_else(|| self.damaged(file)))
            .collect::<io::Result<_>>()
            .map(Some)
    }

    /// Batches of a part from the one that holds `from`, or comes behind it, on: about as many as `count_min`, or all that
    /// there are.
    ///
    /// # Errors
    /// As [`Self::batches_of_all`].
    pub async fn batches_in(&self, part: &Part, from: StreamOffset, count_min: usize) -> io::Result<Vec<BatchEntry>> {
        let file = match part.source {
            Source::File(file) if self.contains(file) => file,
            Source::File(file) => return Err(self.missing(file)),
            Source::Object { key, .. } => {
                let mut batches = self.objects().batches(key, part.stream(), from.max(part.floor), count_min).await?;
                batches.retain(|batch| batch.base_offset >= part.floor);
                return Ok(batches);
            }
        };
        let chunks = self.chunks(file, &part.entry).await?;
        let skip = chunks.partition_point(|chunk| chunk.first_offset <= from).saturating_sub(1);
        let mut found = Vec::new();
        for chunk in &chunks[skip..] {
            let batches = self.chunk(file, &part.entry, chunk).await?;
            found.extend(batches.into_iter().filter(|batch| batch.next_offset() > from));
            if found.len() >= count_min {
                break;
            }
        }
        Ok(found)
    }
}
