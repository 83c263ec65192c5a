//! Which offset a timestamp leads to: the batch by the index, the record by a look into the batch.

use record::{BatchEntry, LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use record::{Limits, max_timestamp_offset, offset_for_timestamp};
use shard::Located;

use crate::core::Core;
use crate::errors::FetchError;
use crate::fetch::read_whole;

pub use shard::EpochEnd;

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: StreamOffset,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// The epoch of its batch.
    pub epoch: LeaderEpoch,
}

/// Batches that one search unpacks although their headers lied. Behind them a header is believed.
const PASSED_COUNT_MAX: usize = 32;

impl Core {
    /// The first record whose timestamp is `time` or later. After many headers that lied, what the next one says of
    /// its first record: it may be too early, never too late.
    pub(crate) async fn offset_for_time(
        &self,
        stream: StreamId,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, FetchError> {
        let _reader = self.here.enter();
        let mut from = StreamOffset(0);
        let mut passed = 0;
        while let Some(batch) = self.first_by_time(stream, from, time).await? {
            if passed == PASSED_COUNT_MAX {
                return Ok(Some(by_header(&batch)));
            }
            match self.look(stream, &batch, Some(time)).await {
                Ok(Some(timed)) => return Ok(Some(timed)),
                // It was deleted since.
                Ok(None) | Err(FetchError::OffsetOutOfRange { .. }) => {}
                Err(error) => return Err(error),
            }
            from = batch.next_offset();
            passed += 1;
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of the stream. After many headers that lied, of the records
    /// that were seen.
    pub(crate) async fn max_timestamp(&self, stream: StreamId) -> Result<Option<TimedOffset>, FetchError> {
        let _reader = self.here.enter();
        let mut largest: Option<TimedOffset> = None;
        let mut below = None;
        for _ in 0..PASSED_COUNT_MAX {
            let Some(batch) = self.largest_by_header(stream, below).await? else { break };
            let promised = (batch.max_timestamp, batch.base_offset);
            if largest.is_some_and(|known| !is_above(promised, (known.timestamp, known.offset))) {
                break;
            }
            let found = match self.look(stream, &batch, None).await {
                // It was deleted since, and what else was found may have been.
                Err(FetchError::OffsetOutOfRange { .. }) => {
                    (largest, below) = (None, None);
                    continue;
                }
                found => found?,
            };
            let is_larger = |found: &TimedOffset| {
                largest.is_none_or(|known| is_above((found.timestamp, found.offset), (known.timestamp, known.offset)))
            };
            largest = found.filter(is_larger).or(largest);
            below = Some(promised);
        }
        Ok(largest)
    }

    /// The first batch at or behind `from` whose header says that a record of it is of `time` or later.
    async fn first_by_time(
        &self,
        stream: StreamId,
        from: StreamOffset,
        time: TimestampMs,
    ) -> Result<Option<BatchEntry>, FetchError> {
        let (newest, from, unsealed) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let from = from.max(view.first_offset());
            match view.locate(from) {
                Located::Memory(mut batches) => (None, from, batches.find(|batch| batch.max_timestamp >= time)),
                Located::File(newest) => {
                    let newest = Some(newest).filter(|_| view.max_timestamp_in_files() >= time);
                    (newest, from, view.find_by_time_in_memory(time))
                }
                Located::End | Located::OutOfRange => (None, from, None),
            }
        };
        let sealed = match newest {
            Some(newest) => {
                let found = self.index.find_by_time(newest, stream, from, time).await;
                found.map_err(|error| self.read_error(stream, from, error))?
            }
            None => None,
        };
        Ok(sealed.or(unsealed))
    }

    /// The batches in the order of what their headers say: the largest timestamp first, of equal ones the first in the
    /// stream. Gives the one behind `below`, or the first; none when no further one has a timestamp.
    async fn largest_by_header(
        &self,
        stream: StreamId,
        below: Option<Place>,
    ) -> Result<Option<BatchEntry>, FetchError> {
        let (sealed, unsealed) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let first = view.first_offset();
            let is_next = |batch: &BatchEntry| {
                batch.next_offset() > first && below.is_none_or(|below| is_above(below, place(batch)))
            };
            let unsealed = largest(view.in_memory().filter(is_next));
            let reaches = unsealed.as_ref().map_or(TimestampMs(0), |batch| batch.max_timestamp);
            let in_files = matches!(view.locate(first), Located::File(_)) && view.max_timestamp_in_files() >= reaches;
            (view.newest_durable_file().filter(|_| in_files).map(|newest| (newest, first)), unsealed)
        };
        let sealed = match sealed {
            Some((newest, first)) => {
                let found = self.index.find_max_time(newest, stream, first, below).await;
                found.map_err(|error| self.read_error(stream, first, error))?
            }
            None => None,
        };
        Ok(largest(sealed.into_iter().chain(unsealed)).filter(|batch| batch.max_timestamp.0 >= 0))
    }

    /// Where the largest epoch that is not above `epoch` ends.
    pub(crate) fn epoch_end(&self, stream: StreamId, epoch: LeaderEpoch) -> Result<EpochEnd, FetchError> {
        let state = self.state.read();
        let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
        Ok(view.epoch_end(epoch))
    }

    async fn look(
        &self,
        stream: StreamId,
        entry: &BatchEntry,
        time: Option<TimestampMs>,
    ) -> Result<Option<TimedOffset>, FetchError> {
        let read = read_whole(self, entry).await;
        let bytes = read.map_err(|error| self.read_error(stream, entry.last_offset(), error))?;
        // Of the batch with the first offset the front may be deleted.
        let first = self.state.read().shard.stream(stream).map_or(entry.base_offset, |view| view.first_offset());
        let skipped = u32::try_from(first.0.saturating_sub(entry.base_offset.0).max(0)).unwrap_or(u32::MAX);
        let found = match time {
            Some(time) => offset_for_timestamp(&bytes, time, skipped, Limits::default()),
            None => max_timestamp_offset(&bytes, Limits::default()),
        };
        // Records that cannot be read are the producer's; the batch is still as good as it was.
        let found = found.map(|found| found.map(|(delta, time)| (StreamOffset(entry.base_offset.0 + delta.0), time)));
        let found = found.unwrap_or(Some((entry.base_offset, entry.max_timestamp)));
        let timed = |(offset, timestamp): (StreamOffset, _)| TimedOffset {
            offset: offset.max(first),
            timestamp,
            epoch: entry.epoch,
        };
        Ok(found.map(timed))
    }
}

/// A timestamp, and the offset of what has it.
type Place = (TimestampMs, StreamOffset);

fn place(entry: &BatchEntry) -> Place {
    (entry.max_timestamp, entry.base_offset)
}

/// Whether `one` comes before `two` when the largest timestamp is wanted, and of equal ones the first.
fn is_above(one: Place, two: Place) -> bool {
    (one.0, two.1) > (two.0, one.1)
}

/// The first of the batches whose headers have the largest timestamp.
fn largest(batches: impl Iterator<Item = BatchEntry>) -> Option<BatchEntry> {
    batches.reduce(|largest, batch| if batch.max_timestamp > largest.max_timestamp { batch } else { largest })
}

/// What a header says of its batch's first record.
fn by_header(entry: &BatchEntry) -> TimedOffset {
    TimedOffset { offset: entry.base_offset, timestamp: entry.max_timestamp, epoch: entry.epoch }
}
