//! The room that objects may take, and what frees most of a full disk.
//!
//! Objects leave the reserve alone as long as data is taken. What is dead beside what lives is only freed by writing the
//! latter anew, so on a disk that refuses data they may take of the reserve what others must not: all but the quarter that
//! votes and the metadata keep. Then the order is another one: first what is dead for the most part, however new it is.

use std::io;

use base::time::{Duration, Instant, now};
use record::{FileNumber, ObjectKey};
use shard::{PlacedObject, RangeView};
use storage::index_file::Source;

use super::build::Run;
use super::choice::PassedOver;
use super::merge::{Life, source};
use crate::core::Core;

/// What is dead is looked for again after this time, or so many times what it took, whichever is longer.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_SHARE: u32 = 20;
/// Less than this part of something dead is not worth its writing.
const WORTH_SHARE: u64 = 8;
/// What is known at a time.
const KNOWN_MAX: usize = 4_096;

/// What is dead in part, as it was found.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    known: Vec<Dying>,
    look_again_at: Option<Instant>,
}

/// A range of the log, or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dying {
    first: FileNumber,
    object: Option<ObjectKey>,
    life: Life,
}

impl Dying {
    /// The log is shared: a segment comes back when all shards have left it, so all begin with the oldest of what is about as dead.
    fn order(&self) -> (u64, FileNumber) {
        let Life { live, all } = self.life;
        (live.min(all) * WORTH_SHARE / all.max(1), self.first)
    }

    const fn is_worth_it(&self) -> bool {
        let Life { live, all } = self.life;
        live < all && all - live >= all / WORTH_SHARE
    }
}

impl Freeing {
    /// The first of what is known that fits.
    fn next(&mut self, room: u64) -> Option<Dying> {
        let place = self.known.iter().position(|dying| dying.life.live <= room)?;
        Some(self.known.remove(place))
    }

    fn is_old(&self) -> bool {
        self.look_again_at.is_none_or(|at| now() >= at)
    }
}

impl Core {
    /// How many bytes new objects may take.
    pub(super) fn room(&self) -> u64 {
        // Nobody knows: the write will tell.
        let Ok(free) = self.log.free_bytes() else { return u64::MAX };
        let reserve = self.log.reserve_bytes();
        if !self.full_disk.refuses_data() {
            return free.saturating_sub(reserve);
        }
        let room = free.saturating_sub(reserve / 4);
        // Who has none elsewhere takes what others have until half of the reserve is left.
        if self.full_disk.is_full() || reserve == 0 { room } else { room.min(reserve / 4) }
    }

    /// An object becomes no larger.
    pub(super) fn object_bytes_max(&self) -> u64 {
        self.config.object_bytes_max.min(self.room())
    }

