//! What lies on this node of the objects that the shard's state names.
//!
//! State says which objects there are; whether one is here is this node's own matter. An object of the state is
//! - missing, and is made or brought: what it replaced stays, and is read;
//! - or it has its place: it is read. What it replaced stays until all are done who may read there.
//!
//! The index files, the log and the objects that are let go of then stay until a durable checkpoint refers to them no more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;

use base::planted::{Planted, is_planted};
use parking_lot::Mutex;
use record::{FileNumber, LogIndex, ObjectKey, Term};
use shard::{ObjectChange, PlacedObject, Shard};
use storage::index_file::IndexStore;

use super::readers::{Reader, Readers, Turn};

/// The inventory. Apply changes it under the state's lock, so that whoever holds that sees both agree.
#[derive(Debug)]
pub(crate) struct Here {
    pub(super) index: IndexStore,
    readers: Readers,
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Objects of the state that are not here, by the first file in whose place they are.
    pub(super) missing: BTreeMap<FileNumber, Missing>,
    /// Objects that are read, by the first file in whose place they are: those of the state, and older ones in the place of one
    /// that is missing.
    pub(super) placed: BTreeMap<FileNumber, Placed>,
    /// Objects that were found here, and that no entry has named yet.
    unnamed: BTreeSet<ObjectKey>,
    /// Objects that are being made here, or were and may yet become one of the state: with a term, if an entry of it or of one
    /// before makes them that.
    claimed: BTreeMap<ObjectKey, Option<Term>>,
    /// Objects that nothing needs but what was before.
    pub(super) leaving: Vec<Leaving>,
    /// What an object is being built of.
    held: Option<Held>,
}

/// It stays, whatever dies of it.
#[derive(Debug)]
struct Held {
    files: RangeInclusive<FileNumber>,
    log: Option<RangeInclusive<LogIndex>>,
}

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) key: ObjectKey,
    pub(super) last: FileNumber,
    from: LogIndex,
    through: LogIndex,
    /// The entry that made it one of the state's.
    put_at: LogIndex,
    /// Who may still read what it replaced, and the objects among that.
    settling: Option<(Turn, Vec<ObjectKey>)>,
}

/// An object that all read who read what is in it: nothing needs what it replaced, but a state of before `put_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) key: ObjectKey,
    pub(crate) files: RangeInclusive<FileNumber>,
    pub(crate) log: RangeInclusive<LogIndex>,
    pub(crate) put_at: LogIndex,
    /// Objects that it replaced here.
    pub(crate) replaced: Vec<ObjectKey>,
}

/// An object of the state that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) object: PlacedObject,
    put_at: LogIndex,
}

#[derive(Debug)]
pub(super) struct Leaving {
    key: ObjectKey,
    turn: Turn,
    /// It is being removed now.
    is_going: bool,
}

/// The objects of a shard on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectCounts {
    /// They are read here.
    pub here: usize,
    /// They are still to be made, or brought.
    pub missing: usize,
    /// Nothing needs them, and they are still to be removed.
    pub leaving: usize,
}

/// What is needed because of objects that are not here, or not for all who read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) files: Vec<RangeInclusive<FileNumber>>,
    pub(crate) log: Vec<RangeInclusive<LogIndex>>,
}

impl Needed {
    pub(crate) fn has_file(&self, file: FileNumber) -> bool {
        self.files.iter().any(|files| files.contains(&file))
    }
}

