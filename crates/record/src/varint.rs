//! The variable-length numbers of a record: seven bits a byte, the lowest first, signs folded in by zigzag. Reading
//! refuses numbers that are cut off or longer than their type needs; it never reads past its slice.

use crate::RecordError;

const LENGTH_MAX_64: usize = 10;
const LENGTH_MAX_32: usize = 5;

/// Reads forward through a slice of bytes and remembers how far it came.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.position).ok_or(RecordError::Short)?;
        self.position += 1;
        Ok(byte)
    }

    /// Steps over `length` bytes and says where they lie.
    pub(crate) fn skip(&mut self, length: usize) -> Result<std::ops::Range<usize>, RecordError> {
        if length > self.remaining() {
            return Err(RecordError::Short);
        }
        let from = self.position;
        self.position += length;
        Ok(from..self.position)
    }

    pub(crate) fn varint(&mut self) -> Result<i32, RecordError> {
        // Almost every number in a record takes one byte.
        if let Some(&byte) = self.bytes.get(self.position)
            && byte < 0x80
        {
            self.position += 1;
            return Ok(i32::from(byte >> 1) ^ -i32::from(byte & 1));
        }
        let value = self.unsigned(LENGTH_MAX_32)?;
        let value = u32::try_from(value).map_err(|_| RecordError::Varint)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn varlong(&mut self) -> Result<i64, RecordError> {
        if let Some(&byte) = self.bytes.get(self.position)
            && byte < 0x80
        {
            self.position += 1;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let value = self.unsigned(LENGTH_MAX_64)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn unsigned(&mut self, length_max: usize) -> Result<u64, RecordError> {
        let mut value: u64 = 0;
        for step in 0..length_max {
            let byte = self.bytes.get(self.position + step).ok_or(RecordError::Varint)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if step == LENGTH_MAX_64 - 1 && bits > 1 {
                return Err(RecordError::Varint);
            }
            value |= bits << (7 * step);
            if byte & 0x80 == 0 {
                self.position += step + 1;
                return Ok(value);
            }
        }
        Err(RecordError::Varint)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low seven or eight bits are meant")]
fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
}

pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: i64, expected: &[u8]) {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        assert_eq!(out, expected);
        assert_eq!(Cursor::new(&out).varlong(), Ok(value));
        if let Ok(value) = i32::try_from(value) {
            out.clear();
            put_varint(&mut out, value);
            assert_eq!(out, expected);
            assert_eq!(Cursor::new(&out).varint(), Ok(value));
        }
    }

    #[test]
    fn known_encodings() {
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[126]);
        check(-64, &[127]);
        check(64, &[0x80, 1]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn cut_off_or_too_long_is_refused() {
        for bytes in [&[][..], &[0x80], &[0x80, 0x80, 0x80, 0x80, 0x80, 0], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            assert_eq!(Cursor::new(bytes).varint(), Err(RecordError::Varint), "{bytes:?}");
        }
        assert_eq!(Cursor::new(&[0xff; 11]).varlong(), Err(RecordError::Varint));
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varlong(),
            Err(RecordError::Varint)
        );
    }

    proptest! {
        #[test]
        fn round_trip(value: i64) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
        }
    }
}
