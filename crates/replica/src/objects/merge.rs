//! Which objects are rewritten: small ones together with their neighbours, and those of which less than a half lives.
//!
//! What is put together is at least twice as large as any of it, and what is rewritten alone is at most half as large: so a
//! batch is written again a few times at most, however long it lives.

use std::io;

use record::FileNumber;
use shard::PlacedObject;
use storage::index_file::{Part, Source};

use super::build::Run;
use super::choice::PassedOver;
use crate::core::Core;

/// Fewer objects are not worth it, unless they are small no more then.
const MERGED_MIN: usize = 4;
/// More would be open at a time.
const MERGED_MAX: usize = 64;

/// What of an object lives, as far as its directory tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) live: u64,
    pub(super) all: u64,
}

/// The first objects that are small, neighbours, and together at least twice as large as any of them: how many, from which on.
fn small_neighbours(objects: &[(u64, bool)], bytes_min: u64, bytes_max: u64) -> Option<(usize, usize)> {
    (0..objects.len()).find_map(|from| {
        let (mut total, mut largest) = (0_u64, 0_u64);
        let mut found = None;
        for (count, (bytes, follows)) in (1..=MERGED_MAX).zip(&objects[from..]) {
            total = total.saturating_add(*bytes);
            largest = largest.max(*bytes);
            if *bytes >= bytes_min || (count > 1 && !follows) || total > bytes_max {
                break;
            }
            if (count >= MERGED_MIN || total >= bytes_min) && total / 2 >= largest {
                found = Some((from, count));
            }
        }
        found
    })
}

impl Core {
    /// Small objects that can become a larger one.
    pub(crate) fn choose_small(&self, passed_over: &PassedOver) -> Option<Run> {
        let (objects, ranges) = {
            let state = self.state.read();
            let objects: Vec<PlacedObject> = state.shard.objects().into_iter().cloned().collect();
            let ranges: Vec<FileNumber> = state.shard.sealed_ranges().iter().map(|range| range.file).collect();
            (objects, ranges)
        };
        // What is not here cannot be read, and what has a range of the log before it is no neighbour of what is before that.
        let follows = |place: usize| {
            let before = place.checked_sub(1).map_or(FileNumber(0), |before| objects[before].last);
            let next = ranges.partition_point(|file| *file < before);
            ranges.get(next).is_none_or(|file| *file > objects[place].first)
        };
        let of_one = |(place, object): (usize, &PlacedObject)| {
            let is_usable = self.here.is_read(object) && !passed_over.has_any(object.first, object.last);
            (if is_usable { object.bytes } else { u64::MAX }, follows(place))
        };
        let sizes: Vec<(u64, bool)> = objects.iter().enumerate().map(of_one).collect();
        let (from, count) = small_neighbours(&sizes, self.config.object_bytes_min, self.object_bytes_max())?;
        let merged = &objects[from..from + count];
        let (first, last) = (merged[0].first, merged[count - 1].last);
        let sources = merged.iter().map(source).collect();
        let replaces = merged.iter().map(|object| object.key).collect();
        Some(Run { first, last, sources, replaces, parts: Vec::new() })
    }

    /// The first object that is read here in the place of files behind `behind`.
    pub(crate) fn next_read(&self, behind: FileNumber) -> Option<PlacedObject> {
        let state = self.state.read();
        let is_next = |object: &&PlacedObject| object.first > behind && self.here.is_read(object);
        state.shard.objects().into_iter().find(is_next).cloned()
    }

    /// What is to be done with an object if less than a half of it lives.
    pub(crate) async fn look_at_life(&self, object: &PlacedObject) -> io::Result<Option<Run>> {
        let Life { live, all } = self.life_of(source(object)).await?;
        let PlacedObject { first, last, key, .. } = *object;
        let run = || Run { first, last, sources: vec![source(object)], replaces: vec![key], parts: Vec::new() };
        Ok((live < all / 2 && live <= self.room()).then(run))
    }

    pub(super) async fn life_of(&self, source: Source) -> io::Result<Life> {
        let _reader = self.here.enter();
        let (mut life, mut page) = (Life::default(), 0);
        while let Some(parts) = self.index.streams_in(source, page).await? {
            let state = self.state.read();
            for part in &parts {
                let bytes = part.bytes().unwrap_or(0);
                life.all += bytes;
                life.live += state.shard.stream(part.stream()).map_or(0, |view| {
                    let is_own = view.files().has_any(*part.files().start(), *part.files().end());
                    if is_own { live_bytes(part, bytes, view.first_offset().0) } else { 0 }
                });
            }
            drop(state);
            page += 1;
        }
        Ok(life)
    }
}

/// About how many bytes of a part lie behind an offset.
fn live_bytes(part: &Part, bytes: u64, first_offset: i64) -> u64 {
    let (from, to) = (part.first_offset().0, part.next_offset().0);
    let (span, left) = (to.abs_diff(from).max(1), to.saturating_sub(first_offset.max(from)).max(0).unsigned_abs());
    u64::try_from(u128::from(bytes) * u128::from(left.min(span)) / u128::from(span)).unwrap_or(bytes)
}

pub(super) fn source(object: &PlacedObject) -> Source {
    let PlacedObject { first, last, key, .. } = *object;
    Source::Object { first, last, key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[u64], expected: Option<(usize, usize)>) {
        let objects: Vec<(u64, bool)> = sizes.iter().map(|bytes| (*bytes, true)).collect();
        assert_eq!(small_neighbours(&objects, 100, 1_000), expected, "{sizes:?}");
    }

    #[test]
    fn neighbours_that_are_small_go_together() {
        check(&[], None);
        check(&[1, 1, 1], None);
        check(&[1, 1, 1, 1], Some((0, 4)));
        check(&[200, 1, 1, 1, 1, 300], Some((1, 4)));
        // Together they must be twice as large as the largest.
        check(&[90, 1, 1, 1, 1], Some((1, 4)));
        check(&[90, 1, 1, 1], None);
        check(&[90, 30, 30, 30], Some((0, 4)));
        check(&[90; 20], Some((0, 11)));
        check(&[100; 20], None);
        check(&[60, 60], Some((0, 2)));
        check(&[40, 40], None);
    }

    #[test]
    fn what_does_not_follow_is_no_neighbour() {
        let mut objects = [(1, true); 6];
        objects[3].1 = false;
        assert_eq!(small_neighbours(&objects, 100, 1_000), None);
        objects[3].1 = true;
        objects[2].0 = u64::MAX;
        assert_eq!(small_neighbours(&objects, 100, 1_000), None);
    }

    #[test]
    fn what_is_put_together_again_and_again_is_written_a_few_times() {
        // Objects of one byte come one after the other; how often is each written?
        let mut objects: Vec<(u64, u32)> = Vec::new();
        for _ in 0..4_000 {
            objects.push((1, 0));
            let sizes = |objects: &[(u64, u32)]| objects.iter().map(|(bytes, _)| (*bytes, true)).collect::<Vec<_>>();
            while let Some((from, count)) = small_neighbours(&sizes(&objects), 512, 1_024) {
                let merged: Vec<_> = objects.splice(from..from + count, []).collect();
                let bytes = merged.iter().map(|(bytes, _)| bytes).sum();
                let writes = merged.iter().map(|(_, writes)| writes + 1).max().expect("some");
                objects.insert(from, (bytes, writes));
            }
        }
        let most = objects.iter().map(|(_, writes)| *writes).max().expect("some");
        assert!(most <= 9 && objects.len() < 40, "{most} times, {} objects", objects.len());
    }
}
