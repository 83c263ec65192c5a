//! One record inside a batch, as ranges of the bytes it lies in: parsing it copies nothing and allocates nothing.
//!
//! ```text
//! | length | attributes | timestamp delta | offset delta | key length | key | value length | value | headers | header.. |
//!   varint   1 byte       varlong           varint         varint       ..    varint         ..      varint
//! header: | key length | key | value length | value |       a length of -1 means null; a header's key is never null
//! ```

use std::ops::Range;

use bytes::Bytes;

use crate::varint::Cursor;
use crate::{RecordError, StreamOffset, TimestampMs};

/// The fields of a record; the ranges are positions in the slice that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
    pub(crate) header_count: u32,
    pub(crate) headers: Range<usize>,
}

fn nullable(cursor: &mut Cursor<'_>) -> Result<Option<Range<usize>>, RecordError> {
    let length = cursor.varint()?;
    match usize::try_from(length) {
        Ok(length) => cursor.skip(length).map(Some),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(RecordError::Length { length: i64::from(length) }),
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<(Range<usize>, Option<Range<usize>>), RecordError> {
    let key = nullable(cursor)?.ok_or(RecordError::NullHeaderKey)?;
    Ok((key, nullable(cursor)?))
}

impl RawRecord {
    /// Reads the record at the cursor and moves behind it.
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, RecordError> {
        let length = cursor.varint()?;
        let stated = usize::try_from(length).map_err(|_| RecordError::Length { length: i64::from(length) })?;
        if stated > cursor.remaining() {
            return Err(RecordError::Short);
        }
        let start = cursor.position();
        let _attributes = cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = nullable(cursor)?;
        let value = nullable(cursor)?;
        let count = cursor.varint()?;
        let header_count = u32::try_from(count).map_err(|_| RecordError::HeaderCount { count: i64::from(count) })?;
        let headers_from = cursor.position();
        // Every header takes two bytes at least, so the loop ends with the bytes whatever the count says.
        for _ in 0..header_count {
            header(cursor)?;
        }
        let used = cursor.position() - start;
        if used != stated {
            return Err(RecordError::LengthMismatch { stated, used });
        }
        Ok(Self { timestamp_delta, offset_delta, key, value, header_count, headers: headers_from..cursor.position() })
    }
}

/// A record as a reader sees it. Key, value and headers share the memory of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: StreamOffset,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// The headers of a record, taken apart only when they are iterated.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Headers {
    pub(crate) count: u32,
    pub(crate) bytes: Bytes,
}

impl Headers {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value of each header in order. The bytes were checked when the record was parsed.
    pub fn iter(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        let mut cursor = Cursor::new(&self.bytes);
        (0..self.count).map_while(move |_| {
            let (key, value) = header(&mut cursor).ok()?;
            Some((self.bytes.slice(key), value.map(|value| self.bytes.slice(value))))
        })
    }
}
