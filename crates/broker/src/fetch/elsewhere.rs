//! Batches of ranges that a partition had on shards of which this node has no copy: brought here from a node that has
//! one, before the answer is put together.
//!
//! Few are brought for one answer, and each has its memory before it is asked for. A partition whose turn did not come
//! is answered with nothing, and has its turn with one of the next requests, as those that were read stand behind it.

use base::memory::Permit;
use base::time::{Instant, timeout_at};
use cluster::{EndedError, EndedRange};
use futures_util::future::join_all;
use record::{ShardId, StreamId, StreamOffset};
use replica::StoredBatch;

use super::FetchError;
use super::places::Places;
use crate::Broker;

/// Partitions that are brought for one answer.
const BROUGHT_MAX: usize = 4;
/// What is asked for of one partition, but for a first batch that has more.
const BROUGHT_BYTES_MAX: usize = 1 << 20;

/// What was brought of one partition.
#[derive(Debug)]
pub(super) enum Brought {
    Batches(Vec<StoredBatch>),
    Failed(FetchError),
    /// It has to wait for its turn.
    Later,
}

/// A range on a shard of which this node has no copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elsewhere {
    pub(super) shard: ShardId,
    pub(super) stream: StreamId,
    pub(super) from: StreamOffset,
    pub(super) bytes_max: i32,
}

impl Broker {
    /// Brings what `places` lack, as far as it is this answer's turn; the memory that it takes. Waits for memory until
    /// `deadline`, and for the first of them only.
    pub(super) async fn bring(&self, places: &mut Places<'_>, deadline: Instant) -> Permit {
        let wanted: Vec<(usize, Elsewhere)> = places.elsewhere().take(BROUGHT_MAX).collect();
        let mut held = Permit::empty();
        if wanted.is_empty() {
            return held;
        }
        let brought = wanted.iter().enumerate().map(|(turn, (_, range))| self.bring_one(*range, turn == 0, deadline));
        for ((place, _), (found, memory)) in wanted.iter().zip(join_all(brought).await) {
            held.merge(memory);
            places.give(*place, found);
        }
        held
    }

    async fn bring_one(&self, range: Elsewhere, waits: bool, deadline: Instant) -> (Brought, Permit) {
        let Elsewhere { shard, stream, from, bytes_max } = range;
        let answers = self.memory().answers();
        let mut bytes = usize::try_from(bytes_max).unwrap_or(0).clamp(1, BROUGHT_BYTES_MAX);
        // With what a batch that is larger says of itself, it is asked for once more.
        for _ in 0..2 {
            let permit = match answers.try_acquire(bytes) {
                Some(permit) => permit,
                None if waits => match timeout_at(deadline, answers.acquire(bytes.min(answers.bytes_max()))).await {
                    Ok(permit) => permit,
                    Err(_) => return (Brought::Failed(FetchError::NoMemory), Permit::empty()),
                },
                None => return (Brought::Later, Permit::empty()),
            };
            match self.cluster().read_ended(shard, stream, from, bytes).await {
                Ok(EndedRange { batches, .. }) => {
                    let mut permit = permit;
                    let bytes: usize = batches.iter().map(|batch| batch.bytes as usize).sum();
                    return (Brought::Batches(batches), permit.split(bytes));
                }
                Err(EndedError::TooLarge { bytes: larger }) => bytes = larger,
                Err(error @ (EndedError::Nobody { .. } | EndedError::Refused { .. })) => {
                    return (Brought::Failed(FetchError::Storage(error.to_string())), Permit::empty());
                }
            }
        }
        let text = format!("a batch of stream {stream} changes its size");
        (Brought::Failed(FetchError::Storage(text)), Permit::empty())
    }
}
