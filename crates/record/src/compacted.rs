//! A batch without some of its records, as key compaction leaves it: with its offsets, its producer, its compression, and the
//! timestamps of what stays.
//!
//! What stays keeps its bytes, but for timestamps where the base of these changes. That it does once in a batch's life: when the first
//! of its records without a value is met, the base becomes the time from which on such records may go (KIP-534), and a flag says so.

use bytes::Bytes;

use crate::compression::{compress, decompress};
use crate::crc::batch_crc;
use crate::header::{BATCH_OVERHEAD, BatchHeader, LENGTH_OVERHEAD};
use crate::record::RawRecord;
use crate::records::Limits;
use crate::varint::{Cursor, put_varint, put_varlong};
use crate::{BatchError, Compression, RecordError, TimestampMs, TimestampType};

/// What compaction decides a record's fate by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// The record's offset behind the batch's first.
    pub delta: u32,
    pub key: Option<&'a [u8]>,
    /// A record without one deletes its key.
    pub has_value: bool,
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// All of it, and nothing is to be changed.
    Whole,
    /// A batch of the same offsets, with the largest timestamp of what stays.
    Changed { batch: Bytes, max_timestamp: TimestampMs },
    /// No record stays.
    Nothing,
}

/// Shows each record to `visit`, in order; markers of transactions are none.
///
/// # Errors
/// When the batch cannot be read. Some records may have been shown.
pub fn keyed_records(batch: &Bytes, limits: Limits, mut visit: impl FnMut(KeyedRecord<'_>)) -> Result<(), BatchError> {
    let (header, compression) = head(batch)?;
    if header.attributes.control() {
        return Ok(());
    }
    let plain = decompress(compression, body(batch, &header)?, limits.bytes_max)?;
    walk(&header, &plain, |_, _, record| {
        visit(record);
        Ok(())
    })
}

/// The batch with the records that `stays` says. Where one without a value stays, and the batch does not say yet until when such
/// records are kept, it says `horizon` from now on.
///
/// # Errors
/// When the batch cannot be read.
pub fn compacted(
    batch: &Bytes,
    limits: Limits,
    horizon: TimestampMs,
    mut stays: impl FnMut(KeyedRecord<'_>) -> bool,
) -> Result<Compacted, BatchError> {
    let (header, compression) = head(batch)?;
    // Markers of transactions go with these.
    if header.attributes.control() {
        return Ok(Compacted::Whole);
    }
    let plain = decompress(compression, body(batch, &header)?, limits.bytes_max)?;
    let (mut kept, mut all_stay, mut any_without_value) = (Vec::new(), true, false);
    walk(&header, &plain, |bytes, raw, record| {
        let delta = record.delta;
        if stays(record) {
            any_without_value |= raw.value.is_none();
            kept.push((delta, bytes, raw.timestamp_delta));
        } else {
            all_stay = false;
        }
        Ok(())
    })?;
    if kept.is_empty() && !all_stay {
        return Ok(Compacted::Nothing);
    }
    let sets_horizon = any_without_value && header.delete_horizon().is_none();
    if all_stay && !sets_horizon {
        return Ok(Compacted::Whole);
    }
    let is_create_time = header.attributes.timestamp_type() == TimestampType::CreateTime;
    let (mut records, mut max_timestamp) = (Vec::with_capacity(plain.len()), TimestampMs::NONE);
    for (number, bytes, timestamp_delta) in &kept {
        let malformed = || BatchError::Record { record: *number, cause: RecordError::Timestamp };
        let time = header.base_timestamp.0.checked_add(*timestamp_delta).ok_or_else(malformed)?;
        max_timestamp = max_timestamp.max(TimestampMs(time));
        if sets_horizon {
            // Records that have the time of the append have no time of their own: their batch's largest stays.
            let time = if is_create_time { time } else { horizon.0 };
            put_moved(&mut records, bytes, time.checked_sub(horizon.0).ok_or_else(malformed)?)?;
        } else {
            records.extend_from_slice(bytes);
        }
    }
    let max_timestamp = if is_create_time { max_timestamp } else { header.max_timestamp };
    let records = compress(compression, &records);
    let mut changed = header;
    changed.record_count = count(kept.len())?;
    changed.max_timestamp = max_timestamp;
    if sets_horizon {
        (changed.attributes, changed.base_timestamp) = (header.attributes.with_delete_horizon(), horizon);
    }
    Ok(Compacted::Changed { batch: sealed(changed, &records)?, max_timestamp })
}

/// The batch without any record: its offsets, producer and largest timestamp stay, as Kafka keeps a batch of which only these are
/// wanted.
///
/// # Errors
/// When its header cannot be read.
pub fn emptied(batch: &Bytes) -> Result<Bytes, BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    header.attributes = header.attributes.emptied();
    header.base_timestamp = header.max_timestamp;
    header.record_count = 0;
    sealed(header, &[])
}

fn head(batch: &Bytes) -> Result<(BatchHeader, Compression), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let number = header.attributes.compression_number();
    let compression = header.attributes.compression().ok_or(BatchError::UnknownCompression { number })?;
    Ok((header, compression))
}

