//! The objects of the shard: each took the place of neighbouring sealed ranges, whose numbers the streams still name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex, ObjectKey, StreamId};

use crate::codec::{DecodeError, Reader, Wire};
use crate::shard::Shard;
use crate::table::{Record, Table};

/// The stream, of a compacted object, and the first sealed range whose place an object has.
pub type Spot = (Option<StreamId>, FileNumber);

/// An object that holds what lives of the sealed ranges from `first` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedObject {
    /// The stream of which it is all that is left there; none where it is of all streams that are not compacted.
    pub stream: Option<StreamId>,
    pub first: FileNumber,
    pub last: FileNumber,
    pub key: ObjectKey,
    /// The log that it stands for, which is kept where the object is not yet: first index.
    pub from: LogIndex,
    /// Last index.
    pub through: LogIndex,
    /// How often a stream names one of the numbers from `first` to `last`.
    pub streams: u64,
    /// Bytes of the whole object.
    pub bytes: u64,
    /// Of its index, which has a checksum of everything else.
    pub index_digest: u64,
}

impl Wire for PlacedObject {
    const BYTES_MIN: usize = 56;
    fn put(&self, out: &mut Vec<u8>) {
        self.first.put(out);
        self.last.put(out);
        self.key.put(out);
        self.from.put(out);
        self.through.put(out);
        self.streams.put(out);
        self.bytes.put(out);
        self.index_digest.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            // Those of one stream are in a table of their own.
            stream: None,
            first: Wire::take(input)?,
            last: Wire::take(input)?,
            key: Wire::take(input)?,
            from: Wire::take(input)?,
            through: Wire::take(input)?,
            streams: Wire::take(input)?,
            bytes: Wire::take(input)?,
            index_digest: Wire::take(input)?,
        })
    }
}

impl Record for PlacedObject {
    type Key = FileNumber;
    const TABLE: u8 = 21;
    fn key(&self) -> FileNumber {
        self.first
    }
}

impl PlacedObject {
    /// Whose place it has, and from where on: no other object has the same.
    #[must_use]
    pub const fn spot(&self) -> Spot {
        (self.stream, self.first)
    }

    /// Whether it has the place of something of what another one has the place of.
    #[must_use]
    pub fn overlaps(&self, first: FileNumber, last: FileNumber) -> bool {
        self.first <= last && first <= self.last
    }

    /// The numbers of the sealed ranges that it took the place of.
    #[must_use]
    pub fn files(&self) -> RangeInclusive<FileNumber> {
        self.first..=self.last
    }
}

/// The objects, and in which order they lie.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) table: Table<PlacedObject>,
    /// Derived: the first number of each.
    firsts: BTreeSet<FileNumber>,
}

impl Objects {
    /// The object that has the place of a sealed range.
    pub(crate) fn of(&self, file: FileNumber) -> Option<&PlacedObject> {
        let first = self.firsts.range(..=file).next_back()?;
        self.table.get(first).filter(|object| file <= object.last)
    }

    /// Those that have the place of some range from `first` to `last`, in order.
    pub(crate) fn within(&self, first: FileNumber, last: FileNumber) -> Vec<PlacedObject> {
        let from = self.of(first).map_or(first, |object| object.first);
        let objects = self.firsts.range(from..=last.max(from)).filter_map(|first| self.table.get(first));
        objects.cloned().collect()
    }

    pub(crate) fn insert(&mut self, object: PlacedObject) {
        self.firsts.insert(object.first);
        self.table.insert(object);
    }

    pub(crate) fn remove(&mut self, first: FileNumber) -> Option<PlacedObject> {
        self.firsts.remove(&first);
        self.table.remove(&first)
    }

    /// Finds out what is derived, after a restore.
    pub(crate) fn relink(&mut self) -> Result<(), DecodeError> {
        self.firsts = self.table.iter().map(|(_, object)| object.first).collect();
        let mut before: Option<FileNumber> = None;
        for object in self.firsts.iter().filter_map(|first| self.table.get(first)) {
            if object.last < object.first || before.is_some_and(|before| object.first <= before) {
                return Err(DecodeError::Value { what: "the place of an object", value: object.first.0.into() });
            }
            before = Some(object.last);
        }
        Ok(())
    }
}

impl Shard {
    /// The objects, in the order of the ranges whose place they have.
    #[must_use]
    pub fn objects(&self) -> Vec<&PlacedObject> {
        self.objects.table.sorted()
    }

    /// The object in which something lies that was in a sealed range.
    #[must_use]
    pub fn object_of(&self, file: FileNumber) -> Option<&PlacedObject> {
        self.objects.of(file)
    }
}
