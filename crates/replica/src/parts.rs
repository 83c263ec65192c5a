//! Batches that do not fit one entry: all parts but the last are staged, invisible, and the append
//! that brings the last one makes them one batch. The parts enter the queue together, so nothing
//! comes between them in the order of arrival.

use std::sync::Arc;

use record::{BatchSummary, StreamId};
use shard::commands::{Append, StagePart};
use shard::{BODY_JOINED_BYTES, Command};
use smallvec::SmallVec;
use storage::Payload;

use crate::core::Core;
use crate::pending::{Answer, Pending};
use crate::proposer::{Item, Items};

/// What of an entry is left to its head when a part fills the rest.
const HEAD_BYTES: usize = 4 << 10;

/// The parts of a larger batch are copied out of it. The log lets go of them one by one, so that the last keeps all of
/// the batch alive for as long as the shard is idle.
const SHARED_BATCH_BYTES_MAX: usize = 4 << 20;

/// The commands that append `batch`, with the outcome of the last one.
pub(crate) fn items(
    core: &Core,
    targets: SmallVec<[StreamId; 1]>,
    summary: BatchSummary,
    batch: Payload,
) -> (Items, Pending) {
    let (answer, pending) = Pending::new();
    let part_bytes_max = core.config.entry_bytes_max.saturating_sub(HEAD_BYTES).max(1);
    let mut items = Items::new();
    if batch.len() <= part_bytes_max {
        let append = Command::from(Append::new(targets, summary));
        items.push(Item::with_body(append, batch, answer));
        return (items, pending);
    }
    let upload = core.next_upload();
    let (mut part, mut start) = (0, 0);
    while batch.len() - start > part_bytes_max {
        let body = own(batch.slice(start..start + part_bytes_max), &batch);
        let stage = StagePart { upload, part, body_bytes: length(&body) };
        items.push(Item::with_body(stage.into(), body, Answer::ignored()));
        part += 1;
        start += part_bytes_max;
    }
    let body = own(batch.slice(start..batch.len()), &batch);
    let append = Append { targets, batch: summary, body_bytes: length(&body), upload: Some(upload) };
    let answer = answer.of_uploads(vec![upload], Arc::clone(&core.abandoned));
    items.push(Item::with_body(append.into(), body, answer));
    (items, pending)
}

/// A part of a batch, in memory of its own when the batch is large and the part less than half of it: parts are counted
/// by their length. The shortest are copied into their entry in any case.
fn own(part: Payload, batch: &Payload) -> Payload {
    let is_small = batch.len() > SHARED_BATCH_BYTES_MAX && part.len().saturating_mul(2) < batch.len();
    if is_small && part.len() >= BODY_JOINED_BYTES { part.detached() } else { part }
}

fn length(body: &Payload) -> u32 {
    u32::try_from(body.len()).expect("a part is no larger than an entry")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Whether a part of `len` bytes of a batch of `batch_bytes` stays a slice of it.
    fn stays(len: usize, batch_bytes: usize) -> bool {
        let buffer = Bytes::from(vec![1; batch_bytes]);
        let part = own(Payload::from(buffer.slice(..len)), &Payload::from(buffer.clone()));
        assert_eq!(part.len(), len);
        buffer.as_ptr_range().contains(&part.buffers()[0].as_ptr())
    }

    #[test]
    fn a_part_of_a_large_batch_does_not_keep_it_alive() {
        let large = SHARED_BATCH_BYTES_MAX + 1;
        assert!(stays(1 << 20, SHARED_BATCH_BYTES_MAX));
        assert!(!stays(1 << 20, large));
        assert!(stays(large / 2 + 1, large));
        assert!(stays(BODY_JOINED_BYTES - 1, large), "it is joined with others");
    }
}
