//! Which offset a timestamp leads to: the batch by the index, the record by a look into the batch.

use record::{BatchEntry, LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use record::{Limits, max_timestamp_offset, offset_for_timestamp};

use crate::core::Core;
use crate::errors::FetchError;
use crate::fetch::{damage_or_io, read_whole};

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

impl Core {
    /// The first record whose timestamp is `time` or later.
    pub(crate) async fn offset_for_time(
        &self,
        stream: StreamId,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, FetchError> {
        let (sealed, unsealed) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let sealed = view.newest_durable_file().filter(|_| view.max_timestamp_in_files() >= time);
            let unsealed = view.find_by_time_in_memory(time);
            (sealed.map(|newest| (newest, view.first_offset())), unsealed)
        };
        let found = match sealed {
            Some((newest, first)) => {
                let found = self.index.find_by_time(newest, stream, first, time).await;
                found.map_err(|error| self.index_error(stream, first, error))?
            }
            None => None,
        };
        // The header's maximum may lie about the records, so a batch may have to be passed over.
        for batch in found.into_iter().chain(unsealed) {
            if let Some(timed) = self.look(stream, &batch, Some(time)).await? {
                return Ok(Some(timed));
            }
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of the stream.
    pub(crate) async fn max_timestamp(&self, stream: StreamId) -> Result<Option<TimedOffset>, FetchError> {
        let (sealed, unsealed) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let Some((max, _)) = view.max_timestamp() else { return Ok(None) };
            let sealed = view.newest_durable_file().filter(|_| view.max_timestamp_in_files() >= max);
            let unsealed = view.find_by_time_in_memory(max);
            (sealed.map(|newest| (newest, view.first_offset())), unsealed)
        };
        let found = match sealed {
            Some((newest, first)) => {
                let found = self.index.find_max_time(newest, stream, first).await;
                found.map_err(|error| self.index_error(stream, first, error))?
            }
            None => None,
        };
        match found.or(unsealed) {
            Some(batch) => self.look(stream, &batch, None).await,
            None => Ok(None),
        }
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
        let bytes =
            read_whole(&self.log, entry).await.map_err(|error| damage_or_io(stream, entry.base_offset, error))?;
        let found = match time {
            Some(time) => offset_for_timestamp(&bytes, time, Limits::default()),
            None => max_timestamp_offset(&bytes, Limits::default()),
        };
        // Records that cannot be read are the producer's; the batch is still as good as it was.
        let found = found.unwrap_or(Some((StreamOffset(0), entry.max_timestamp)));
        Ok(found.map(|(delta, timestamp)| TimedOffset {
            offset: StreamOffset(entry.base_offset.0 + delta.0),
            timestamp,
            epoch: entry.epoch,
        }))
    }
}
