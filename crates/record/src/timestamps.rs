//! Which record of a batch a timestamp leads to.

use bytes::Bytes;

use crate::header::BatchHeader;
use crate::records::{Limits, records};
use crate::{BatchError, StreamOffset, TimestampMs, TimestampType};

/// The first record whose timestamp is `timestamp` or later: its offset and timestamp. `None` if there is none.
/// Offsets count from the base offset that stands in the batch.
pub fn offset_for_timestamp(
    batch: &Bytes,
    timestamp: TimestampMs,
    limits: Limits,
) -> Result<Option<(StreamOffset, TimestampMs)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp < timestamp {
        return Ok(None);
    }
    // All records of such a batch have one timestamp, so nothing need be decompressed.
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some((header.base_offset, header.max_timestamp)));
    }
    for record in records(batch, limits)? {
        let record = record?;
        if record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// The first record that has the batch's largest timestamp: its offset and timestamp. `None` in a batch whose records
/// have no timestamp.
pub fn max_timestamp_offset(batch: &Bytes, limits: Limits) -> Result<Option<(StreamOffset, TimestampMs)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp.0 < 0 {
        return Ok(None);
    }
    offset_for_timestamp(batch, header.max_timestamp, limits)
}
