//! The check of a batch that someone sent: exactly one batch, its length, format, CRC, counts and stamps, and, where
//! the records are not compressed, every record.
//!
//! A compressed batch is checked by its header and CRC only: its records are not decompressed, so that appending one
//! costs nothing per record. [`validate_deep`] decompresses and checks them too.

use bytes::Bytes;

use crate::compression::decompress;
use crate::crc::batch_crc;
use crate::header::{BATCH_OVERHEAD, MAGIC};
use crate::record::RawRecord;
use crate::varint::Cursor;
use crate::{
    BatchError, BatchHeader, BatchSummary, Compression, ProducerStamp, RecordError, TimestampMs, TimestampType,
};

/// Checks that `batch` is exactly one batch of magic 2 that a client may append.
pub fn validate(batch: &[u8]) -> Result<BatchSummary, BatchError> {
    let (header, compression) = validate_header(batch)?;
    let mut summary = summarize(&header, compression, batch.len())?;
    if compression == Compression::None {
        let actual = walk_records(&header, &batch[BATCH_OVERHEAD..])?;
        summary.max_timestamp_correction = correction(&header, actual);
    }
    Ok(summary)
}

/// As [`validate`], and decompresses the records, into at most `bytes_max` bytes, to check each of them.
pub fn validate_deep(batch: &Bytes, bytes_max: usize) -> Result<BatchSummary, BatchError> {
    let mut summary = validate(batch)?;
    if summary.compression != Compression::None {
        let header = BatchHeader::parse(batch)?;
        let records = decompress(summary.compression, &batch[BATCH_OVERHEAD..], bytes_max)?;
        let actual = walk_records(&header, &records)?;
        summary.max_timestamp_correction = correction(&header, actual);
    }
    Ok(summary)
}

fn validate_header(batch: &[u8]) -> Result<(BatchHeader, Compression), BatchError> {
    if batch.is_empty() {
        return Err(BatchError::Empty);
    }
    let header = BatchHeader::parse(batch)?;
    let stated = header
        .total_bytes()
        .filter(|bytes| *bytes >= BATCH_OVERHEAD)
        .ok_or(BatchError::InvalidLength { length: header.batch_length })?;
    if stated > batch.len() {
        return Err(BatchError::Truncated { stated, present: batch.len() });
    }
    if stated < batch.len() {
        return Err(BatchError::TrailingBytes { bytes: batch.len() - stated });
    }
    debug_assert_eq!(header.magic, MAGIC);
    let computed = batch_crc(batch);
    if computed != header.crc {
        return Err(BatchError::Crc { stated: header.crc, computed });
    }
    let compression = header
        .attributes
        .compression()
        .ok_or_else(|| BatchError::UnknownCompression { number: header.attributes.compression_number() })?;
    Ok((header, compression))
}

fn summarize(header: &BatchHeader, compression: Compression, bytes: usize) -> Result<BatchSummary, BatchError> {
    if header.base_offset.0 != 0 {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset.0 });
    }
    if header.attributes.control() {
        return Err(BatchError::Control);
    }
    let count = header.record_count;
    let record_count =
        u32::try_from(count).ok().filter(|count| *count > 0).ok_or(BatchError::InvalidCount { count })?;
    let last_offset_delta = header.last_offset_delta;
    if last_offset_delta != count - 1 {
        return Err(BatchError::InconsistentCount { count, last_offset_delta });
    }
    let producer = if header.producer_id.0 < 0 {
        None
    } else {
        let producer_id = header.producer_id.0;
        if header.base_sequence.0 < 0 {
            return Err(BatchError::InvalidSequence { producer_id, sequence: header.base_sequence.0 });
        }
        if header.producer_epoch.0 < 0 {
            return Err(BatchError::InvalidProducerEpoch { producer_id, epoch: header.producer_epoch.0 });
        }
        Some(ProducerStamp {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        })
    };
    Ok(BatchSummary {
        bytes: u32::try_from(bytes).map_err(|_| BatchError::InvalidLength { length: header.batch_length })?,
        record_count,
        compression,
        timestamp_type: header.attributes.timestamp_type(),
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        max_timestamp_correction: None,
        producer,
        transactional: header.attributes.transactional(),
        control: false,
    })
}

/// Checks every record and returns the largest timestamp among them.
fn walk_records(header: &BatchHeader, records: &[u8]) -> Result<TimestampMs, BatchError> {
    let mut cursor = Cursor::new(records);
    let mut max = TimestampMs::NONE;
    let count =
        u32::try_from(header.record_count).map_err(|_| BatchError::InvalidCount { count: header.record_count })?;
    for expected in 0..count {
        let malformed = |cause| BatchError::Record { record: expected, cause };
        let record = RawRecord::parse(&mut cursor).map_err(malformed)?;
        if i64::from(record.offset_delta) != i64::from(expected) {
            return Err(malformed(RecordError::OffsetDelta { expected, actual: i64::from(record.offset_delta) }));
        }
        let timestamp = header
            .base_timestamp
            .0
            .checked_add(record.timestamp_delta)
            .ok_or_else(|| malformed(RecordError::Timestamp))?;
        max = max.max(TimestampMs(timestamp));
    }
    match cursor.remaining() {
        0 => Ok(max),
        bytes => Err(BatchError::BytesAfterRecords { bytes }),
    }
}

fn correction(header: &BatchHeader, actual: TimestampMs) -> Option<TimestampMs> {
    let stale = header.attributes.timestamp_type() == TimestampType::CreateTime && actual != header.max_timestamp;
    stale.then_some(actual)
}
