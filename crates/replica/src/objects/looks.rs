//! What is asked of the inventory; nothing here changes it.

use record::{FileNumber, ObjectKey};
use shard::PlacedObject;
use storage::index_file::Source;

use super::here::{Here, Inner, ObjectCounts};

impl Here {
    /// Whether an object of the state is read here.
    pub(crate) fn is_read(&self, object: &PlacedObject) -> bool {
        self.inner.lock().placed.get(&object.first).is_some_and(|placed| placed.key == object.key)
    }

    /// The objects that are read, in order.
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = self.inner.lock().placed.values().map(|placed| placed.key).collect();
        keys.sort_unstable();
        keys
    }

    /// The first object that is missing in the place of files behind `behind`.
    pub(crate) fn next_missing(&self, behind: FileNumber) -> Option<PlacedObject> {
        let from = FileNumber(behind.0.saturating_add(1));
        self.inner.lock().missing.range(from..).next().map(|(_, missing)| missing.object.clone())
    }

    /// What is read in the place of an object that is missing, in order.
    pub(crate) fn sources(&self, object: &PlacedObject) -> Vec<Source> {
        self.sources_of(&self.inner.lock(), object)
    }

    fn sources_of(&self, inner: &Inner, object: &PlacedObject) -> Vec<Source> {
        let placed = inner.placed.range(object.files());
        let older = placed.map(|(first, placed)| Source::Object { first: *first, last: placed.last, key: placed.key });
        let mut sources: Vec<Source> = older.collect();
        let is_covered = |file: &FileNumber| sources.iter().any(|source| source.files().contains(file));
        let mut files = self.index.files_within(object.first, object.last);
        files.retain(|file| !is_covered(file));
        sources.extend(files.into_iter().map(Source::File));
        sources.sort_unstable_by_key(|source| *source.files().start());
        sources
    }

    /// Whether an object of the state is missing, and what is read in its place are other objects, which no index file stands for.
    pub(crate) fn has_older(&self, key: ObjectKey) -> bool {
        let inner = self.inner.lock();
        let missing = inner.missing.values().find(|missing| missing.object.key == key);
        missing.is_some_and(|missing| inner.placed.range(missing.object.files()).next().is_some())
    }

    pub(crate) fn is_missing(&self, key: ObjectKey) -> bool {
        self.inner.lock().missing.values().any(|missing| missing.object.key == key)
    }

    /// The objects that are missing and for which nothing stands here.
    pub(crate) fn lost(&self) -> Vec<PlacedObject> {
        let inner = self.inner.lock();
        let missing = inner.missing.values().map(|missing| &missing.object);
        missing.filter(|object| self.sources_of(&inner, object).is_empty()).cloned().collect()
    }

    pub(crate) fn counts(&self) -> ObjectCounts {
        let inner = self.inner.lock();
        ObjectCounts { here: inner.placed.len(), missing: inner.missing.len(), leaving: inner.leaving.len() }
    }
}
