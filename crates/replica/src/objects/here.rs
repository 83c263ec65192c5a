//! What lies on this node of the objects that the shard's state names.
//!
//! State says which objects there are; whether one is here is this node's own matter. An object of the state is
//! - missing, and is made or brought: what it replaced stays, and is read;
//! - or it has its place: it is read. What it replaced stays until all are done who may read there.
//!
//! The index files, the log and the objects that are let go of then stay until a durable checkpoint refers to them no more.

use std::ops::RangeInclusive;

use base::planted::{Planted, is_planted};
use parking_lot::Mutex;
use record::{FileNumber, LogIndex, ObjectKey, StreamId, Term};
use shard::{ObjectChange, PlacedObject, Shard, Spot};
use storage::index_file::IndexStore;

use super::inner::{Held, Inner, Missing, Placed};
use super::readers::{Reader, Readers};

/// The inventory. Apply changes it under the state's lock, so that whoever holds that sees both agree.
#[derive(Debug)]
pub(crate) struct Here {
    pub(super) index: IndexStore,
    pub(super) readers: Readers,
    pub(super) inner: Mutex<Inner>,
}

/// An object that all read who read what is in it: nothing needs what it replaced, but a state of before `put_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) key: ObjectKey,
    /// The only one that reads it, of a compacted object.
    pub(crate) stream: Option<StreamId>,
    pub(crate) files: RangeInclusive<FileNumber>,
    pub(crate) log: RangeInclusive<LogIndex>,
    pub(crate) put_at: LogIndex,
    /// Objects that it replaced here.
    pub(crate) replaced: Vec<ObjectKey>,
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
    /// They are read here, and something of them cannot be.
    pub damaged: usize,
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
    /// Whether an object of the state lies here, by its size; what is in it is compared with its checksums when it is read.
    pub(super) fn has(&self, object: &PlacedObject) -> bool {
        self.index.objects().size(object.key) == Some(object.bytes)
    }

    /// Before a place is looked up that is read then.
    pub(crate) fn enter(&self) -> Reader {
        self.readers.enter()
    }

    /// Follows what the entry at `index` changed, while it is being applied to `shard`. Returns index files of which nothing is wanted.
    pub(crate) fn follow(&self, index: LogIndex, changes: &[ObjectChange], shard: &Shard) -> Vec<FileNumber> {
        let mut dead = Vec::new();
        if changes.is_empty() {
            return dead;
        }
        let mut inner = self.inner.lock();
        for change in changes {
            match change {
                ObjectChange::Put(object) => {
                    self.put(&mut inner, object, index);
                    if is_planted(Planted::ObjectPutTwice) {
                        self.put(&mut inner, object, index);
                    }
                }
                ObjectChange::Gone(object) => {
                    dead.extend(self.index.files_within(object.first, object.last));
                    self.gone(&mut inner, object);
                }
            }
        }
        dead.retain(|file| !shard.is_live_file(*file));
        dead
    }

    fn put(&self, inner: &mut Inner, object: &PlacedObject, index: LogIndex) {
        inner.claimed.remove(&object.key);
        inner.unnamed.remove(&object.key);
        // Those that it replaces, here or not.
        for spot in inner.missing_within(object) {
            self.want_no_more(inner, spot);
        }
        let is_going = inner.leaving.iter().any(|leaving| leaving.key == object.key && leaving.is_going);
        if self.has(object) && !is_going && !inner.must_wait(object, index) {
            self.place(inner, object, index);
        } else {
            self.miss(inner, object, index);
        }
        self.place_waiting(inner);
    }

    pub(super) fn miss(&self, inner: &mut Inner, object: &PlacedObject, put_at: LogIndex) {
        if let Some(stream) = object.stream {
            self.index.await_compacted(stream, object.first, object.last);
        }
        inner.missing.insert(object.spot(), Missing { object: object.clone(), put_at });
    }

    pub(super) fn miss_no_more(&self, inner: &mut Inner, spot: Spot) -> Option<Missing> {
        if let (Some(stream), first) = spot {
            self.index.await_compacted_no_more(stream, first);
        }
        inner.missing.remove(&spot)
    }

    /// An object that is missing was replaced, or died; it may lie here, and only wait for others.
    fn want_no_more(&self, inner: &mut Inner, spot: Spot) {
        let missing = self.miss_no_more(inner, spot);
        if let Some(Missing { object, .. }) = missing.filter(|missing| self.has(&missing.object)) {
            inner.leave(Some(object.key), self.readers.end_turn());
        }
    }

    fn gone(&self, inner: &mut Inner, object: &PlacedObject) {
        self.want_no_more(inner, object.spot());
        for spot in inner.spots_within(object) {
            // What is in it of a stream may be what a compacted object is made of that is not here.
            if object.stream.is_none() && inner.is_awaited(spot) {
                inner.placed.entry(spot).and_modify(|placed| placed.is_gone = true);
                continue;
            }
            self.take_out(inner, spot);
        }
        self.place_waiting(inner);
        self.let_go_of_gone(inner);
    }

    /// What the state names no more, and no compacted object waits for, goes.
    fn let_go_of_gone(&self, inner: &mut Inner) {
        let gone: Vec<Spot> = inner.placed.iter().filter(|(_, placed)| placed.is_gone).map(|(spot, _)| *spot).collect();
        for spot in gone {
            if !inner.is_awaited(spot) {
                self.take_out(inner, spot);
            }
        }
    }

    fn take_out(&self, inner: &mut Inner, spot: Spot) {
        match spot {
            (None, first) => self.index.take_out(first),
            (Some(stream), first) => self.index.take_out_compacted(stream, first),
        }
        let placed = inner.placed.remove(&spot);
        inner.leave(placed.map(|placed| placed.key), self.readers.end_turn());
    }

    pub(super) fn read_in_place(&self, spot: Spot, last: FileNumber, key: ObjectKey) {
        match spot {
            (None, first) => self.index.place(first, last, key),
            (Some(stream), first) => self.index.place_compacted(stream, first, last, key),
        }
    }

    /// The object, which is here, is read from now on.
    pub(super) fn place(&self, inner: &mut Inner, object: &PlacedObject, put_at: LogIndex) {
        let PlacedObject { key, last, from, through, .. } = *object;
        self.read_in_place(object.spot(), last, key);
        inner.leaving.retain(|leaving| leaving.key != key);
        let turn = self.readers.end_turn();
        let older = inner.spots_within(object);
        let replaced: Vec<ObjectKey> =
            older.iter().filter_map(|older| inner.placed.remove(older)).map(|placed| placed.key).collect();
        replaced.iter().for_each(|key| inner.leave(Some(*key), turn));
        let settling = Some((turn, replaced));
        inner.placed.insert(object.spot(), Placed { key, last, from, through, put_at, settling, is_gone: false });
        self.let_go_of_gone(inner);
    }

    /// Those that waited for compacted objects to be here are read, where these are.
    fn place_waiting(&self, inner: &mut Inner) {
        let waiting: Vec<Missing> =
            inner.missing.values().filter(|missing| self.has(&missing.object)).cloned().collect();
        for Missing { object, put_at } in waiting {
            if !inner.must_wait(&object, put_at) && !inner.is_leaving(object.key) {
                self.miss_no_more(inner, object.spot());
                self.place(inner, &object, put_at);
            }
        }
    }

    /// An object that was missing is here.
    pub(crate) fn made(&self, object: &PlacedObject) {
        let mut inner = self.inner.lock();
        inner.claimed.remove(&object.key);
        let spot = object.spot();
        // Otherwise it died, or was replaced, while it was made.
        match inner.missing.get(&spot).filter(|missing| missing.object.key == object.key) {
            // It is read when what it lacks is here.
            Some(missing) if inner.must_wait(object, missing.put_at) => {}
            Some(missing) => {
                let put_at = missing.put_at;
                self.miss_no_more(&mut inner, spot);
                self.place(&mut inner, object, put_at);
                self.place_waiting(&mut inner);
            }
            // What was applied meanwhile may have found it here and whole.
            None if inner.placed.get(&spot).is_some_and(|placed| placed.key == object.key) => {}
            None => {
                let turn = self.readers.end_turn();
                inner.leave(Some(object.key), turn);
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
        for ((_, first), placed) in &inner.placed {
            if placed.settling.as_ref().is_some_and(|(turn, _)| !self.readers.are_done(*turn)) {
                needed.files.push(*first..=placed.last);
                needed.log.push(placed.from..=placed.through);
            }
        }
        let missing = if is_planted(Planted::RangeFreedEarly) { None } else { Some(inner.missing.values()) };
        for Missing { object, .. } in missing.into_iter().flatten() {
            // Older objects are read in the place of parts of it.
            let (mut file, mut index) = (object.first, object.from);
            for (first, placed) in inner.standing_in(object) {
                if file < first {
                    needed.files.push(file..=FileNumber(first.0 - 1));
                    needed.log.push(index..=LogIndex(placed.from.0.saturating_sub(1)));
                }
                file = file.max(FileNumber(placed.last.0.saturating_add(1)));
                index = index.max(placed.through.next());
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
        for ((stream, first), placed) in &mut inner.placed {
            if let Some((_, replaced)) = placed.settling.take_if(|(turn, _)| self.readers.are_done(*turn)) {
                let Placed { key, last, from, through, put_at, .. } = *placed;
                settled.push(Settled {
                    key,
                    stream: *stream,
                    files: *first..=last,
                    log: from..=through,
                    put_at,
                    replaced,
                });
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
