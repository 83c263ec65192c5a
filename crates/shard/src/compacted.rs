//! The compacted objects of the shard: each has what key compaction left of one stream up to a sealed range, and the stream names
//! the ranges in whose place it is no more.
//!
//! A stream's compacted objects come before its index files, one behind the other, and hold all that it has up to the last of them.

use std::collections::BTreeSet;

use record::{FileNumber, StreamId, StreamOffset};

use crate::codec::{DecodeError, Reader, Wire};
use crate::objects::PlacedObject;
use crate::shard::Shard;
use crate::table::{Record, Table};

/// An object that holds what is left of a stream in the sealed ranges from its first to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactedObject {
    pub stream: StreamId,
    /// Of the stream before that offset no record is there twice: an earlier one of the same key is gone.
    pub cleaned_to: StreamOffset,
    pub object: PlacedObject,
}

impl Wire for CompactedObject {
    const BYTES_MIN: usize = 16 + PlacedObject::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        self.stream.put(out);
        self.cleaned_to.put(out);
        self.object.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (stream, cleaned_to) = (StreamId::take(input)?, StreamOffset::take(input)?);
        let object = PlacedObject { stream: Some(stream), ..PlacedObject::take(input)? };
        Ok(Self { stream, cleaned_to, object })
    }
}

impl Record for CompactedObject {
    type Key = (StreamId, FileNumber);
    const TABLE: u8 = 22;
    fn key(&self) -> (StreamId, FileNumber) {
        (self.stream, self.object.first)
    }
}

/// The compacted objects, and in which order they lie.
#[derive(Debug, Default)]
pub(crate) struct Compacted {
    pub(crate) table: Table<CompactedObject>,
    /// Derived: stream and first number of each.
    places: BTreeSet<(StreamId, FileNumber)>,
}

impl Compacted {
    /// Those of a stream, in order.
    pub(crate) fn of(&self, stream: StreamId) -> impl DoubleEndedIterator<Item = &CompactedObject> + '_ {
        let places = self.places.range((stream, FileNumber(0))..=(stream, FileNumber(u32::MAX)));
        places.filter_map(|place| self.table.get(place))
    }

    /// Up to this range a stream's data is in compacted objects.
    pub(crate) fn through(&self, stream: StreamId) -> Option<FileNumber> {
        if self.places.is_empty() {
            return None;
        }
        self.of(stream).next_back().map(|compacted| compacted.object.last)
    }

    /// From this range on it is.
    pub(crate) fn from(&self, stream: StreamId) -> Option<FileNumber> {
        if self.places.is_empty() {
            return None;
        }
        self.of(stream).next().map(|compacted| compacted.object.first)
    }

    pub(crate) fn insert(&mut self, compacted: CompactedObject) {
        self.places.insert(compacted.key());
        self.table.insert(compacted);
    }

    pub(crate) fn remove(&mut self, stream: StreamId, first: FileNumber) -> Option<CompactedObject> {
        self.places.remove(&(stream, first));
        self.table.remove(&(stream, first))
    }

    /// Takes out those of a stream that end below a number, the oldest first.
    pub(crate) fn take_below(&mut self, stream: StreamId, file: FileNumber) -> Vec<PlacedObject> {
        if self.places.is_empty() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        loop {
            let oldest = self.of(stream).next().map(|oldest| (oldest.object.first, oldest.object.last));
            let Some((first, _)) = oldest.filter(|(_, last)| *last < file) else { return taken };
            taken.extend(self.remove(stream, first).map(|compacted| compacted.object));
        }
    }

    /// Finds out what is derived, after a restore.
    pub(crate) fn relink(&mut self) -> Result<(), DecodeError> {
        self.places = self.table.iter().map(|(_, compacted)| compacted.key()).collect();
        let mut before: Option<(StreamId, FileNumber)> = None;
        for compacted in self.places.iter().filter_map(|place| self.table.get(place)) {
            let PlacedObject { first, last, .. } = compacted.object;
            if last < first || before.is_some_and(|(stream, last)| stream == compacted.stream && first <= last) {
                return Err(DecodeError::Value { what: "the place of a compacted object", value: first.0.into() });
            }
            before = Some((compacted.stream, last));
        }
        Ok(())
    }
}

impl Shard {
    /// The compacted objects of all streams, by stream and in the order of what they hold.
    #[must_use]
    pub fn compacted_objects(&self) -> Vec<&CompactedObject> {
        self.compacted.table.sorted()
    }

    /// All objects: those in the place of ranges, and the compacted ones.
    #[must_use]
    pub fn all_objects(&self) -> Vec<&PlacedObject> {
        let compacted = self.compacted_objects().into_iter().map(|compacted| &compacted.object);
        self.objects().into_iter().chain(compacted).collect()
    }
}
