//! What is asked of the inventory; nothing here changes it.

use std::ops::Bound;

use record::{FileNumber, ObjectKey};
use shard::{PlacedObject, Spot};
use storage::index_file::Source;

use super::here::{Here, ObjectCounts};
use super::inner::Inner;

impl Here {
    /// Whether an object of the state is read here.
    pub(crate) fn is_read(&self, object: &PlacedObject) -> bool {
        self.inner.lock().placed.get(&object.spot()).is_some_and(|placed| placed.key == object.key)
    }

    /// The objects that are read, in order.
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = self.inner.lock().placed.values().map(|placed| placed.key).collect();
        keys.sort_unstable();
        keys
    }

    /// The first object that is missing, in the order of their places, behind `behind`.
    pub(crate) fn next_missing(&self, behind: Option<Spot>) -> Option<PlacedObject> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.inner.lock().missing.range((from, Bound::Unbounded)).next().map(|(_, missing)| missing.object.clone())
    }

    /// Whether all of an object that is missing lies here, and it only waits for others.
    pub(crate) fn only_waits(&self, object: &PlacedObject) -> bool {
        self.has(object) && self.is_missing(object.key)
    }

    /// What is read in the place of an object that is missing, in order.
    pub(crate) fn sources(&self, object: &PlacedObject) -> Vec<Source> {
        self.sources_of(&self.inner.lock(), object)
    }

    pub(super) fn sources_of(&self, inner: &Inner, object: &PlacedObject) -> Vec<Source> {
        let standing = inner.standing_in(object).into_iter();
        let older = standing.map(|(first, placed)| Source::Object { first, last: placed.last, key: placed.key });
        let mut sources: Vec<Source> = older.collect();
        let is_covered = |file: &FileNumber| sources.iter().any(|source| source.files().contains(file));
        let mut files = self.index.files_within(object.first, object.last);
        files.retain(|file| !is_covered(file));
        sources.extend(files.into_iter().map(Source::File));
        sources.sort_unstable_by_key(|source| *source.files().start());
        sources
    }

    /// Whether something is here that an object can be made of.
    fn has_sources(&self, inner: &Inner, object: &PlacedObject) -> bool {
        !self.sources_of(inner, object).is_empty()
    }

    /// Whether an object of the state is missing, and what is read in its place are other objects, which no index file stands for.
    pub(crate) fn has_older(&self, key: ObjectKey) -> bool {
        let inner = self.inner.lock();
        let missing = inner.missing.values().find(|missing| missing.object.key == key);
        missing.is_some_and(|missing| !inner.standing_in(&missing.object).is_empty())
    }

    pub(crate) fn is_missing(&self, key: ObjectKey) -> bool {
        self.inner.lock().missing.values().any(|missing| missing.object.key == key)
    }

    /// The objects that are missing and for which nothing stands here.
    pub(crate) fn lost(&self) -> Vec<PlacedObject> {
        let inner = self.inner.lock();
        let missing = inner.missing.values().map(|missing| &missing.object);
        missing.filter(|object| !self.has_sources(&inner, object)).cloned().collect()
    }

    pub(crate) fn counts(&self) -> ObjectCounts {
        let inner = self.inner.lock();
        let damaged = inner.placed.values().filter(|placed| inner.damaged.contains(&placed.key)).count();
        ObjectCounts { here: inner.placed.len(), missing: inner.missing.len(), leaving: inner.leaving.len(), damaged }
    }

    /// The first object that is read, in the order of their places, behind `behind`.
    pub(crate) fn next_placed(&self, behind: Option<Spot>) -> Option<(Spot, ObjectKey)> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.inner.lock().placed.range((from, Bound::Unbounded)).next().map(|(spot, placed)| (*spot, placed.key))
    }

    /// Whether an object with this key is read here.
    pub(crate) fn reads(&self, key: ObjectKey) -> bool {
        self.inner.lock().placed.values().any(|placed| placed.key == key)
    }

    /// Notes whether something of an object cannot be read; whether that is news.
    pub(crate) fn note_damage(&self, key: ObjectKey, is_damaged: bool) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.damaged.retain(|other| *other == key || inner.placed.values().any(|placed| placed.key == *other));
        if is_damaged { inner.damaged.insert(key) } else { inner.damaged.remove(&key) }
    }
}
