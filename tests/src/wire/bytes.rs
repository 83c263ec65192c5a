//! Big-endian fields, Kafka's strings and zigzag varints.

use anyhow::{Context, Result, bail};

/// Appends fields to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A length that fits a signed 32-bit field.
    pub fn count(&mut self, value: usize) -> &mut Self {
        self.i32(i32::try_from(value).unwrap_or(i32::MAX))
    }

    /// A string with a 16-bit length.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX)).raw(value.as_bytes())
    }

    pub fn null_string(&mut self) -> &mut Self {
        self.i16(-1)
    }

    /// Bytes with a 32-bit length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len()).raw(value)
    }

    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    pub fn varint(&mut self, value: i64) -> &mut Self {
        let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
        while zigzag >= 0x80 {
            self.0.push((zigzag & 0x7f).to_le_bytes()[0] | 0x80);
            zigzag >>= 7;
        }
        self.0.push(zigzag.to_le_bytes()[0]);
        self
    }

    /// Bytes with a varint length, -1 for none.
    pub fn varbytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.varint(i64::try_from(value.len()).unwrap_or(i64::MAX)).raw(value),
            None => self.varint(-1),
        }
    }

    /// Overwrites a 32-bit field that was left open at `position`.
    pub fn patch_i32(&mut self, position: usize, value: usize) {
        let bytes = i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes();
        self.0[position..position + 4].copy_from_slice(&bytes);
    }
}

/// Takes fields off a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.0.len() {
            bail!("{count} bytes wanted, {} left", self.0.len());
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().context("a slice of the length asked for")
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A length of 32 bits; negative reads as nothing.
    pub fn count(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    pub fn string(&mut self) -> Result<Option<String>> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8(self.take(length)?.to_vec())?))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    pub fn varint(&mut self) -> Result<i64> {
        let mut zigzag = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        bail!("a varint of more than ten bytes")
    }

    pub fn varbytes(&mut self) -> Result<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_negative) => Ok(None),
        }
    }
}
