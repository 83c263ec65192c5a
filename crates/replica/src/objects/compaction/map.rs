//! The first half of a pass: the newest offset of each key in what was not compacted before.

use std::io;
use std::sync::Arc;

use base::task::offload;
use bytes::Bytes;
use record::{BatchEntry, FileNumber, Limits, StreamOffset, TimestampMs, batch_is_whole, keyed_records};
use shard::Located;
use tokio::sync::OwnedSemaphorePermit;

use super::keys::{BYTES_PER_KEY, Keys};
use super::{Cleanable, Pass, Rules};
use crate::core::Core;
use crate::objects::gather::{Gathered, Window};
use crate::objects::work::{WorkKind, Working};

/// Batches that are looked up at a time.
const BATCHES_AT_ONCE: usize = 1_024;

/// Keys of a part of a stream, and where that ends.
struct Mapped {
    keys: Keys,
    to: StreamOffset,
    is_full: bool,
}

impl Core {
    /// Begins a pass: all keys of the part that is to be compacted are in memory then, or as many as may be. None if the stream is
    /// gone.
    pub(super) async fn begin_pass(
        &self,
        cleanable: &Cleanable,
        turn: OwnedSemaphorePermit,
    ) -> io::Result<Option<Pass>> {
        let Cleanable { stream, policy, from, to, bytes } = *cleanable;
        let work = self.begin_work(WorkKind::Compact(stream), bytes);
        let _reader = self.here.enter();
        let span = usize::try_from(to.0.saturating_sub(from.0).max(1)).unwrap_or(usize::MAX);
        let mut room = usize::try_from(self.pace.keys_bytes_max() / BYTES_PER_KEY).unwrap_or(usize::MAX).min(span);
        let mut mapped: Option<Mapped> = None;
        let mut next = from;
        while next < to && mapped.as_ref().is_none_or(|mapped| !mapped.is_full) {
            let newest = {
                let state = self.state.read();
                let Some(view) = state.shard.stream(stream) else { return Ok(None) };
                next = next.max(view.first_offset());
                match view.locate(next) {
                    Located::File(newest) => newest,
                    Located::Memory(_) | Located::End | Located::OutOfRange => break,
                }
            };
            let mut batches = self.index.batches(newest, stream, next, BATCHES_AT_ONCE, WINDOW_BYTES).await?;
            batches.retain(|batch| batch.next_offset() <= to);
            let Some(last) = batches.last() else { break };
            next = last.next_offset();
            // One batch at least, whatever it has: otherwise no pass would ever come behind it.
            room = room.max(usize::try_from(batches[0].record_count).unwrap_or(usize::MAX));
            let known = match mapped.take() {
                Some(mapped) => mapped,
                None => {
                    let seed = (self.env.random.next_u64(), self.env.random.next_u64());
                    Mapped { keys: Keys::with_room(room, seed), to: from, is_full: false }
                }
            };
            let bodies = self.bodies(batches, &work).await?;
            mapped = Some(offload(async move { take_in(known, bodies) }).await?);
        }
        let Some(Mapped { keys, to, .. }) = mapped else { return Ok(None) };
        let now = self.state.read().shard.time();
        let horizon = TimestampMs(now.0.saturating_add(policy.delete_retention_ms));
        let keeps_deletes = policy.keeps_deletes;
        let shard = self.config.shard.0;
        tracing::debug!(shard, stream = stream.0, from = from.0, to = to.0, keys = keys.len(), "keys to be compacted");
        let rules = Arc::new(Rules { map_to: to, keys, now, horizon, keeps_deletes, copies: false });
        let next = FileNumber(0);
        Ok(Some(Pass { stream, rules, next, cleaned_to: to, dropped: 0, records: 0, work, _turn: turn }))
    }

    /// Reads batches as a whole.
    pub(super) async fn bodies(
        &self,
        batches: Vec<BatchEntry>,
        work: &Working,
    ) -> io::Result<Vec<(BatchEntry, Bytes)>> {
        let mut window = Window::default();
        let places: Vec<_> = batches.iter().map(|batch| window.add(batch)).collect();
        let Gathered { bytes, error } = window.read(self).await?;
        if let Some(error) = error {
            return Err(error);
        }
        work.add(bytes.len() as u64);
        Ok(batches.into_iter().zip(places).map(|(batch, place)| (batch, bytes.slice(place))).collect())
    }
}

/// Bodies that are in memory together.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;

fn take_in(mut mapped: Mapped, bodies: Vec<(BatchEntry, Bytes)>) -> io::Result<Mapped> {
    for (batch, body) in bodies {
        check(&batch, &body)?;
        let mut fits = true;
        // A batch that cannot be read to its end stays whole, and those before its end count.
        let _ = keyed_records(&body, Limits::default(), |record| {
            let offset = StreamOffset(batch.base_offset.0 + i64::from(record.delta));
            fits = fits && record.key.is_none_or(|key| mapped.keys.note(key, offset));
        });
        if !fits {
            mapped.is_full = true;
            return Ok(mapped);
        }
        mapped.to = batch.next_offset();
    }
    Ok(mapped)
}

pub(super) fn check(batch: &BatchEntry, body: &Bytes) -> io::Result<()> {
    if batch_is_whole(std::slice::from_ref(body)) {
        return Ok(());
    }
    let text = format!("the batch at offset {} is damaged", batch.base_offset);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
