//! The primitive types of the protocol, read from a frame. Every length is checked against what is there.

use bytes::Bytes;

/// What is wrong with a request's bytes. The connection is closed: after it nothing in the stream can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("{wanted} bytes wanted, {left} left")]
    Short { wanted: u64, left: usize },
    #[error("negative length {0}")]
    NegativeLength(i64),
    #[error("a string of {0} bytes; the protocol has none above 32,767")]
    TextTooLong(u64),
    #[error("{count} items announced, {left} bytes left")]
    Count { count: u64, left: usize },
    #[error("a variable-length integer has more than five bytes")]
    VarintTooLong,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("a field that must not be null is")]
    Null,
    #[error("a tagged field of {size} bytes held {used}")]
    TagSize { size: usize, used: usize },
    #[error("decoding it would take {bytes} bytes, at most {limit} are allowed")]
    TooCostly { bytes: usize, limit: usize },
    #[error("not decodable: {0}")]
    Body(String),
}

/// The longest string, in every form of it.
const TEXT_BYTES_MAX: u64 = i16::MAX as u64;

/// A cursor over one frame. Slices it hands out share the frame's buffer.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

macro_rules! integers {
    ($($name:ident: $type:ty),*) => {$(
        pub(crate) fn $name(&mut self) -> Result<$type, Malformed> {
            const SIZE: usize = size_of::<$type>();
            let bytes = self.take(SIZE)?;
            Ok(<$type>::from_be_bytes(bytes.try_into().expect("take returns what was asked")))
        }
    )*};
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0 }
    }

    pub(crate) fn starting_at(frame: &'a Bytes, at: usize) -> Self {
        Self { frame, at: at.min(frame.len()) }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) const fn left(&self) -> usize {
        self.frame.len() - self.at
    }

    pub(crate) fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let left = self.left();
        if size > left {
            return Err(Malformed::Short { wanted: size as u64, left });
        }
        let start = self.at;
        self.at += size;
        Ok(&self.frame[start..self.at])
    }

    fn take_shared(&mut self, size: usize) -> Result<Bytes, Malformed> {
        let start = self.at;
        self.take(size)?;
        Ok(self.frame.slice(start..start + size))
    }

    integers!(i8: i8, i16: i16, i32: i32, i64: i64, u128: u128);

    pub(crate) fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::VarintTooLong)
    }

    /// A length or count in the compact form: one more than it says, 0 for null.
    fn compact(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(self.varint()?.checked_sub(1).map(u64::from))
    }

    fn signed(length: i64) -> Result<Option<u64>, Malformed> {
        match length {
            -1 => Ok(None),
            length => u64::try_from(length).map(Some).map_err(|_| Malformed::NegativeLength(length)),
        }
    }

    fn sized(&self, length: u64) -> Result<usize, Malformed> {
        match usize::try_from(length) {
            Ok(size) if size <= self.left() => Ok(size),
            _ => Err(Malformed::Short { wanted: length, left: self.left() }),
        }
    }

    /// The compact form could say more than the older one. No string may: what names, ids and values cost is bounded
    /// by it.
    fn text_length(&mut self, flexible: bool) -> Result<Option<usize>, Malformed> {
        let length = if flexible { self.compact()? } else { Self::signed(self.i16()?.into())? };
        if let Some(length) = length.filter(|length| *length > TEXT_BYTES_MAX) {
            return Err(Malformed::TextTooLong(length));
        }
        length.map(|length| self.sized(length)).transpose()
    }

    fn blob_length(&mut self, flexible: bool) -> Result<Option<usize>, Malformed> {
        let length = if flexible { self.compact()? } else { Self::signed(self.i32()?.into())? };
        length.map(|length| self.sized(length)).transpose()
    }

    pub(crate) fn nullable_text(&mut self, flexible: bool) -> Result<Option<&'a str>, Malformed> {
        let Some(size) = self.text_length(flexible)? else { return Ok(None) };
        std::str::from_utf8(self.take(size)?).map(Some).map_err(|_| Malformed::NotUtf8)
    }

    pub(crate) fn text(&mut self, flexible: bool) -> Result<&'a str, Malformed> {
        self.nullable_text(flexible)?.ok_or(Malformed::Null)
    }

    pub(crate) fn nullable_blob(&mut self, flexible: bool) -> Result<Option<Bytes>, Malformed> {
        let Some(size) = self.blob_length(flexible)? else { return Ok(None) };
        self.take_shared(size).map(Some)
    }

    pub(crate) fn nullable_blob_i16(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(size) = self.text_length(false)? else { return Ok(None) };
        self.take_shared(size).map(Some)
    }

    /// Skips a string; whether it is UTF-8 is the decoder's affair.
    pub(crate) fn skip_text(&mut self, flexible: bool) -> Result<(), Malformed> {
        let Some(size) = self.text_length(flexible)? else { return Ok(()) };
        self.take(size).map(drop)
    }

    pub(crate) fn skip_blob(&mut self, flexible: bool) -> Result<(), Malformed> {
        let Some(size) = self.blob_length(flexible)? else { return Ok(()) };
        self.take(size).map(drop)
    }

    /// The count of an array, each item of which takes at least `item_bytes_min` bytes; `None` for a null array.
    pub(crate) fn nullable_count(&mut self, flexible: bool, item_bytes_min: usize) -> Result<Option<usize>, Malformed> {
        let count = if flexible { self.compact()? } else { Self::signed(self.i32()?.into())? };
        let Some(count) = count else { return Ok(None) };
        let left = self.left();
        match usize::try_from(count) {
            Ok(items) if items <= left / item_bytes_min.max(1) => Ok(Some(items)),
            _ => Err(Malformed::Count { count, left }),
        }
    }

    pub(crate) fn count(&mut self, flexible: bool, item_bytes_min: usize) -> Result<usize, Malformed> {
        self.nullable_count(flexible, item_bytes_min)?.ok_or(Malformed::Null)
    }

    /// Skips a section of tagged fields, all unknown; their number.
    pub(crate) fn skip_tags(&mut self) -> Result<u32, Malformed> {
        self.tags(|_, _| Ok(false))
    }

    /// Reads a section of tagged fields. `known` is called at the content of each; it returns false for a tag that it
    /// does not know, having read nothing, and otherwise must have read exactly the field.
    pub(crate) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, Malformed>,
    ) -> Result<u32, Malformed> {
        let count = self.varint()?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()?;
            let size = self.sized(size.into())?;
            let start = self.at;
            if !known(tag, self)? {
                self.at = start + size;
            }
            let used = self.at - start;
            if used != size {
                return Err(Malformed::TagSize { size, used });
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_at_most_32767_bytes_in_every_form() {
        for (len, fits) in [(32_767_u32, true), (32_768, false), (5 << 20, false)] {
            let mut bytes = Vec::new();
            let mut length = len + 1;
            while length >= 0x80 {
                bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
                length >>= 7;
            }
            bytes.push(u8::try_from(length).expect("seven bits"));
            bytes.extend(vec![b'x'; len as usize]);
            let frame = Bytes::from(bytes);
            assert_eq!(Reader::new(&frame).text(true).is_ok(), fits, "{len}");
            assert_eq!(Reader::new(&frame).skip_text(true).is_ok(), fits, "{len}");
            assert!(Reader::new(&frame).nullable_blob(true).is_ok(), "bytes are another matter");
        }
    }

    #[test]
    fn integers_of_six_bytes_are_refused() {
        let bytes = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x80, 1]);
        assert_eq!(Reader::new(&bytes).varint(), Err(Malformed::VarintTooLong));
    }
}
