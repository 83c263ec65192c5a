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

/// Requests of up to this that come in one read may share its buffer, which each of them keeps alive.
const SHARED_READ_BYTES: usize = 16 << 10;

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
        items.push(Item::with_body(append, own(batch, SHARED_READ_BYTES), answer));
        return (items, pending);
    }
    let upload = core.next_upload();
    let (mut part, mut start) = (0, 0);
    while batch.len() - start > part_bytes_max {
        let body = own(batch.slice(start..start + part_bytes_max), batch.len());
        let stage = StagePart { upload, part, body_bytes: length(&body) };
        items.push(Item::with_body(stage.into(), body, Answer::ignored()));
        part += 1;
        start += part_bytes_max;
    }
    let body = own(batch.slice(start..batch.len()), batch.len());
    let append = Append { targets, batch: summary, body_bytes: length(&body), upload: Some(upload) };
    let answer = answer.of_uploads(vec![upload], Arc::clone(&core.abandoned));
    items.push(Item::with_body(append.into(), body, answer));
    (items, pending)
}

/// A body that may keep alive a buffer of more than twice its length is copied out of it: bodies stay
/// in the log's memory for long and are counted by their length. The shortest are copied into their
/// entry in any case.
fn own(body: Payload, buffer_bytes: usize) -> Payload {
    let is_small_part = body.len().saturating_mul(2) < buffer_bytes;
    if is_small_part && body.len() >= BODY_JOINED_BYTES { body.detached() } else { body }
}

fn length(body: &Payload) -> u32 {
    u32::try_from(body.len()).expect("a part is no larger than an entry")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Whether a body of `len` bytes of a buffer of `buffer_bytes` stays a part of it.
    fn stays(len: usize, buffer_bytes: usize) -> bool {
        let buffer = Bytes::from(vec![1; buffer_bytes]);
        let body = own(Payload::from(buffer.slice(..len)), buffer_bytes);
        assert_eq!(body.len(), len);
        buffer.as_ptr_range().contains(&body.buffers()[0].as_ptr())
    }

    #[test]
    fn a_body_keeps_alive_at_most_twice_its_length_unless_it_is_joined_anyway() {
        assert!(stays(1 << 20, 3 << 19));
        assert!(!stays(1 << 20, (2 << 20) + 1));
        assert!(!stays(4_000, SHARED_READ_BYTES));
        assert!(stays(8_192, SHARED_READ_BYTES));
        assert!(stays(BODY_JOINED_BYTES - 1, SHARED_READ_BYTES));
    }
}
