//! Puts what key compaction left of a stream in the place of what the stream had in sealed ranges, in objects in their place, and in
//! earlier compacted objects. The stream names these ranges no more: they are freed as if the stream had been deleted.
//!
//! What the object holds was decided by whoever built it, from what never changes. Objects of a stream are put from the front of the
//! stream on, so that what comes before the last of them is in compacted objects only.

use record::{FileNumber, ObjectKey, StreamId, StreamOffset};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::compacted::CompactedObject;
use crate::effects::{Effects, ObjectChange};
use crate::objects::PlacedObject;
use crate::outcome::{Outcome, PutCompactedError};
use crate::shard::{Position, Shard};
use crate::stream::Standing;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutCompacted {
    pub key: ObjectKey,
    pub stream: StreamId,
    /// The object holds what is left of all that the stream has in the sealed ranges from this one
    pub first: FileNumber,
    /// to this one.
    pub last: FileNumber,
    pub bytes: u64,
    pub index_digest: u64,
    /// The compacted objects among what it was built from: with another one in the place of some of these it holds what is no
    /// more.
    pub replaces: Vec<ObjectKey>,
    /// See [`CompactedObject::cleaned_to`].
    pub cleaned_to: StreamOffset,
    /// In no range of a smaller number is an earlier part of a batch of the stream that is behind the object.
    pub part_files: FileNumber,
}

wire_struct!(PutCompacted {
    key: ObjectKey,
    stream: StreamId,
    first: FileNumber,
    last: FileNumber,
    bytes: u64,
    index_digest: u64,
    replaces: Vec<ObjectKey>,
    cleaned_to: StreamOffset,
    part_files: FileNumber,
});

impl PutCompacted {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        self.put(shard, effects).map(Outcome::PutCompacted)
    }

    fn put(self, shard: &mut Shard, effects: &mut Effects) -> Result<Result<(), PutCompactedError>, Broken> {
        let Self { key, stream: id, first, last, bytes, index_digest, replaces, cleaned_to, part_files } = self;
        if first > last || last >= shard.scalars.next_file {
            return Ok(Err(PutCompactedError::UnknownRanges));
        }
        let Some(slot) = shard.streams.slot(&id) else { return Ok(Err(PutCompactedError::UnknownStream)) };
        let Some(stream) = shard.streams.at(slot).filter(|stream| stream.standing != Standing::Receiving) else {
            return Ok(Err(PutCompactedError::UnknownStream));
        };
        let overlaps = |object: &&PlacedObject| object.first <= last && object.last >= first;
        let older = shard.compacted.of(id).map(|compacted| &compacted.object).filter(overlaps);
        let older: Vec<PlacedObject> = older.cloned().collect();
        let is_inside = |object: &PlacedObject| object.first >= first && object.last <= last;
        if !older.iter().all(|object| is_inside(object) && replaces.contains(&object.key)) {
            return Ok(Err(PutCompactedError::Replaced));
        }
        if stream.files.first().is_some_and(|file| file < first) {
            return Ok(Err(PutCompactedError::OlderRangesLeft));
        }
        let names: Vec<FileNumber> = stream.files.iter_within(first, last).collect();
        let of_older = older.iter().map(|object| (object.from, object.through));
        let log = names.iter().filter_map(|file| shard.log_of(*file)).chain(of_older);
        let Some((from, through)) = log.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))) else {
            return Ok(Err(PutCompactedError::NothingLives));
        };
        let Some(stream) = shard.streams.change(slot) else { return Ok(Err(PutCompactedError::UnknownStream)) };
        let mut released = stream.forget_within(first, last);
        released.extend(stream.forget_files(FileNumber(0), part_files));
        for object in &older {
            shard.compacted.remove(id, object.first);
        }
        let object =
            PlacedObject { stream: Some(id), first, last, key, from, through, streams: 1, bytes, index_digest };
        // Before what dies of it: where the object is not yet, that is read on.
        effects.objects.push(ObjectChange::Put(object.clone()));
        shard.compacted.insert(CompactedObject { stream: id, cleaned_to, object });
        for file in released {
            shard.release_stream(file, effects)?;
        }
        Ok(Ok(()))
    }
}
