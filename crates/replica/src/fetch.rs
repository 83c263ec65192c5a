//! Reads of a stream by offset: the tail from memory, what is older from the segments, the place of
//! each batch from the unsealed index in the state or from the sealed index files. The reader sees
//! none of these borders.
//!
//! A long batch of a file is handed out as a range of the file, so that it can leave by sendfile.
//! Short ones are read here, neighbours together: a system call for each would cost more than the
//! bytes between them.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, TryStreamExt};
use record::{BatchEntry, Extent, FileNumber, LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use shard::Located;
use smallvec::{SmallVec, smallvec};
use storage::{Chunk, ShardLog};

use crate::core::Core;
use crate::errors::FetchError;

/// Ranges of a file from this size on are handed out as such.
const FILE_CHUNK_BYTES_MIN: u32 = 32 << 10;
/// Short ranges of one entry are read together when no more than this lies between them.
const GAP_BYTES_MAX: u32 = 4 << 10;
/// The most that is read at once of short ranges.
const RUN_BYTES_MAX: u32 = 256 << 10;
/// Reads of one fetch that are under way together. What they bring is part of the answer and counted with it.
const READS_IN_FLIGHT_MAX: usize = 4;
/// The most batches that one fetch looks up at a time.
const LOOK_UP_COUNT_MAX: usize = 1_024;

/// What a fetch found.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// In order of offsets; the first may begin before the offset that was asked for.
    pub batches: Vec<StoredBatch>,
    /// The first offset that the stream still has.
    pub first_offset: StreamOffset,
    /// The offset that the next record will get. All below is committed.
    pub next_offset: StreamOffset,
}

/// One batch as it is stored.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base_offset: StreamOffset,
    /// The epoch in which it was appended.
    pub epoch: LeaderEpoch,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The largest timestamp in it.
    pub max_timestamp: TimestampMs,
    /// Bytes of the whole batch.
    pub bytes: u32,
    /// The batch as the producer sent it, cut into pieces. Before it is sent, base offset and epoch
    /// are to be written over its first 16 bytes, which are outside of its checksum.
    pub chunks: SmallVec<[Chunk; 1]>,
}

/// Where the batches of a fetch stand.
enum Plan {
    Memory(Vec<BatchEntry>),
    Sealed(FileNumber),
}

impl Core {
    pub(crate) async fn fetch(
        &self,
        stream: StreamId,
        from: StreamOffset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, FetchError> {
        if self.is_failed() {
            return Err(FetchError::Stopped);
        }
        let (plan, first_offset, next_offset) = self.plan(stream, from, bytes_max, at_least_one)?;
        let entries = match plan {
            Plan::Memory(entries) => entries,
            Plan::Sealed(newest) => {
                let bytes = u64::try_from(bytes_max).unwrap_or(u64::MAX).max(1);
                let found = self.index.batches(newest, stream, from, LOOK_UP_COUNT_MAX, bytes).await;
                let found = found.map_err(|error| self.index_error(stream, from, error))?;
                if found.is_empty() {
                    return Err(damaged(stream, from, "the index does not have it"));
                }
                cut(found.into_iter(), bytes_max, at_least_one)
            }
        };
        check_order(stream, from, &entries)?;
        let chunks = read_all(&self.log, &entries).await.map_err(|error| damage_or_io(stream, from, error))?;
        let batches = entries.iter().zip(chunks).map(|(entry, chunks)| stored(entry, chunks)).collect();
        Ok(Fetched { batches, first_offset, next_offset })
    }

    /// What a file of the index that cannot be read means: the stream is gone and its files with it, or damage.
    pub(crate) fn index_error(&self, stream: StreamId, offset: StreamOffset, error: io::Error) -> FetchError {
        if self.state.read().shard.stream(stream).is_none() {
            return FetchError::UnknownStream(stream);
        }
        damage_or_io(stream, offset, error)
    }

    fn plan(
        &self,
        stream: StreamId,
        from: StreamOffset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<(Plan, StreamOffset, StreamOffset), FetchError> {
        let state = self.state.read();
        let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
        let (first, next) = (view.first_offset(), view.next_offset());
        let plan = match view.locate(from) {
            Located::Memory(batches) => Plan::Memory(cut(batches, bytes_max, at_least_one)),
            Located::File(newest) => Plan::Sealed(newest),
            Located::End => Plan::Memory(Vec::new()),
            Located::OutOfRange => {
                return Err(FetchError::OffsetOutOfRange { offset: from, first, next });
            }
        };
        Ok((plan, first, next))
    }
}

/// As many batches from the front as fit `bytes_max`, one in any case if `at_least_one`, and no more
/// than a fetch looks up at a time: the list is made under apply's lock, and takes memory itself.
fn cut(entries: impl Iterator<Item = BatchEntry>, bytes_max: usize, at_least_one: bool) -> Vec<BatchEntry> {
    let mut left = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut taken = Vec::new();
    for entry in entries.take(LOOK_UP_COUNT_MAX) {
        let bytes = entry.total_bytes();
        if bytes > left && !(at_least_one && taken.is_empty()) {
            break;
        }
        left = left.saturating_sub(bytes);
        taken.push(entry);
        if left == 0 {
            break;
        }
    }
    taken
}

/// What the index names must hold the offset asked for and go on without gap or overlap.
fn check_order(stream: StreamId, from: StreamOffset, entries: &[BatchEntry]) -> Result<(), FetchError> {
    if let Some(first) = entries.first()
        && (first.base_offset > from || first.next_offset() <= from)
    {
        return Err(damaged(stream, from, "the index names another batch"));
    }
    match entries.windows(2).find(|pair| pair[0].next_offset() != pair[1].base_offset) {
        Some(pair) => Err(damaged(stream, pair[1].base_offset, "the index has a gap before it")),
        None => Ok(()),
    }
}

fn stored(entry: &BatchEntry, chunks: SmallVec<[Chunk; 1]>) -> StoredBatch {
    let bytes = u32::try_from(entry.total_bytes()).expect("a batch is at most 128 MiB");
    assert_eq!(chunks.iter().map(Chunk::len).sum::<u32>(), bytes, "what was read is what the index names");
    StoredBatch {
        base_offset: entry.base_offset,
        epoch: entry.epoch,
        record_count: entry.record_count,
        max_timestamp: entry.max_timestamp,
        bytes,
        chunks,
    }
}

fn damaged(stream: StreamId, offset: StreamOffset, reason: &str) -> FetchError {
    FetchError::Damaged { stream, offset, reason: reason.to_owned() }
}

pub(crate) fn damage_or_io(stream: StreamId, offset: StreamOffset, error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
            FetchError::Damaged { stream, offset, reason: error.to_string() }
        }
        _ => error.into(),
    }
}

