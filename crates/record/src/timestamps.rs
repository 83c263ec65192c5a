//! Which record of a batch a timestamp leads to.
//!
//! A compressed batch is read as a stream, of which no more is held than a block or window of its format: a lookup
//! needs a few bytes of each record, and must not take the memory that a batch claims when it is decompressed. A batch
//! that needs more than is allowed is answered with its first record, from which a reader comes to the right one.

use std::io::{self, BufReader, Read};

use bytes::Bytes;

use crate::compression::reader;
use crate::header::{BATCH_OVERHEAD, BatchHeader};
use crate::records::{Limits, records};
use crate::varint::Cursor;
use crate::{BatchError, Compression, RecordError, StreamOffset, TimestampMs, TimestampType};

/// The largest block or window that a lookup holds: that of zstd up to level 19.
const HELD_MAX: usize = 8 * 1024 * 1024;
/// What is read ahead.
const BUFFER: usize = 16 * 1024;

/// The first record behind the first `skipped` offsets whose timestamp is `timestamp` or later: its offset and timestamp. `None`
/// if there is none. Offsets count from the base offset that stands in the batch. `limits` bounds what is decompressed on the
/// way.
pub fn offset_for_timestamp(
    batch: &Bytes,
    timestamp: TimestampMs,
    skipped: u32,
    limits: Limits,
) -> Result<Option<(StreamOffset, TimestampMs)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp < timestamp {
        return Ok(None);
    }
    // All records of such a batch have one timestamp, so nothing need be decompressed.
    let first_offset = StreamOffset(header.base_offset.0.saturating_add(i64::from(skipped)));
    let first = Some((first_offset, header.max_timestamp));
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(first);
    }
    let mut found = None;
    let scanned = scan(&header, batch, limits, |offset, time, _| {
        if time >= timestamp && offset >= first_offset {
            found = Some((offset, time));
        }
        found.is_some()
    });
    match scanned {
        Err(BatchError::TooLarge { .. }) => Ok(first),
        scanned => scanned.map(|()| found),
    }
}

/// The first record that has the largest timestamp of all records, whatever the header says: its offset and timestamp.
/// The header is believed about a batch that is not decompressed to its end. `None` in a batch whose records have no
/// timestamp.
pub fn max_timestamp_offset(batch: &Bytes, limits: Limits) -> Result<Option<(StreamOffset, TimestampMs)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let by_header = (header.max_timestamp.0 >= 0).then_some((header.base_offset, header.max_timestamp));
    if by_header.is_none() || header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(by_header);
    }
    let mut largest: Option<(StreamOffset, TimestampMs)> = None;
    let scanned = scan(&header, batch, limits, |offset, time, _| {
        if time.0 >= 0 && largest.is_none_or(|(_, known)| time > known) {
            largest = Some((offset, time));
        }
        // No record should have a larger one.
        time == header.max_timestamp
    });
    match scanned {
        Err(BatchError::TooLarge { .. }) => Ok(by_header),
        scanned => scanned.map(|()| largest),
    }
}

/// The records without a key, by their places in the batch: the first `count_max` of them. What is decompressed on the way is bounded
/// by `limits`, and not held.
///
/// # Errors
/// When the records cannot be read.
pub fn records_without_key(batch: &Bytes, limits: Limits, count_max: usize) -> Result<Vec<u32>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let (mut found, mut place) = (Vec::new(), 0);
    scan(&header, batch, limits, |_, _, has_key| {
        if !has_key {
            found.push(place);
        }
        place += 1;
        found.len() == count_max
    })?;
    Ok(found)
}

/// Shows `visit` the offset and the timestamp of each record, and whether it has a key, until it says that it has seen enough.
fn scan(
    header: &BatchHeader,
    batch: &Bytes,
    limits: Limits,
    mut visit: impl FnMut(StreamOffset, TimestampMs, bool) -> bool,
) -> Result<(), BatchError> {
    let compression = header.attributes.compression().unwrap_or(Compression::None);
    if compression != Compression::None {
        return scan_compressed(header, compression, &batch[BATCH_OVERHEAD..], limits, visit);
    }
    for record in records(batch, limits)? {
        let record = record?;
        if visit(record.offset, record.timestamp, record.key.is_some()) {
            break;
        }
    }
    Ok(())
}

fn scan_compressed(
    header: &BatchHeader,
    compression: Compression,
    compressed: &[u8],
    limits: Limits,
    mut visit: impl FnMut(StreamOffset, TimestampMs, bool) -> bool,
) -> Result<(), BatchError> {
    let count = header.record_count;
    let count = u32::try_from(count).map_err(|_| BatchError::InvalidCount { count })?;
    let reader = reader(compression, compressed, HELD_MAX)?;
    let mut fields = Fields { reader: BufReader::with_capacity(BUFFER, reader), compression, left: limits.bytes_max };
    for record in 0..count {
        let malformed = |cause| BatchError::Record { record, cause };
        let length = fields.number(5)?;
        let length = Cursor::new(&length).varint().map_err(malformed)?;
        let length = usize::try_from(length).map_err(|_| malformed(RecordError::Length { length: length.into() }))?;
        let before = fields.left;
        fields.skip(1)?;
        let delta = Cursor::new(&fields.number(10)?).varlong().map_err(malformed)?;
        let offset = Cursor::new(&fields.number(5)?).varint().map_err(malformed)?;
        let key_length = Cursor::new(&fields.number(5)?).varint().map_err(malformed)?;
        let used = before - fields.left;
        let rest = length.checked_sub(used);
        fields.skip(rest.ok_or_else(|| malformed(RecordError::LengthMismatch { stated: length, used }))?)?;
        let found = header.base_timestamp.0.checked_add(delta).ok_or_else(|| malformed(RecordError::Timestamp))?;
        let wrong = RecordError::OffsetDelta { expected: record, actual: offset.into() };
        let offset = header.base_offset.checked_add(offset.into()).ok_or_else(|| malformed(wrong))?;
        if visit(offset, TimestampMs(found), key_length >= 0) {
            break;
        }
    }
    Ok(())
}

/// Reads a stream of records field by field, as far as the limit allows.
struct Fields<'a> {
    reader: BufReader<Box<dyn Read + 'a>>,
    compression: Compression,
    left: usize,
}

impl Fields<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), BatchError> {
        self.left = self.left.checked_sub(bytes).ok_or(BatchError::TooLarge { bytes_max: self.left })?;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> BatchError {
        // A block that is larger than what is held says so by type, a window of zstd only by its library's text; should
        // that change, the lookup fails instead of leading to the first record.
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<BatchError>());
        if matches!(inner, Some(BatchError::TooLarge { .. })) || error.to_string().contains("too much memory") {
            return BatchError::TooLarge { bytes_max: HELD_MAX };
        }
        BatchError::Compression { compression: self.compression.name() }
    }

    /// The bytes of a variable-length number, `length_max` of them at most.
    fn number(&mut self, length_max: usize) -> Result<Vec<u8>, BatchError> {
        let mut number = Vec::with_capacity(length_max);
        while number.len() < length_max {
            let mut byte = [0];
            self.take(1)?;
            self.reader.read_exact(&mut byte).map_err(|error| self.failed(&error))?;
            number.push(byte[0]);
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), BatchError> {
        self.take(bytes)?;
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        let skipped = io::copy(&mut self.reader.by_ref().take(wanted), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == wanted => Ok(()),
            Ok(_) => Err(BatchError::Compression { compression: self.compression.name() }),
            Err(error) => Err(self.failed(&error)),
        }
    }
}