    /// While an object is written: what others need of the reserve is left.
    pub(super) fn check_room(&self) -> io::Result<()> {
        if self.log.free_bytes().is_ok_and(|free| free < self.log.reserve_bytes() / 4) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "objects are made when the disk has room again"));
        }
        Ok(())
    }

    /// What of a full disk is to be written anew next, because more of it is dead than of all else that fits. When there is room again
    /// the rest of what was found follows, or the disk would be full again soon.
    pub(super) async fn choose_dying(
        &self,
        freeing: &mut Freeing,
        passed_over: &mut PassedOver,
    ) -> io::Result<Option<Run>> {
        let is_full = self.full_disk.refuses_data();
        if is_full && freeing.is_old() {
            let began = now();
            freeing.known = self.look_for_dying(passed_over).await?;
            freeing.look_again_at = Some(now() + ((now() - began) * LOOK_AGAIN_SHARE).max(LOOK_AGAIN_MIN));
        }
        while let Some(dying) = freeing.next(self.room()) {
            if let Some(run) = self.run_of(&dying, passed_over).await? {
                return Ok(Some(run));
            }
        }
        if !is_full {
            *freeing = Freeing::default();
        }
        Ok(None)
    }

    async fn look_for_dying(&self, passed_over: &PassedOver) -> io::Result<Vec<Dying>> {
        let (ranges, objects): (Vec<RangeView>, Vec<PlacedObject>) = {
            let state = self.state.read();
            (state.shard.sealed_ranges(), state.shard.objects().into_iter().cloned().collect())
        };
        let mut found = Vec::new();
        for range in ranges.iter().filter(|range| !range.has_staged && !passed_over.has(range.file)) {
            match self.life_of_range(range).await {
                Ok(life) => found.push(Dying { first: range.file, object: None, life }),
                // It is not written yet, or it is damaged.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        for object in objects.iter().filter(|object| self.here.is_read(object)) {
            if passed_over.has_any(object.first, object.last) {
                continue;
            }
            let Life { live, all } = self.life_of(source(object)).await?;
            // Of what it takes the bodies are the most, and the rest goes with them.
            let life = Life { live, all: all.max(object.bytes) };
            found.push(Dying { first: object.first, object: Some(object.key), life });
        }
        found.retain(Dying::is_worth_it);
        found.sort_unstable_by_key(Dying::order);
        found.truncate(KNOWN_MAX);
        Ok(found)
    }

    /// What a range of the log still holds, and about how much it takes of it.
    async fn life_of_range(&self, range: &RangeView) -> io::Result<Life> {
        let _reader = self.here.enter();
        let source = Source::File(range.file);
        let mut life = Life { live: 0, all: self.log.bytes_within(&[range.from..=range.through]) };
        let mut page = 0;
        while let Some(parts) = self.index.streams_in(source, page).await? {
            for part in &parts {
                let first_offset = {
                    let state = self.state.read();
                    let view = state.shard.stream(part.stream());
                    let view = view.filter(|view| view.files().has_any(*part.files().start(), *part.files().end()));
                    view.map(|view| view.first_offset())
                };
                let Some(first_offset) = first_offset else { continue };
                let compacted_end = self.index.compacted_end(part.stream()).await?.unwrap_or_default();
                life.live += self.bytes_of(part, first_offset.max(compacted_end)).await?;
            }
            page += 1;
        }
        Ok(life)
    }

    /// What was found may have become something else.
    async fn run_of(&self, dying: &Dying, passed_over: &mut PassedOver) -> io::Result<Option<Run>> {
        let Some(key) = dying.object else {
            let ranges = self.state.read().shard.sealed_ranges();
            let Some(range) = ranges.iter().find(|range| range.file == dying.first).copied() else { return Ok(None) };
            let run = self.with_parts(&ranges, &mut vec![range]).await;
            if run.is_err() {
                passed_over.note(range.file, range.file);
            }
            return run;
        };
        let state = self.state.read();
        let object = state.shard.objects().into_iter().find(|object| object.key == key);
        let Some(object) = object.filter(|object| self.here.is_read(object)) else { return Ok(None) };
        let PlacedObject { first, last, .. } = *object;
        Ok(Some(Run { first, last, sources: vec![source(object)], replaces: vec![key], parts: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dying(first: u32, live: u64, all: u64) -> Dying {
        Dying { first: FileNumber(first), object: None, life: Life { live, all } }
    }

    #[test]
    fn what_is_dead_for_the_most_part_comes_first_and_the_oldest_of_it() {
        let mut known =
            vec![dying(1, 80, 100), dying(2, 10, 100), dying(3, 45, 100), dying(4, 0, 100), dying(5, 55, 100)];
        known.sort_unstable_by_key(Dying::order);
        let order: Vec<u32> = known.iter().map(|dying| dying.first.0).collect();
        assert_eq!(order, [2, 4, 3, 5, 1]);
        let mut freeing = Freeing { known, look_again_at: None };
        assert_eq!(freeing.next(5).map(|dying| dying.first.0), Some(4), "the first one that fits");
        assert_eq!(freeing.next(100).map(|dying| dying.first.0), Some(2));
        assert_eq!(freeing.next(44), None);
    }

    #[test]
    fn little_is_not_worth_its_writing() {
        assert!(dying(1, 0, 100).is_worth_it());
        assert!(dying(1, 87, 100).is_worth_it());
        assert!(!dying(1, 90, 100).is_worth_it());
        // What several streams share is counted for each.
        assert!(!dying(1, 300, 100).is_worth_it());
        assert!(!dying(1, 0, 0).is_worth_it());
    }
}