type Chunks = SmallVec<[Chunk; 1]>;

/// The chunks of each of `entries`. What is not in memory is read a few pieces at a time, so that a
/// fetch of many cold places waits for the device as often as it must and no more.
async fn read_all(log: &ShardLog, entries: &[BatchEntry]) -> io::Result<Vec<Chunks>> {
    let mut read = Vec::with_capacity(entries.len());
    let mut reads = FuturesOrdered::new();
    for run in runs(entries) {
        if reads.len() == READS_IN_FLIGHT_MAX
            && let Some(chunks) = reads.try_next().await?
        {
            read.extend(chunks);
        }
        reads.push_back(read_run(log, run));
    }
    while let Some(chunks) = reads.try_next().await? {
        read.extend(chunks);
    }
    Ok(read)
}

/// `entries` cut into what is read at once.
fn runs(mut entries: &[BatchEntry]) -> impl Iterator<Item = &[BatchEntry]> {
    std::iter::from_fn(move || {
        let (run, rest) = entries.split_at_checked(run_length(entries)?)?;
        entries = rest;
        Some(run)
    })
}

async fn read_run(log: &ShardLog, run: &[BatchEntry]) -> io::Result<SmallVec<[Chunks; 1]>> {
    if run.len() > 1 && !in_memory(log, &run[0]) {
        return read_together(log, run).await;
    }
    let mut read = SmallVec::with_capacity(run.len());
    for entry in run {
        read.push(read_one(log, entry).await?);
    }
    Ok(read)
}

fn in_memory(log: &ShardLog, entry: &BatchEntry) -> bool {
    log.try_read(entry.log_index, entry.position..entry.position).is_some()
}

/// How many of the first entries are short neighbours in one entry of the log; at least 1 if there are any.
fn run_length(entries: &[BatchEntry]) -> Option<usize> {
    let first = entries.first()?;
    let short = |entry: &BatchEntry| entry.bytes < FILE_CHUNK_BYTES_MIN && entry.earlier.is_none();
    if !short(first) {
        return Some(1);
    }
    let neighbours = entries.windows(2).take_while(|pair| {
        let (one, two) = (&pair[0], &pair[1]);
        let end = one.position + one.bytes;
        short(two)
            && two.log_index == one.log_index
            && (end..=end + GAP_BYTES_MAX).contains(&two.position)
            && two.position + two.bytes - first.position <= RUN_BYTES_MAX
    });
    Some(1 + neighbours.count())
}

async fn read_together(log: &ShardLog, entries: &[BatchEntry]) -> io::Result<SmallVec<[Chunks; 1]>> {
    let first = &entries[0];
    let last = &entries[entries.len() - 1];
    let range = first.position..last.position + last.bytes;
    let bytes = log.read(first.log_index, range.clone()).await?.into_bytes().await?;
    check_length(&bytes, &range)?;
    let chunks = entries.iter().map(|entry| {
        let start = (entry.position - range.start) as usize;
        let slice = bytes.slice(start..start + entry.bytes as usize);
        smallvec![Chunk::Memory(smallvec![slice])]
    });
    Ok(chunks.collect())
}

async fn read_one(log: &ShardLog, entry: &BatchEntry) -> io::Result<Chunks> {
    let mut chunks = SmallVec::with_capacity(1 + entry.earlier_extents().len());
    for extent in entry.extents() {
        chunks.push(read_extent(log, extent).await?);
    }
    Ok(chunks)
}

async fn read_extent(log: &ShardLog, extent: Extent) -> io::Result<Chunk> {
    let range = extent.position..extent.position + extent.bytes;
    if let Some(chunk) = log.try_read(extent.log_index, range.clone()) {
        return Ok(chunk);
    }
    let chunk = log.read(extent.log_index, range.clone()).await?;
    if matches!(chunk, Chunk::Memory(_)) || extent.bytes >= FILE_CHUNK_BYTES_MIN {
        return Ok(chunk);
    }
    let bytes = chunk.into_bytes().await?;
    check_length(&bytes, &range)?;
    Ok(Chunk::Memory(smallvec![bytes]))
}

fn check_length(bytes: &Bytes, range: &Range<u32>) -> io::Result<()> {
    if bytes.len() == range.len() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the log gave fewer bytes than the entry has"))
    }
}

/// The bytes of one batch, joined.
pub(crate) async fn read_whole(log: &ShardLog, entry: &BatchEntry) -> io::Result<Bytes> {
    let mut pieces = Vec::with_capacity(1 + entry.earlier_extents().len());
    for extent in entry.extents() {
        pieces.push(read_extent(log, extent).await?.into_bytes().await?);
    }
    match pieces.len() {
        1 => Ok(pieces.swap_remove(0)),
        _ => Ok(Bytes::from(pieces.concat())),
    }
}
