//! How values become bytes in commands and checkpoints: little-endian, no padding, lengths in front. Reading checks
//! every length against what is there before it allocates, so that no bytes lead to a panic or to more memory than a
//! small multiple of their own length.

use std::collections::BTreeMap;

use bytes::Bytes;
use record::{
    FileNumber, LeaderEpoch, LogIndex, NodeId, ObjectKey, Partition, ProducerEpoch, ProducerId, Sequence, ShardId,
    StreamId, StreamOffset, Term, TimestampMs, TopicId,
};
use smallvec::SmallVec;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end inside a value")]
    Short,
    #[error("{bytes} bytes are left over")]
    TrailingBytes { bytes: usize },
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("the value {value} is not possible for {what}")]
    Value { what: &'static str, value: u64 },
    #[error("there is no command of number {number}, unless in a later version of the program, which wrote it then")]
    UnknownCommand { number: u8 },
    #[error("command {number} has no version {version}, unless in a later version of the program, which wrote it then")]
    UnknownVersion { number: u8, version: u8 },
    #[error("the format version {version} is not known, unless to a later version of the program, which wrote it then")]
    UnknownFormat { version: u8 },
}

/// Reads forward through bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Nothing may be left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::TrailingBytes { bytes }),
        }
    }
}

/// A value with a stable form in bytes.
pub trait Wire: Sized {
    /// The fewest bytes that a value takes; bounds what a count may claim.
    const BYTES_MIN: usize;
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The length of a list, text or byte string: what is built here stays far below 4 GiB.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("no value that is put into a command reaches 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

fn take_length(input: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let length = u32::from_le_bytes(input.array()?);
    usize::try_from(length).map_err(|_| DecodeError::Short)
}

/// Room for `count` values, but for no more than the bytes that are left can hold.
fn capacity<T: Wire>(count: usize, input: &Reader<'_>) -> usize {
    count.min(input.remaining() / T::BYTES_MIN.max(1))
}

macro_rules! wire_number {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            const BYTES_MIN: usize = size_of::<$number>();
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}
wire_number!(u8, u16, u32, u64, u128, i16, i32, i64);

macro_rules! wire_id {
    ($($id:ident($number:ty)),*) => {$(
        impl Wire for $id {
            const BYTES_MIN: usize = size_of::<$number>();
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$number>::take(input).map(Self)
            }
        }
    )*};
}
wire_id!(
    NodeId(u64),
    ShardId(u32),
    StreamId(u64),
    StreamOffset(i64),
    Term(u64),
    LogIndex(u64),
    LeaderEpoch(i32),
    ProducerId(i64),
    ProducerEpoch(i16),
    Sequence(i32),
    TimestampMs(i64),
    Partition(i32),
    FileNumber(u32),
    ObjectKey(u64),
    TopicId(u128)
);

impl Wire for bool {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Value { what: "a flag", value: u64::from(value) }),
        }
    }
}

impl Wire for String {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = take_length(input)?;
        let bytes = input.slice(length)?;
        std::str::from_utf8(bytes).map(Self::from).map_err(|_| DecodeError::Utf8)
    }
}

impl Wire for Bytes {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        out.extend_from_slice(self);
    }
    // Copied, so that state never keeps a whole log entry's buffer alive.
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = take_length(input)?;
        input.slice(length).map(Self::copy_from_slice)
    }
}

impl<T: Wire> Wire for Option<T> {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bool::take(input)?.then(|| T::take(input)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        for value in self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        let mut values = Self::with_capacity(capacity::<T>(count, input));
        for _ in 0..count {
            values.push(T::take(input)?);
        }
        Ok(values)
    }
}

impl<T: Wire, const N: usize> Wire for SmallVec<[T; N]>
where
    [T; N]: smallvec::Array<Item = T>,
{
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        for value in self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        let mut values = Self::with_capacity(capacity::<T>(count, input));
        for _ in 0..count {
            values.push(T::take(input)?);
        }
        Ok(values)
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.len());
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = take_length(input)?;
        let mut values = Self::new();
        for _ in 0..count {
            values.insert(K::take(input)?, V::take(input)?);
        }
        Ok(values)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const BYTES_MIN: usize = A::BYTES_MIN + B::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// The fields of a struct, one after the other in the order given.
#[macro_export]
macro_rules! wire_struct {
    ($name:ident { $($field:ident : $kind:ty),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            const BYTES_MIN: usize = 0 $(+ <$kind as $crate::codec::Wire>::BYTES_MIN)*;
            fn put(&self, out: &mut Vec<u8>) {
                // A struct may have no fields.
                let _ = &out;
                $($crate::codec::Wire::put(&self.$field, out);)*
            }
            fn take(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                let _ = &input;
                Ok(Self { $($field: <$kind as $crate::codec::Wire>::take(input)?,)* })
            }
        }
    };
}
pub use wire_struct;

/// A whole value from bytes that hold nothing else.
///
/// # Errors
/// When they are no such value, or hold more.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut input = Reader::new(bytes);
    let value = T::take(&mut input)?;
    input.finish()?;
    Ok(value)
}
