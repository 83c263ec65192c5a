//! Where a batch is that its producer sends again, when the shard does not remember it any more.
//!
//! A shard remembers the last few batches of a producer, which is more than one that waits for its answers in order
//! has under way. While leaders change a client may have sent more: the answer of the old leader is lost or late, and the
//! new one takes what is behind. The batch itself says in the log who made it, so it is looked for there, from the end
//! backwards: it is a short while ago.

use base::time::{Duration, timeout};
use record::{BATCH_OVERHEAD, BatchEntry, BatchHeader, ProducerStamp, StreamId, StreamOffset, TimestampMs};

use super::{Planned, Wish, read_whole};
use crate::core::Core;
use crate::errors::FetchError;

/// How many batches of the stream are looked through.
const BATCHES_MAX: usize = 16 << 10;
/// How long it is looked for.
const TIME_MAX: Duration = Duration::from_secs(2);
/// The first step back; each next one is twice as long.
const STEP_RECORDS: i64 = 512;
/// Batches of this many bytes are looked up at once. Their headers alone are read.
const LOOK_UP_BYTES: usize = 1 << 20;

/// A batch that was appended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// The offset of its first record.
    pub base_offset: StreamOffset,
    /// The largest timestamp in it.
    pub max_timestamp: TimestampMs,
    /// The first offset that the stream still has.
    pub first_offset: StreamOffset,
}

impl Core {
    /// The batch of `records` that `stamp` is of, if it is among the last ones of the stream.
    pub(crate) async fn find_repeated(
        &self,
        stream: StreamId,
        stamp: ProducerStamp,
        records: u32,
    ) -> Result<Option<Repeated>, FetchError> {
        // One at a time: it is rare, and whoever sends what is long ago over and over holds up nobody else.
        let _turn = self.repeats.acquire().await.expect("the semaphore is never closed");
        timeout(TIME_MAX, self.search(stream, stamp, records)).await.unwrap_or(Ok(None))
    }

    async fn search(
        &self,
        stream: StreamId,
        stamp: ProducerStamp,
        records: u32,
    ) -> Result<Option<Repeated>, FetchError> {
        let _reader = self.here.enter();
        let (first, next) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            (view.first_offset(), view.next_offset())
        };
        let (mut end, mut step, mut left) = (next, STEP_RECORDS, BATCHES_MAX);
        while end > first && left > 0 {
            let start = StreamOffset(first.0.max(end.0 - step));
            let mut from = start;
            while from < end && left > 0 {
                let entries = self.batches_from(stream, from).await?;
                let Some(last) = entries.last() else { break };
                (from, left) = (last.next_offset(), left.saturating_sub(entries.len()));
                for entry in entries.iter().filter(|entry| entry.record_count == records) {
                    tokio::task::coop::consume_budget().await;
                    if self.made_by(stream, entry).await? == Some(stamp) {
                        let BatchEntry { base_offset, max_timestamp, .. } = *entry;
                        return Ok(Some(Repeated { base_offset, max_timestamp, first_offset: first }));
                    }
                }
            }
            (end, step) = (start, step * 2);
        }
        Ok(None)
    }

    async fn batches_from(&self, stream: StreamId, from: StreamOffset) -> Result<Vec<BatchEntry>, FetchError> {
        let plan = match self.plan(Wish { stream, from, bytes_max: LOOK_UP_BYTES, at_least_one: true })? {
            Planned::Here(plan) => plan,
            Planned::InFiles(look_up) => look_up.find().await?,
        };
        Ok(plan.entries)
    }

    /// Who made a batch, by its header.
    async fn made_by(&self, stream: StreamId, entry: &BatchEntry) -> Result<Option<ProducerStamp>, FetchError> {
        let failed = |error| self.read_error(stream, entry.last_offset(), error);
        let Some(extent) = entry.extents().next() else { return Ok(None) };
        let bytes = extent.bytes.min(u32::try_from(BATCH_OVERHEAD).expect("small"));
        let range = extent.position..extent.position + bytes;
        let chunk = {
            let _reading = self.log.reading().await;
            if entry.object.is_some() {
                read_whole(self, entry).await.map_err(failed)?
            } else {
                let chunk = self.log.read(extent.log_index, range).await.map_err(failed)?;
                chunk.into_bytes().await.map_err(failed)?
            }
        };
        // A part that is shorter than a header is no part of ours.
        let Ok(header) = BatchHeader::parse(&chunk) else { return Ok(None) };
        let BatchHeader { producer_id: id, producer_epoch: epoch, base_sequence, .. } = header;
        Ok(Some(ProducerStamp { id, epoch, base_sequence }))
    }
}
