//! The answer to a fetch: its memory, its turn at the files, and its bytes.
//!
//! An answer waits only for the memory of its first batch. It holds a turn at the files before that memory, and gives
//! the turn up when the memory must be waited for. Who then waits for a turn again has the memory of its first batch at
//! most: so nobody who waits keeps much from others.

use std::pin::pin;

use base::memory::{Permit, Share};
use base::time::{self, Instant};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use replica::AnswerMemory;
use storage::Reading;

use super::places::Places;
use super::read::{self, Look};
use super::{Chunk, FetchError, Fetched, FetchedPartition};
use crate::Broker;

/// The most of an answer that has its memory out of the share for small ones.
const SMALL_BYTES_MAX: usize = 64 << 10;

impl Broker {
    /// Takes memory for the first batch, and reads that and what more there is memory for at once. If the memory or a
    /// turn must be waited for, what is to be read is found anew. The wait for memory ends at `deadline`.
    pub(super) async fn answer<'a>(
        &self,
        places: &'a Places<'_>,
        mut look: Look<'a>,
        bytes_max: i32,
        deadline: Instant,
    ) -> Fetched {
        let mut memory: Option<AnswerMemory<'_>> = None;
        let mut turn = None;
        while let Some(least) = look.first_memory_bytes() {
            if turn.is_none()
                && let Some(cold) = look.cold()
            {
                turn = cold.reading().now_or_never();
                if turn.is_none() {
                    let next = cold.reading();
                    drop(look);
                    turn = Some(next.await);
                    look = read::look(places, bytes_max, &[]).await;
                    continue;
                }
            }
            if let Some(memory) = memory.take_if(|memory| memory.covers(least)) {
                return self.read(places, look, turn, memory, bytes_max).await;
            }
            // The first batch may have become a larger one than was waited for.
            drop(memory.take());
            let wanted = look.memory_bytes_to_begin();
            memory = self.memory_at_once(wanted).or_else(|| self.memory_at_once(least));
            if memory.is_none() {
                drop((look, turn.take()));
                memory = time::timeout_at(deadline, self.memory_later(wanted)).await.ok();
                if memory.is_none() {
                    let refused = places.iter().map(|_| FetchedPartition::failed(FetchError::NoMemory));
                    return fetched(refused.collect(), Permit::empty());
                }
                look = read::look(places, bytes_max, &[]).await;
            }
        }
        fetched(look.into_found(), Permit::empty())
    }

    fn memory_at_once(&self, bytes: usize) -> Option<AnswerMemory<'_>> {
        let (answers, small) = (self.memory().answers(), self.memory().small_answers());
        if let Some(permit) = answers.try_acquire(bytes) {
            return Some(AnswerMemory::new(answers, permit, usize::MAX));
        }
        let permit = (bytes <= small_max(small)).then(|| small.try_acquire(bytes)).flatten()?;
        Some(AnswerMemory::new(small, permit, small_max(small)))
    }

    async fn memory_later(&self, bytes: usize) -> AnswerMemory<'_> {
        let (answers, small) = (self.memory().answers(), self.memory().small_answers());
        if bytes > small_max(small) {
            return AnswerMemory::new(answers, answers.acquire(bytes).await, usize::MAX);
        }
        match select(pin!(answers.acquire(bytes)), pin!(small.acquire(bytes))).await {
            Either::Left((permit, _)) => AnswerMemory::new(answers, permit, usize::MAX),
            Either::Right((permit, _)) => AnswerMemory::new(small, permit, small_max(small)),
        }
    }

    /// Reads what there is memory for, and gives back what turns out to leave by way of files.
    async fn read<'a>(
        &self,
        places: &'a Places<'_>,
        mut look: Look<'a>,
        mut turn: Option<Reading<'a>>,
        mut memory: AnswerMemory<'_>,
        bytes_max: i32,
    ) -> Fetched {
        loop {
            let partitions = look.read(turn.take(), &mut memory).await;
            let failures: Vec<_> = partitions.iter().map(|partition| partition.error.clone()).collect();
            if partitions.iter().any(|partition| partition.bytes > 0) || failures.iter().all(Option::is_none) {
                let memory = memory.end(bytes_in_memory(&partitions));
                return fetched(partitions, memory);
            }
            // What stands behind partitions that cannot be read has its turn without them: they may stay so.
            look = read::look(places, bytes_max, &failures).await;
            if look.first_memory_bytes().is_none_or(|least| !memory.try_cover(least)) {
                return fetched(partitions, Permit::empty());
            }
        }
    }
}

fn fetched(partitions: Vec<FetchedPartition>, memory: Permit) -> Fetched {
    Fetched { partitions, memory, memory_of_brought: Permit::empty() }
}

fn small_max(share: &Share) -> usize {
    SMALL_BYTES_MAX.min(share.bytes_max() / 4)
}

/// What of the answer is not in files.
fn bytes_in_memory(found: &[FetchedPartition]) -> usize {
    let here = || found.iter().filter(|partition| !partition.is_brought);
    let batches = || here().flat_map(|partition| &partition.batches);
    let chunks = batches().flat_map(|batch| &batch.chunks);
    let bytes: usize = chunks
        .map(|chunk| match chunk {
            Chunk::Memory(slices) => slices.iter().map(|slice| slice.bytes().len()).sum(),
            Chunk::File { .. } => 0,
        })
        .sum();
    read::memory_bytes(bytes as u64, batches().count())
}
