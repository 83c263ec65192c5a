//! The bytes of what a fetch will read: several streams, of several shards, as one answer.
//!
//! What is in memory is taken at once. What is not is read a few pieces at a time, whichever streams
//! they are of, so that a fetch of many cold places waits for the device as often as it must and no
//! more. A long batch of a file is handed out as a range of the file, so that it can leave by sendfile.
//! Short ones are read here, neighbours together: a system call for each would cost more than the
//! bytes between them.
//!
//! What an object has is read by whole blocks, which are compared with their checksums; neighbours of one stream mostly share them.
//!
//! Before a piece is read, memory is taken as if all of it came into memory, as only the read tells; so no more
//! than the pieces under way are counted too much.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use record::{BatchEntry, Extent, ObjectKey};
use smallvec::{SmallVec, smallvec};
use storage::object::Objects;
use storage::{Chunk, Reading, ShardLog, Slice};

use super::held::{Held, Place};
use super::{AnswerMemory, Chunks, Plan, StoredBatch};
use crate::core::Core;
use crate::errors::FetchError;

/// Ranges of a file from this size on are handed out as such.
const FILE_CHUNK_BYTES_MIN: u32 = 32 << 10;
/// Short ranges of one entry are read together when no more than this lies between them.
const GAP_BYTES_MAX: u32 = 4 << 10;
/// The most that is read at once of short ranges.
const RUN_BYTES_MAX: u32 = 256 << 10;
/// The most bytes of batches that are read at once of an object, beside what else is in their blocks; a larger batch alone.
const OBJECT_RUN_BYTES_MAX: u32 = 1 << 20;
/// The same in blocks, of which a batch that others share may be the only one that is wanted.
const OBJECT_RUN_BLOCKS_MAX: u64 = 16;
/// Reads of one answer that are under way together. What they bring is part of the answer and counted with it.
const READS_IN_FLIGHT_MAX: usize = 4;

/// What is read at once: chunks of each batch.
type Run = SmallVec<[Chunks; 1]>;

/// As [`read_within`], with all the memory that it takes.
pub async fn read_plans(plans: &[Plan<'_>]) -> Vec<Result<Vec<StoredBatch>, FetchError>> {
    let turn = match plans.iter().find(|plan| plan.is_cold()) {
        Some(plan) => Some(plan.reading().await),
        None => None,
    };
    read_within(plans, turn, &mut AnswerMemory::unbounded()).await
}

/// Reads what was planned, as far as there is memory; the batches of each plan, in the order of the plans. The first
/// batch of all, the memory for which is there, is read in any case. What they keep alive is at most twice their
/// bytes, together. A plan ends before the first batch that cannot be read, which is an error when it is asked for
/// first.
pub async fn read_within<'a>(
    plans: &[Plan<'a>],
    mut turn: Option<Reading<'a>>,
    memory: &mut AnswerMemory<'_>,
) -> Vec<Result<Vec<StoredBatch>, FetchError>> {
    let mut answer = Answer::new(plans);
    let mut reads = FuturesUnordered::new();
    let mut is_first = true;
    'plans: for (number, plan) in plans.iter().enumerate() {
        // Nothing else may give way for long if all is in memory.
        tokio::task::coop::consume_budget().await;
        while let Some(mut length) = run_length(&plan.entries[answer.begun[number]..]) {
            if answer.failures[number].is_some() {
                break;
            }
            let first = answer.begun[number];
            let (run, bytes) = loop {
                let run = &plan.entries[first..first + length];
                let bytes = bytes_of(run);
                if memory.take(bytes) {
                    break (run, bytes);
                }
                // What is being read may stay in files.
                if let Some((place, bytes, read)) = reads.next().await {
                    memory.give_back(answer.take(place, bytes, read));
                } else if length > 1 {
                    length /= 2;
                } else if is_first {
                    memory.take_first(bytes);
                    break (run, bytes);
                } else {
                    break 'plans;
                }
            };
            let place = (number, first);
            if let Some(chunks) = recent(plan.log(), run) {
                answer.begun[number] += length;
                memory.give_back(answer.take(place, bytes, Ok(chunks)));
                is_first = false;
                continue;
            }
            if turn.is_none() {
                // It was in memory when the turn could have been waited for without holding any.
                if !is_first {
                    break 'plans;
                }
                turn = Some(plan.reading().await);
            }
            is_first = false;
            answer.begun[number] += length;
            if reads.len() == READS_IN_FLIGHT_MAX
                && let Some((place, bytes, read)) = reads.next().await
            {
                memory.give_back(answer.take(place, bytes, read));
            }
            reads.push(async move { (place, bytes, read_run(plan.core, run).await) });
        }
    }
    while let Some((place, bytes, read)) = reads.next().await {
        memory.give_back(answer.take(place, bytes, read));
    }
    // Held to the end: what was read is given up in part only then.
    drop(turn);
    answer.finish()
}