fn body<'a>(batch: &'a Bytes, header: &BatchHeader) -> Result<&'a [u8], BatchError> {
    let stated = header.total_bytes().filter(|bytes| *bytes >= BATCH_OVERHEAD);
    let stated = stated.ok_or(BatchError::InvalidLength { length: header.batch_length })?;
    batch.get(BATCH_OVERHEAD..stated).ok_or(BatchError::Truncated { stated, present: batch.len() })
}

/// Shows all bytes of each record, how it is made up, and what is decided by.
fn walk<'a>(
    header: &BatchHeader,
    plain: &'a [u8],
    mut visit: impl FnMut(&'a [u8], RawRecord, KeyedRecord<'a>) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let stated = header.record_count;
    let records = u32::try_from(stated).map_err(|_| BatchError::InvalidCount { count: stated })?;
    let mut at = 0;
    for record in 0..records {
        let malformed = |cause| BatchError::Record { record, cause };
        let rest = &plain[at..];
        let mut cursor = Cursor::new(rest);
        let raw = RawRecord::parse(&mut cursor).map_err(malformed)?;
        at += cursor.position();
        let delta = u32::try_from(raw.offset_delta).ok().filter(|_| raw.offset_delta <= header.last_offset_delta);
        let wrong = RecordError::OffsetDelta { expected: record, actual: raw.offset_delta.into() };
        let delta = delta.ok_or_else(|| malformed(wrong))?;
        let key = raw.key.clone().map(|key| &rest[key]);
        let has_value = raw.value.is_some();
        visit(&rest[..cursor.position()], raw, KeyedRecord { delta, key, has_value })?;
    }
    match plain.len() - at {
        0 => Ok(()),
        bytes => Err(BatchError::BytesAfterRecords { bytes }),
    }
}

/// The record with another distance from the batch's first timestamp.
fn put_moved(out: &mut Vec<u8>, record: &[u8], timestamp_delta: i64) -> Result<(), BatchError> {
    let malformed = |cause| BatchError::Record { record: 0, cause };
    let mut cursor = Cursor::new(record);
    let _length = cursor.varint().map_err(malformed)?;
    let attributes = cursor.byte().map_err(malformed)?;
    let _timestamp = cursor.varlong().map_err(malformed)?;
    let rest = &record[cursor.position()..];
    let mut front = vec![attributes];
    put_varlong(&mut front, timestamp_delta);
    put_varint(out, count(front.len() + rest.len())?);
    out.extend_from_slice(&front);
    out.extend_from_slice(rest);
    Ok(())
}

/// The batch of a header and its records, as they are compressed.
fn sealed(header: BatchHeader, records: &[u8]) -> Result<Bytes, BatchError> {
    let header = BatchHeader { batch_length: count(BATCH_OVERHEAD - LENGTH_OVERHEAD + records.len())?, ..header };
    let mut batch = Vec::with_capacity(BATCH_OVERHEAD + records.len());
    batch.extend_from_slice(&header.to_bytes());
    batch.extend_from_slice(records);
    let crc = batch_crc(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.into())
}

fn count(count: usize) -> Result<i32, BatchError> {
    i32::try_from(count).map_err(|_| BatchError::TooLarge { bytes_max: i32::MAX.unsigned_abs() as usize })
}
