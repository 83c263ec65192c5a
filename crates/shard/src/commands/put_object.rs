//! Puts an object in the place of neighbouring sealed ranges, and of objects that had the place of some. What a stream has in
//! them is found in the object from then on, under the same numbers, so no stream changes.
//!
//! What the object holds was decided by whoever built it, from ranges that never change. What was deleted since is in it
//! and is not read.

use record::{FileNumber, ObjectKey, StreamId};

use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::{Effects, ObjectChange};
use crate::objects::PlacedObject;
use crate::outcome::{Outcome, PutObjectError};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutObject {
    pub key: ObjectKey,
    /// The sealed ranges of which the object holds all that lives: from this one
    pub first: FileNumber,
    /// to this one. No batch that is in none of them has a part in them.
    pub last: FileNumber,
    pub bytes: u64,
    pub index_digest: u64,
    /// The objects among what it was built from: with another one in the place of some of these it holds what is no more.
    pub replaces: Vec<ObjectKey>,
    /// Streams with batches that had earlier parts in the ranges: in the object they are in one piece.
    pub parts: Vec<StreamId>,
}

wire_struct!(PutObject {
    key: ObjectKey,
    first: FileNumber,
    last: FileNumber,
    bytes: u64,
    index_digest: u64,
    replaces: Vec<ObjectKey>,
    parts: Vec<StreamId>,
});

impl PutObject {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        self.put(shard, effects).map(Outcome::PutObject)
    }

    fn put(self, shard: &mut Shard, effects: &mut Effects) -> Result<Result<(), PutObjectError>, Broken> {
        let Self { key, first, last, bytes, index_digest, replaces, parts } = self;
        if first > last || last >= shard.scalars.next_file {
            return Ok(Err(PutObjectError::UnknownRanges));
        }
        let objects = shard.objects.within(first, last);
        if objects.iter().any(|object| object.first < first || object.last > last || !replaces.contains(&object.key)) {
            return Ok(Err(PutObjectError::Replaced));
        }
        let in_place = shard.ranges.iter().map(|(_, range)| range).filter(|range| (first..=last).contains(&range.file));
        let ranges: Vec<_> = in_place.cloned().collect();
        if ranges.iter().any(|range| range.uploads > 0) {
            return Ok(Err(PutObjectError::PartsWait));
        }
        let of_ranges = ranges.iter().map(|range| (range.from, range.through, u64::from(range.streams)));
        let of_objects = objects.iter().map(|object| (object.from, object.through, object.streams));
        let together = of_ranges.chain(of_objects).reduce(|one, other| {
            // As many as there are numbers in all streams at most, which fit memory.
            (one.0.min(other.0), one.1.max(other.1), one.2.saturating_add(other.2))
        });
        let Some((from, through, mut streams)) = together else { return Ok(Err(PutObjectError::NothingLives)) };
        for stream in parts {
            let Some(slot) = shard.streams.slot(&stream) else { continue };
            let Some(stream) = shard.streams.change(slot) else { continue };
            let gone = stream.forget_parts(first, last);
            ensure!(streams >= gone, "object {key} loses {gone} of {streams} names by its parts");
            streams -= gone;
        }
        for range in &ranges {
            shard.ranges.remove(&range.file);
        }
        for object in &objects {
            shard.objects.remove(object.first);
        }
        if streams == 0 {
            // Only parts were left, of batches that are gone.
            effects.dead_files.extend(ranges.iter().map(|range| range.file));
            effects.objects.extend(objects.into_iter().map(ObjectChange::Gone));
            return Ok(Err(PutObjectError::NothingLives));
        }
        let object = PlacedObject { stream: None, first, last, key, from, through, streams, bytes, index_digest };
        effects.objects.push(ObjectChange::Put(object.clone()));
        shard.objects.insert(object);
        Ok(Ok(()))
    }
}