/// What was read so far.
struct Answer<'a> {
    plans: &'a [Plan<'a>],
    chunks: Vec<Vec<Chunks>>,
    /// How many batches of each plan were begun to be read.
    begun: Vec<usize>,
    /// The first batch of each plan that could not be read.
    failures: Vec<Option<(usize, io::Error)>>,
    held: Held,
}

impl<'a> Answer<'a> {
    fn new(plans: &'a [Plan<'a>]) -> Self {
        Self {
            plans,
            chunks: plans.iter().map(|plan| vec![Chunks::new(); plan.entries.len()]).collect(),
            begun: vec![0; plans.len()],
            failures: plans.iter().map(|_| None).collect(),
            held: Held::default(),
        }
    }

    /// Of `bytes` that the run has, how many it does not take in memory.
    fn take(&mut self, (plan, first): Place, bytes: usize, read: io::Result<Run>) -> usize {
        match read {
            Ok(run) => {
                let in_memory: usize = run.iter().flatten().map(bytes_in_memory).sum();
                for (number, chunks) in run.into_iter().enumerate() {
                    let place = (plan, first + number);
                    self.held.note(place, &chunks);
                    self.chunks[plan][place.1] = chunks;
                }
                if self.held.is_too_much() {
                    self.held.settle(&mut self.chunks);
                }
                assert!(in_memory <= bytes, "what was read is what the index names");
                bytes - in_memory
            }
            Err(error) => {
                let failure = &mut self.failures[plan];
                // Reads end in any order, but those of the batches before were begun before.
                if failure.as_ref().is_none_or(|(earliest, _)| first < *earliest) {
                    *failure = Some((first, error));
                }
                bytes
            }
        }
    }

    fn finish(mut self) -> Vec<Result<Vec<StoredBatch>, FetchError>> {
        self.held.settle(&mut self.chunks);
        let read = self.plans.iter().zip(self.chunks).zip(self.begun).zip(self.failures);
        read.map(|(((plan, chunks), begun), failure)| match failure {
            Some((0, error)) => Err(plan.core.read_error(plan.stream, plan.from, error)),
            failure => {
                let readable = failure.map_or(begun, |(first, _)| first);
                let batches = plan.entries.iter().zip(chunks).take(readable);
                Ok(batches.map(|(entry, chunks)| stored(entry, chunks)).collect())
            }
        })
        .collect()
    }
}

fn bytes_of(run: &[BatchEntry]) -> usize {
    let bytes: u64 = run.iter().map(BatchEntry::total_bytes).sum();
    usize::try_from(bytes).expect("a batch is at most 128 MiB")
}

fn bytes_in_memory(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Memory(_) => chunk.len() as usize,
        Chunk::File { .. } => 0,
    }
}

