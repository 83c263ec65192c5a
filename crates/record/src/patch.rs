//! Changes to a batch that is about to be stored: whose clock its timestamps are of, and which the largest is. Both
//! are inside the CRC, which is computed anew; the records stay where they are.

use bytes::Bytes;

use crate::crc::crc32c_of_two;
use crate::header::{BATCH_OVERHEAD, BatchHeader, CRC_START};
use crate::{BatchError, TimestampMs, TimestampType};

/// A batch in two pieces: the patched header, and the records in the memory where they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    pub header: Bytes,
    pub records: Bytes,
}

impl Patched {
    /// Both pieces in one buffer, copied.
    #[must_use]
    pub fn joined(&self) -> Bytes {
        [&self.header[..], &self.records[..]].concat().into()
    }
}

/// The batch with `now` as the timestamp of all its records.
pub fn with_log_append_time(batch: &Bytes, now: TimestampMs) -> Result<Patched, BatchError> {
    with_max_timestamp(batch, TimestampType::LogAppendTime, now)
}

/// The batch with that timestamp type and largest timestamp.
pub fn with_max_timestamp(
    batch: &Bytes,
    timestamp_type: TimestampType,
    max_timestamp: TimestampMs,
) -> Result<Patched, BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    header.attributes = header.attributes.with_timestamp_type(timestamp_type);
    header.max_timestamp = max_timestamp;
    let records = batch.slice(BATCH_OVERHEAD..);
    header.crc = crc32c_of_two(&header.to_bytes()[CRC_START..], &records);
    Ok(Patched { header: Bytes::copy_from_slice(&header.to_bytes()), records })
}
