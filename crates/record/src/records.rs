//! The records of a stored batch, one after the other. Uncompressed ones are slices of the batch; compressed ones are
//! slices of one buffer that is filled when the first record is asked for, and never beyond the limit given.

use bytes::Bytes;

use crate::compression::decompress;
use crate::header::{Attributes, BATCH_OVERHEAD};
use crate::record::{Headers, RawRecord, Record};
use crate::varint::Cursor;
use crate::{BatchError, BatchHeader, Compression, RecordError, StreamOffset, TimestampMs, TimestampType};

/// What reading a batch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decompressed bytes of one batch.
    pub bytes_max: usize,
}

impl Default for Limits {
    /// As large as the largest batch that can be stored.
    fn default() -> Self {
        Self { bytes_max: 128 * 1024 * 1024 }
    }
}

/// The records of `batch`, which is one whole batch with its base offset in front. Fails here only if the header
/// cannot be read; what is wrong with the records is said by the iterator, which then ends.
pub fn records(batch: &Bytes, limits: Limits) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let compression = header
        .attributes
        .compression()
        .ok_or_else(|| BatchError::UnknownCompression { number: header.attributes.compression_number() })?;
    let count = header.record_count;
    let remaining = u32::try_from(count).map_err(|_| BatchError::InvalidCount { count })?;
    let end = header
        .total_bytes()
        .filter(|end| *end >= BATCH_OVERHEAD)
        .ok_or(BatchError::InvalidLength { length: header.batch_length })?;
    if end > batch.len() {
        return Err(BatchError::Truncated { stated: end, present: batch.len() });
    }
    let body = batch.slice(BATCH_OVERHEAD..end);
    let source =
        if compression == Compression::None { Source::Plain(body) } else { Source::Compressed(compression, body) };
    Ok(Records {
        attributes: header.attributes,
        base_offset: header.base_offset,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        remaining,
        record: 0,
        source,
        position: 0,
        limits,
    })
}

#[derive(Clone, Debug)]
enum Source {
    Plain(Bytes),
    Compressed(Compression, Bytes),
}

/// Iterates over a batch's records; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    attributes: Attributes,
    base_offset: StreamOffset,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    remaining: u32,
    record: u32,
    source: Source,
    position: usize,
    limits: Limits,
}

impl Records {
    fn plain(&mut self) -> Result<Bytes, BatchError> {
        match &self.source {
            Source::Plain(bytes) => Ok(bytes.clone()),
            Source::Compressed(compression, body) => {
                let plain = Bytes::from(decompress(*compression, body, self.limits.bytes_max)?.into_owned());
                self.source = Source::Plain(plain.clone());
                Ok(plain)
            }
        }
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let plain = self.plain()?;
        let number = self.record;
        let malformed = |cause| BatchError::Record { record: number, cause };
        let rest = plain.slice(self.position..);
        let mut cursor = Cursor::new(&rest);
        let raw = RawRecord::parse(&mut cursor).map_err(malformed)?;
        self.position += cursor.position();
        self.record += 1;
        let offset = self.base_offset.checked_add(i64::from(raw.offset_delta)).ok_or_else(|| {
            malformed(RecordError::OffsetDelta { expected: number, actual: i64::from(raw.offset_delta) })
        })?;
        let timestamp = match self.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp,
            TimestampType::CreateTime => TimestampMs(
                self.base_timestamp
                    .0
                    .checked_add(raw.timestamp_delta)
                    .ok_or_else(|| malformed(RecordError::Timestamp))?,
            ),
        };
        Ok(Record {
            offset,
            timestamp,
            key: raw.key.map(|key| rest.slice(key)),
            value: raw.value.map(|value| rest.slice(value)),
            headers: Headers { count: raw.header_count, bytes: rest.slice(raw.headers) },
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let record = self.read();
        if record.is_err() {
            self.remaining = 0;
        }
        Some(record)
    }
}