fn stored(entry: &BatchEntry, chunks: Chunks) -> StoredBatch {
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

/// How many of the first entries are short neighbours in one entry of the log; at least 1 if there are any.
fn run_length(entries: &[BatchEntry]) -> Option<usize> {
    let first = entries.first()?;
    if first.object.is_some() {
        return Some(in_neighbouring_blocks(entries));
    }
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

/// How many of the first entries lie in one object, in one block or in blocks that follow one another.
fn in_neighbouring_blocks(entries: &[BatchEntry]) -> usize {
    let mut bytes = entries[0].bytes;
    let neighbours = entries.windows(2).take_while(|pair| {
        let (one, two) = (&pair[0], &pair[1]);
        bytes = bytes.saturating_add(two.bytes);
        let follows = two.log_index == one.log_index || two.log_index == one.log_index.next();
        let is_near = two.log_index.0 < entries[0].log_index.0.saturating_add(OBJECT_RUN_BLOCKS_MAX);
        two.object == one.object && follows && is_near && bytes <= OBJECT_RUN_BYTES_MAX
    });
    1 + neighbours.count()
}

/// All of `run`, if the log has it in memory.
pub(super) fn recent(log: &ShardLog, run: &[BatchEntry]) -> Option<Run> {
    let chunk = |extent: Extent| log.try_read(extent.log_index, range(extent));
    let chunks = |entry: &BatchEntry| match entry.object {
        Some(_) => None,
        None => entry.extents().map(chunk).collect(),
    };
    run.iter().map(chunks).collect()
}

async fn read_run(core: &Core, run: &[BatchEntry]) -> io::Result<Run> {
    if let Some(key) = run.first().and_then(|first| first.object) {
        return read_blocks(core.index.objects(), key, run).await;
    }
    let log = &core.log;
    if run.len() > 1 {
        return read_together(log, run).await;
    }
    let mut read = Run::with_capacity(run.len());
    for entry in run {
        let mut chunks = Chunks::with_capacity(1 + entry.earlier_extents().len());
        for extent in entry.extents() {
            chunks.push(read_extent(log, extent).await?);
        }
        read.push(chunks);
    }
    Ok(read)
}

async fn read_together(log: &ShardLog, entries: &[BatchEntry]) -> io::Result<Run> {
    let first = &entries[0];
    let last = &entries[entries.len() - 1];
    let range = first.position..last.position + last.bytes;
    let whole = log.read(first.log_index, range.clone()).await?.into_slice().await?;
    check_length(&whole, &range)?;
    let chunks = entries.iter().map(|entry| {
        let start = (entry.position - range.start) as usize;
        smallvec![whole.slice(start..start + entry.bytes as usize).into()]
    });
    Ok(chunks.collect())
}

/// Entries that [`in_neighbouring_blocks`] found together.
async fn read_blocks(objects: &Objects, key: ObjectKey, run: &[BatchEntry]) -> io::Result<Run> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the object has no such batch");
    let block = |entry: &BatchEntry| u32::try_from(entry.log_index.0).map_err(|_| damaged());
    let (first, last) = (block(&run[0])?, block(&run[run.len() - 1])?);
    let blocks = objects.blocks(key, first..last.checked_add(1).ok_or_else(damaged)?).await?;
    let batch = |entry: &BatchEntry| {
        let found = blocks.get((block(entry)? - first) as usize).ok_or_else(damaged)?;
        let range = entry.position as usize..(entry.position as usize).saturating_add(entry.bytes as usize);
        if range.end > found.bytes().len() {
            return Err(damaged());
        }
        Ok(smallvec![found.slice(range).into()])
    };
    run.iter().map(batch).collect()
}

async fn read_extent(log: &ShardLog, extent: Extent) -> io::Result<Chunk> {
    let chunk = log.read(extent.log_index, range(extent)).await?;
    if matches!(chunk, Chunk::Memory(_)) || extent.bytes >= FILE_CHUNK_BYTES_MIN {
        return Ok(chunk);
    }
    let slice = chunk.into_slice().await?;
    check_length(&slice, &range(extent))?;
    Ok(slice.into())
}

fn range(extent: Extent) -> Range<u32> {
    extent.position..extent.position + extent.bytes
}

fn check_length(slice: &Slice, range: &Range<u32>) -> io::Result<()> {
    if slice.bytes().len() == range.len() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the log gave fewer bytes than the entry has"))
    }
}

/// The bytes of one batch, joined.
pub(crate) async fn read_whole(core: &Core, entry: &BatchEntry) -> io::Result<Bytes> {
    let mut pieces = Vec::with_capacity(1 + entry.earlier_extents().len());
    for chunk in read_run(core, std::slice::from_ref(entry)).await?.into_iter().flatten() {
        pieces.push(chunk.into_bytes().await?);
    }
    match pieces.len() {
        1 => Ok(pieces.swap_remove(0)),
        _ => Ok(Bytes::from(pieces.concat())),
    }
}

#[cfg(test)]
mod tests {
    use record::{LeaderEpoch, LogIndex, StreamOffset, TimestampMs};

    use super::*;

    fn check(blocks: &[u64], bytes: u32, expected: usize) {
        let entry = |(number, block): (i64, &u64)| BatchEntry {
            base_offset: StreamOffset(number),
            record_count: 1,
            max_timestamp: TimestampMs(0),
            log_index: LogIndex(*block),
            position: 0,
            bytes,
            epoch: LeaderEpoch(0),
            earlier: None,
            object: Some(ObjectKey(1)),
        };
        let entries: Vec<BatchEntry> = (0..).zip(blocks).map(entry).collect();
        assert_eq!(run_length(&entries), Some(expected), "{blocks:?}");
        // As much as is read at once, whatever else is in the blocks.
        let read = (blocks[expected - 1] - blocks[0] + 1) * (64 << 10);
        assert!(expected == 1 || read.max(expected as u64 * u64::from(bytes)) <= storage::object::READ_BYTES_MAX);
    }

    #[test]
    fn neighbouring_blocks_are_read_together_as_far_as_one_read_goes() {
        check(&[7], 100, 1);
        check(&[7, 7, 8, 9], 100, 4);
        check(&[7, 7, 9, 10], 100, 2);
        check(&[7, 6], 100, 1);
        check(&(0..100).collect::<Vec<_>>(), 100, 16);
        check(&[1, 2, 3, 4, 5, 6], 300_000, 3);
        check(&[1, 2], 3 << 20, 1);
    }
}
