//! The place of an object that is to be made: its key, the part of the log that it stands for, and what it is made of.

use std::ops::RangeInclusive;

use record::{FileNumber, LogIndex, ObjectKey};
use shard::PlacedObject;
use storage::index_file::Source;

use super::choice::STREAMS_PER_LOOK;
use super::work::{WorkKind, Working};
use crate::core::Core;

impl Core {
    /// Whether `sources` have all that streams name of what is in the place of an object.
    pub(super) fn covers(&self, object: &PlacedObject, sources: &[Source]) -> bool {
        let is_covered = |file: FileNumber| sources.iter().any(|source| source.files().contains(&file));
        let mut next = Some(0);
        while let Some(from) = next {
            let state = self.state.read();
            let (named, behind) = state.shard.names_within(object.first, object.last, from, STREAMS_PER_LOOK);
            if named.into_iter().any(|file| !is_covered(file)) {
                return false;
            }
            next = behind;
        }
        true
    }

    /// The part of the log for which what is in the place of these ranges stands.
    pub(super) fn log_of(&self, first: FileNumber, last: FileNumber) -> Option<RangeInclusive<LogIndex>> {
        let state = self.state.read();
        let ranges = state.shard.sealed_ranges().into_iter().filter(|range| (first..=last).contains(&range.file));
        let objects = state.shard.objects().into_iter().filter(|object| object.overlaps(first, last));
        let log =
            ranges.map(|range| (range.from, range.through)).chain(objects.map(|object| (object.from, object.through)));
        let log = log.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        log.map(|(from, through)| from..=through)
    }

    pub(super) fn new_key(&self) -> ObjectKey {
        loop {
            let key = ObjectKey(self.env.random.next_u64());
            if key.0 > 0 && !self.index.objects().contains(key) {
                return key;
            }
        }
    }

    /// About how many bytes of batches sources have.
    pub(super) fn bytes_of_sources(&self, sources: &[Source]) -> u64 {
        let ranges = self.state.read().shard.sealed_ranges();
        let bytes = |source: &Source| match source {
            Source::File(file) => ranges.iter().find(|range| range.file == *file).map_or(0, |range| range.bytes),
            Source::Object { key, .. } => self.index.objects().size(*key).unwrap_or(0),
        };
        sources.iter().map(bytes).sum()
    }

    /// About how many bytes a pass reads that looks for damage.
    pub(super) fn bytes_to_scrub(&self) -> u64 {
        let ranges = self.state.read().shard.sealed_ranges();
        let log: Vec<_> = ranges.into_iter().map(|range| range.from..=range.through).collect();
        self.index.objects().bytes() + self.index.bytes() + self.log.bytes_within(&log)
    }

    pub(super) fn begin_work(&self, kind: WorkKind, bytes_all: u64) -> Working {
        self.pace.begin(self.config.shard, kind, bytes_all)
    }
}
