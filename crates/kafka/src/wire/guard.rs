//! Walks a request body by its schema before the message crate decodes it.
//!
//! After [`check`] passed, the decoder reads the same bytes the same way, every count in them is backed by bytes,
//! and what the decoded message occupies is at most the returned estimate.

use bytes::Bytes;

use super::read::{Malformed, Reader};
use super::schema::{Field, Kind};

/// Memory of one decoded field inside its structure, an upper bound for every kind.
const FIELD_BYTES: usize = 32;
/// A map of unknown tagged fields that holds something.
const TAGS_BYTES: usize = 600;
const TAG_BYTES: usize = 64;

/// Most items are answered one by one: the least that an item's answer takes until it is encoded.
const ANSWER_BYTES: usize = 256;
const FIXED_ANSWER_BYTES: usize = 96;

/// Checks the body that starts at `at`, refusing what would decode to more than `bytes_max`; returns an upper bound for the memory of the decoded message
/// and the structures of a plain answer to it.
pub(crate) fn check(
    body: &'static [Field],
    frame: &Bytes,
    at: usize,
    version: i16,
    flexible: bool,
    bytes_max: usize,
) -> Result<usize, Malformed> {
    let mut walk = Walk { reader: Reader::starting_at(frame, at), version, flexible, bytes: 0, bytes_max };
    walk.structure(body)?;
    Ok(walk.bytes)
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    bytes: usize,
    bytes_max: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), Malformed> {
        for field in fields {
            if self.version >= field.since && self.version <= field.until {
                self.value(field.kind)?;
            }
        }
        if self.flexible {
            let tags = self.reader.skip_tags()? as usize;
            if tags > 0 {
                self.spend(TAGS_BYTES + tags.saturating_mul(TAG_BYTES))?;
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(size) => self.reader.take(size).map(drop),
            Kind::Text => self.reader.skip_text(self.flexible),
            Kind::Blob => self.reader.skip_blob(self.flexible),
            Kind::FixedArray(size) => {
                let count = self.reader.nullable_count(self.flexible, size)?.unwrap_or(0);
                self.spend(count.saturating_mul(size + FIXED_ANSWER_BYTES))?;
                self.reader.take(count * size).map(drop)
            }
            Kind::TextArray => {
                let count = self.reader.nullable_count(self.flexible, 1)?.unwrap_or(0);
                self.spend(count.saturating_mul(FIELD_BYTES + ANSWER_BYTES))?;
                (0..count).try_for_each(|_| self.reader.skip_text(self.flexible))
            }
            Kind::Array(fields) => {
                let count = self.reader.nullable_count(self.flexible, 1)?.unwrap_or(0);
                // One more for the map of unknown tagged fields that each structure has.
                self.spend(count.saturating_mul(FIELD_BYTES * (fields.len() + 1) + ANSWER_BYTES))?;
                (0..count).try_for_each(|_| self.structure(fields))
            }
            Kind::Optional(fields) => match self.reader.i8()? {
                1 => self.structure(fields),
                _ => Ok(()),
            },
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(Malformed::TooCostly { bytes: self.bytes, limit: self.bytes_max });
        }
        Ok(())
    }
}