impl Here {
    /// Compares what lies here with a state that nobody reads yet.
    pub(crate) async fn open(index: IndexStore, shard: &Shard) -> Self {
        let mut here = Self { index, readers: Readers::default(), inner: Mutex::default() };
        let objects = here.index.objects().clone();
        let mut inner = Inner::default();
        for object in shard.objects() {
            if here.has(object) {
                here.place(&mut inner, object, LogIndex(0));
            } else {
                inner.missing.insert(object.first, Missing { object: object.clone(), put_at: LogIndex(0) });
            }
        }
        let of_state: Vec<ObjectKey> = shard.objects().iter().map(|object| object.key).collect();
        let mut others = Vec::new();
        for key in objects.keys().into_iter().filter(|key| !of_state.contains(key)) {
            match objects.origin(key).await {
                Ok((id, log)) => others.push((id, log)),
                // An entry that is still to be applied may name it, and what it has is brought then.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                    inner.unnamed.insert(key);
                }
                // It may be whole, and needed: it is neither read nor removed before the next start.
                Err(error) => tracing::error!(shard = shard.id().0, object = %key, %error, "an object cannot be read"),
            }
        }
        // What replaced others before it was replaced itself goes before these.
        others.sort_unstable_by_key(|(id, _)| (std::cmp::Reverse(id.last.0 - id.first.0), id.key));
        for (id, log) in others {
            let is_in_place_of = |missing: &Missing| {
                let PlacedObject { first, last, .. } = missing.object;
                first <= id.first && id.last <= last
            };
            let overlaps = |(first, placed): (&FileNumber, &Placed)| *first <= id.last && id.first <= placed.last;
            if inner.missing.values().any(is_in_place_of) && !inner.placed.iter().any(overlaps) {
                here.index.place(id.first, id.last, id.key);
                let (from, through, put_at) = (*log.start(), *log.end(), LogIndex(0));
                let placed = Placed { key: id.key, last: id.last, from, through, put_at, settling: None };
                inner.placed.insert(id.first, placed);
            } else {
                // An entry that is still to be applied may name it.
                inner.unnamed.insert(id.key);
            }
        }
        here.inner = Mutex::new(inner);
        here
    }

    /// Whether an object of the state lies here, by its size; what is in it is compared with its checksums when it is read.
    fn has(&self, object: &PlacedObject) -> bool {
        self.index.objects().size(object.key) == Some(object.bytes)
    }

    /// Before a place is looked up that is read then.
    pub(crate) fn enter(&self) -> Reader {
        self.readers.enter()
    }

    /// Follows what the entry at `index` changed, while it is being applied. Returns index files of which nothing is wanted.
    pub(crate) fn follow(&self, index: LogIndex, changes: &[ObjectChange]) -> Vec<FileNumber> {
        let mut dead = Vec::new();
        if changes.is_empty() {
            return dead;
        }
        let mut inner = self.inner.lock();
        for change in changes {
            match change {
                ObjectChange::Put(object) => self.put(&mut inner, object, index),
                ObjectChange::Gone(object) => {
                    dead.extend(self.index.files_within(object.first, object.last));
                    inner.missing.remove(&object.first);
                    for first in inner.firsts_within(object.first, object.last) {
                        self.index.take_out(first);
                        let placed = inner.placed.remove(&first);
                        inner.leave(placed.map(|placed| placed.key), self.readers.end_turn());
                    }
                }
            }
        }
        dead
    }

    fn put(&self, inner: &mut Inner, object: &PlacedObject, index: LogIndex) {
        inner.claimed.remove(&object.key);
        inner.unnamed.remove(&object.key);
        // Those that it replaces, here or not.
        inner.missing.retain(|first, _| !object.files().contains(first));
        let is_going = inner.leaving.iter().any(|leaving| leaving.key == object.key && leaving.is_going);
        if self.has(object) && !is_going {
            self.place(inner, object, index);
        } else {
            inner.missing.insert(object.first, Missing { object: object.clone(), put_at: index });
        }
    }

    /// The object, which is here, is read from now on.
    fn place(&self, inner: &mut Inner, object: &PlacedObject, put_at: LogIndex) {
        let PlacedObject { first, last, key, from, through, .. } = *object;
        self.index.place(first, last, key);
        inner.leaving.retain(|leaving| leaving.key != key);
        let turn = self.readers.end_turn();
        let older = inner.firsts_within(first, last);
        let replaced: Vec<ObjectKey> =
            older.iter().filter_map(|older| inner.placed.remove(older)).map(|placed| placed.key).collect();
        replaced.iter().for_each(|key| inner.leave(Some(*key), turn));
        inner.placed.insert(first, Placed { key, last, from, through, put_at, settling: Some((turn, replaced)) });
    }

    /// An object that was missing is here.
    pub(crate) fn made(&self, object: &PlacedObject) {
        let mut inner = self.inner.lock();
        inner.claimed.remove(&object.key);
        // Otherwise it died, or was replaced, while it was made.
        match inner.missing.remove(&object.first) {
            Some(missing) if missing.object.key == object.key => self.place(&mut inner, object, missing.put_at),
            other => {
                inner.missing.extend(other.map(|other| (object.first, other)));
                inner.leave(Some(object.key), self.readers.end_turn());
            }
        }
    }

    /// An object with this key is being made here: it is not cleared away.
    pub(crate) fn claim(&self, key: ObjectKey) {
        self.inner.lock().claimed.insert(key, None);
    }

    /// An object that was made here did not become one of the state; in doubt it may until an entry of a term behind `doubt` is
    /// applied.
    pub(crate) fn give_up(&self, key: ObjectKey, doubt: Option<Term>) {
        let mut inner = self.inner.lock();
        match (doubt, inner.claimed.get_mut(&key)) {
            (_, None) => {}
            (Some(term), Some(claim)) => *claim = Some(term),
            (None, Some(_)) => {
                inner.claimed.remove(&key);
                let turn = self.readers.end_turn();
                inner.leave(Some(key), turn);
            }
        }
    }

    /// All that was found here and that no entry has named by now goes: everything that was in the log is applied.
    pub(crate) fn forget_unnamed(&self) {
        let mut inner = self.inner.lock();
        for key in std::mem::take(&mut inner.unnamed) {
            tracing::info!(%key, "an object that is none of the shard's is removed");
            inner.leave(Some(key), self.readers.end_turn());
        }
    }

    /// What an object is built of stays until [`Self::let_go`]: these files and the objects in their place, and this part of the log.
    pub(crate) fn hold(&self, files: RangeInclusive<FileNumber>, log: Option<RangeInclusive<LogIndex>>) {
        self.inner.lock().held = Some(Held { files, log });
    }

    pub(crate) fn let_go(&self) {
        self.inner.lock().held = None;
    }

    /// Whether an index file is being read for an object.
    pub(crate) fn holds_file(&self, file: FileNumber) -> bool {
        self.inner.lock().held.as_ref().is_some_and(|held| held.files.contains(&file))
    }

    /// What stays because of objects that are missing, or because somebody may still read what they replaced.
    pub(crate) fn needed(&self) -> Needed {
        let inner = self.inner.lock();
        let mut needed = Needed::default();
        for (first, placed) in &inner.placed {
            if placed.settling.as_ref().is_some_and(|(turn, _)| !self.readers.are_done(*turn)) {
                needed.files.push(*first..=placed.last);
                needed.log.push(placed.from..=placed.through);
            }
        }
        let missing = if is_planted(Planted::RangeFreedEarly) { None } else { Some(inner.missing.values()) };
        for Missing { object, .. } in missing.into_iter().flatten() {
            // Older objects are read in the place of parts of it.
            let (mut file, mut index) = (object.first, object.from);
            for (first, placed) in inner.placed.range(object.files()) {
                if file < *first {
                    needed.files.push(file..=FileNumber(first.0 - 1));
                    needed.log.push(index..=LogIndex(placed.from.0.saturating_sub(1)));
                }
                (file, index) = (FileNumber(placed.last.0.saturating_add(1)), placed.through.next());
            }
            if file <= object.last {
                needed.files.push(file..=object.last);
                needed.log.push(index..=object.through);
            }
        }
        needed.log.extend(inner.held.as_ref().and_then(|held| held.log.clone()));
        needed.log.retain(|range| !range.is_empty());
        needed
    }

    /// The objects that all read by now, of those that were not told before.
    pub(crate) fn take_settled(&self) -> Vec<Settled> {
        let mut inner = self.inner.lock();
        let mut settled = Vec::new();
        for (first, placed) in &mut inner.placed {
            if let Some((_, replaced)) = placed.settling.take_if(|(turn, _)| self.readers.are_done(*turn)) {
                let Placed { key, last, from, through, put_at, .. } = *placed;
                settled.push(Settled { key, files: *first..=last, log: from..=through, put_at, replaced });
            }
        }
        settled
    }

    /// Whether the last look found something that changes by itself, as readers come to their end.
    pub(crate) fn is_settling(&self) -> bool {
        let inner = self.inner.lock();
        !inner.leaving.is_empty() || inner.placed.values().any(|placed| placed.settling.is_some())
    }

    /// An object that can be removed now unless it `stays`; [`Self::removed`] is told what came of it.
    pub(crate) fn next_to_remove(&self, applied: Term, stays: impl Fn(ObjectKey) -> bool) -> Option<ObjectKey> {
        let mut inner = self.inner.lock();
        let decided: Vec<ObjectKey> = inner
            .claimed
            .iter()
            .filter(|(_, doubt)| doubt.is_some_and(|term| term < applied))
            .map(|(key, _)| *key)
            .collect();
        for key in decided {
            inner.claimed.remove(&key);
            let turn = self.readers.end_turn();
            inner.leave(Some(key), turn);
        }
        // What an object is built of may be among them.
        if inner.held.is_some() {
            return None;
        }
        let next =
            inner.leaving.iter_mut().find(|leaving| self.readers.are_done(leaving.turn) && !stays(leaving.key))?;
        next.is_going = true;
        Some(next.key)
    }

    /// An object was removed, or could not be.
    pub(crate) fn removed(&self, key: ObjectKey, is_gone: bool) {
        let mut inner = self.inner.lock();
        if is_gone {
            inner.leaving.retain(|leaving| leaving.key != key);
        } else if let Some(leaving) = inner.leaving.iter_mut().find(|leaving| leaving.key == key) {
            leaving.is_going = false;
        }
    }
}

impl Inner {
    fn firsts_within(&self, first: FileNumber, last: FileNumber) -> Vec<FileNumber> {
        self.placed.range(first..=last).map(|(first, _)| *first).collect()
    }

    fn leave(&mut self, key: Option<ObjectKey>, turn: Turn) {
        self.leaving.extend(key.map(|key| Leaving { key, turn, is_going: false }));
    }
}
