//! Batches that do not fit one entry: all parts but the last are staged, invisible, and the append
//! that brings the last one makes them one batch. The parts enter the queue together, so nothing
//! comes between them in the order of arrival.

use std::sync::Arc;

use record::{BatchSummary, StreamId};
use shard::Command;
use shard::commands::{Append, StagePart};
use smallvec::SmallVec;
use storage::Payload;

use crate::core::Core;
use crate::pending::{Answer, Pending};
use crate::proposer::{Item, Items};

/// What of an entry is left to its head when a part fills the rest.
const HEAD_BYTES: usize = 4 << 10;

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
        let body = batch.slice(start..start + part_bytes_max);
        let stage = StagePart { upload, part, body_bytes: length(&body) };
        items.push(Item::with_body(stage.into(), body, Answer::ignored()));
        part += 1;
        start += part_bytes_max;
    }
    let batch = batch.slice(start..batch.len());
    let append = Append { targets, batch: summary, body_bytes: length(&batch), upload: Some(upload) };
    let answer = answer.of_uploads(vec![upload], Arc::clone(&core.abandoned));
    items.push(Item::with_body(append.into(), batch, answer));
    (items, pending)
}

fn length(body: &Payload) -> u32 {
    u32::try_from(body.len()).expect("a part is no larger than an entry")
}
