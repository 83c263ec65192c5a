//! Key compaction: of a stream's records the newest of each key stays, and those without a value for a time.
//!
//! A pass goes over what was not compacted before (the dirty part), and notes the newest offset of each key there. Then everything
//! from the stream's front on is written anew without the records that have a newer one, object by object, the oldest first: a record
//! without a value goes only when all that it deletes has gone. Each object is made one of the state before the next is begun, so
//! a pass that ends early has done no harm, and the next one begins at its front. Where keys do not fit memory a pass ends where they
//! did, and the next one goes on there.
//!
//! Rules and order are those of Kafka's `Cleaner`, with the deletes' time of KIP-534.

mod choice;
mod keys;
mod map;
mod pass;
mod rewrite;
mod rules;

use std::sync::Arc;

use base::time::Duration;
use record::{FileNumber, StreamId, StreamOffset, TimestampMs};
use tokio::sync::OwnedSemaphorePermit;

pub use choice::CompactionPolicy;
use choice::{Cleanable, Dirts};
use keys::Keys;
pub(crate) use pass::Compaction;
use rewrite::Rewritten;

use super::work::Working;

/// How long a stream is left alone that could not be compacted.
const FAILED_PAUSE: Duration = Duration::from_secs(60);

/// A pass over a stream.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) stream: StreamId,
    rules: Arc<Rules>,
    /// Ranges before this one are done.
    pub(crate) next: FileNumber,
    /// It is cleaned up to there when the pass has come to its end.
    pub(crate) cleaned_to: StreamOffset,
    /// Records that went, and all.
    pub(crate) dropped: u64,
    pub(crate) records: u64,
    work: Working,
    /// Nobody else's keys are in memory.
    _turn: OwnedSemaphorePermit,
}

/// What decides whether a record stays.
#[derive(Debug)]
struct Rules {
    /// Nothing is known of keys from there on.
    map_to: StreamOffset,
    keys: Keys,
    now: TimestampMs,
    /// Until then a record without a value stays that no pass met before.
    horizon: TimestampMs,
    keeps_deletes: bool,
    /// Every batch stays as it is.
    copies: bool,
}
