//! What the inventory keeps of each object, and how objects stand in for one another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex, ObjectKey, StreamId, Term};
use shard::{PlacedObject, Spot};
use storage::object::ObjectId;

use super::readers::Turn;

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Objects of the state that are not here, or wait for others to be here.
    pub(super) missing: BTreeMap<Spot, Missing>,
    /// Objects that are read: those of the state, and older ones in the place of one that is missing.
    pub(super) placed: BTreeMap<Spot, Placed>,
    /// Objects that were found here, and that no entry has named yet.
    pub(super) unnamed: BTreeSet<ObjectKey>,
    /// Objects that are being made here, or were and may yet become one of the state: with a term, if an entry of it or of one
    /// before makes them that.
    pub(super) claimed: BTreeMap<ObjectKey, Option<Term>>,
    /// Objects that nothing needs but what was before.
    pub(super) leaving: Vec<Leaving>,
    /// What an object is being built of.
    pub(super) held: Option<Held>,
    /// Objects of which something cannot be read.
    pub(super) damaged: BTreeSet<ObjectKey>,
}

/// It stays, whatever dies of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) files: RangeInclusive<FileNumber>,
    pub(super) log: Option<RangeInclusive<LogIndex>>,
}

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) key: ObjectKey,
    pub(super) last: FileNumber,
    pub(super) from: LogIndex,
    pub(super) through: LogIndex,
    /// The entry that made it one of the state's.
    pub(super) put_at: LogIndex,
    /// Who may still read what it replaced, and the objects among that.
    pub(super) settling: Option<(Turn, Vec<ObjectKey>)>,
    /// The state names it no more. It is read because of a compacted object that is missing.
    pub(super) is_gone: bool,
}

/// An object of the state that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) object: PlacedObject,
    pub(super) put_at: LogIndex,
}

#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) key: ObjectKey,
    pub(super) turn: Turn,
    /// It is being removed now.
    pub(super) is_going: bool,
}

impl Inner {
    /// The objects that are read of those that an object has the place of.
    pub(super) fn spots_within(&self, object: &PlacedObject) -> Vec<Spot> {
        let within = (object.stream, object.first)..=(object.stream, object.last);
        self.placed.range(within).map(|(spot, _)| *spot).collect()
    }

    /// What is read in the place of parts of an object that is missing, in order: of a compacted one, of its stream and of all.
    pub(super) fn standing_in(&self, object: &PlacedObject) -> Vec<(FileNumber, &Placed)> {
        let of_layer = |stream: Option<StreamId>| {
            let layer = self.placed.range((stream, FileNumber(0))..=(stream, object.last));
            layer.map(|((_, first), placed)| (*first, placed)).filter(|(_, placed)| placed.last >= object.first)
        };
        let mut standing: Vec<(FileNumber, &Placed)> = of_layer(object.stream).collect();
        if object.stream.is_some() {
            standing.extend(of_layer(None));
            standing.sort_unstable_by_key(|(first, _)| *first);
        }
        standing
    }

    /// The missing ones that an object has the place of.
    pub(super) fn missing_within(&self, object: &PlacedObject) -> Vec<Spot> {
        let within = (object.stream, object.first)..=(object.stream, object.last);
        self.missing.range(within).map(|(spot, _)| *spot).collect()
    }

    /// Whether an object of all streams is not read yet, since a compacted one is missing that was one of the state before: the
    /// stream is not in it any more, and in what it replaces.
    pub(super) fn must_wait(&self, object: &PlacedObject, put_at: LogIndex) -> bool {
        let is_before = |missing: &Missing| {
            let compacted = &missing.object;
            compacted.stream.is_some() && missing.put_at <= put_at && compacted.overlaps(object.first, object.last)
        };
        object.stream.is_none() && self.missing.values().any(is_before)
    }

    /// The compacted objects that are missing and overlap one of all streams.
    pub(super) fn awaited_in(&self, object: &PlacedObject) -> Vec<StreamId> {
        let missing = self.missing.values().map(|missing| &missing.object);
        let overlapping = missing.filter(|missing| missing.overlaps(object.first, object.last));
        overlapping.filter_map(|missing| missing.stream).collect()
    }

    pub(super) fn is_leaving(&self, key: ObjectKey) -> bool {
        self.leaving.iter().any(|leaving| leaving.key == key && leaving.is_going)
    }

    /// Whether a compacted object is missing that may be made of what is read there.
    pub(super) fn is_awaited(&self, (_, first): Spot) -> bool {
        let Some(last) = self.placed.get(&(None, first)).map(|placed| placed.last) else { return false };
        let mut compacted = self.missing.values().filter(|missing| missing.object.stream.is_some());
        compacted.any(|missing| missing.object.overlaps(first, last))
    }

    /// Whether an object that the state does not name is read because of some that are missing.
    pub(super) fn may_stand_in(&self, id: &ObjectId) -> bool {
        let is_for = |missing: &Missing| {
            let PlacedObject { stream, first, last, .. } = missing.object;
            if stream == id.stream {
                first <= id.first && id.last <= last
            } else {
                stream.is_some() && id.stream.is_none() && missing.object.overlaps(id.first, id.last)
            }
        };
        let layer = self.placed.range((id.stream, FileNumber(0))..=(id.stream, id.last));
        let is_taken = layer.into_iter().any(|(_, placed)| placed.last >= id.first);
        !is_taken && self.missing.values().any(is_for)
    }

    pub(super) fn leave(&mut self, key: Option<ObjectKey>, turn: Turn) {
        self.leaving.extend(key.map(|key| Leaving { key, turn, is_going: false }));
    }
}
