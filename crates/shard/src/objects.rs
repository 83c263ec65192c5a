//! The objects of the shard: each took the place of neighbouring sealed ranges, whose numbers the streams still name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex, ObjectKey};

use crate::codec::{DecodeError, wire_struct};
use crate::shard::Shard;
use crate::table::{Record, Table};

/// An object that holds what lives of the sealed ranges from `first` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedObject {
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

wire_struct!(PlacedObject {
    first: FileNumber,
    last: FileNumber,
    key: ObjectKey,
    from: LogIndex,
    through: LogIndex,
    streams: u64,
    bytes: u64,
    index_digest: u64,
});

impl Record for PlacedObject {
    type Key = FileNumber;
    const TABLE: u8 = 21;
    fn key(&self) -> FileNumber {
        self.first
    }
}

impl PlacedObject {
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
