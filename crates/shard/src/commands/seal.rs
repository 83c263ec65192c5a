//! Moves the index of everything up to a log index out of the state, at the same point on every replica: it becomes a
//! file, and state keeps per stream only which files have it.

use std::sync::Arc;

use record::{Extent, FileNumber, LogIndex, TimestampMs};

use crate::assertion::{Broken, ensure};
use crate::batches::BatchList;
use crate::codec::wire_struct;
use crate::compacted::Compacted;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::ranges::SealedRange;
use crate::sealing::{SealedIndex, SealedStream};
use crate::shard::{Position, Shard};
use crate::stream::Stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// At most the index before that of the entry that carries the command, so that no entry is sealed in part; what is
    /// above it means all that there is, which costs least.
    pub through: LogIndex,
}

wire_struct!(Seal { through: LogIndex });

impl Seal {
    pub(crate) fn apply(self, shard: &mut Shard, at: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let Some(before) = at.index.0.checked_sub(1) else { return Ok(Outcome::Seal { sealed: None }) };
        let through = self.through.min(LogIndex(before));
        let from = shard.scalars.sealed_through.map_or(LogIndex(0), LogIndex::next);
        let file = shard.scalars.next_file;
        if through < from || file.0 >= FILES_MAX {
            return Ok(Outcome::Seal { sealed: None });
        }
        let mut range = SealedRange { file, from, through, streams: 0, uploads: 0, bytes: 0 };
        let mut taken = take_batches(shard, &mut range)?;
        note_uploads(shard, &mut range);
        shard.scalars.sealed_through = Some(through);
        taken.live.sort_unstable_by_key(|sealed| sealed.stream);
        taken.deleted.sort_unstable_by_key(|sealed| sealed.stream);
        let sealed = Arc::new(SealedIndex { file, from, through, streams: taken.live, deleted: taken.deleted });
        if let Some(capture) = &mut shard.capture {
            capture.keep(&sealed);
        }
        if !range.live() {
            ensure!(sealed.streams.is_empty(), "range {file} has batches but is not live");
            return Ok(Outcome::Seal { sealed: None });
        }
        shard.scalars.next_file = FileNumber(file.0 + 1);
        shard.ranges.insert(range);
        shard.sealing.push_back((Arc::clone(&sealed), false));
        effects.sealed.push(sealed);
        Ok(Outcome::Seal { sealed: Some(file) })
    }
}

/// The last number is never used, so that the next one always fits.
const FILES_MAX: u32 = u32::MAX - 1;

/// What the streams have in the range, in no order.
#[derive(Default)]
struct Taken {
    live: Vec<SealedStream>,
    /// Of streams of which nothing in the range is wanted any more.
    deleted: Vec<SealedStream>,
}

impl Taken {
    /// Takes in the front of a stream's batches; its bytes that are not wanted any more.
    fn add(
        &mut self,
        compacted: &Compacted,
        stream: &mut Stream,
        range: &mut SealedRange,
        list: Box<BatchList>,
    ) -> Result<u64, Broken> {
        let any_deleted = list.first_offset().is_some_and(|first| first < stream.first_offset);
        let deleted = if any_deleted { list.place_of(stream.first_offset) } else { 0 };
        let deleted_bytes = list.iter().take(deleted).map(|batch| u64::from(batch.bytes)).sum();
        let sealed = SealedStream {
            stream: stream.id,
            previous: stream.files.last().or_else(|| compacted.through(stream.id)),
            oldest: compacted.from(stream.id).or_else(|| stream.files.first()),
            max_timestamp_before: stream.sealed_max_timestamp,
            deleted,
            list,
        };
        if sealed.is_empty() {
            self.deleted.push(sealed);
            return Ok(deleted_bytes);
        }
        self.live.push(sealed);
        ensure!(stream.files.insert(range.file), "file {} has stream {} already", range.file, stream.id);
        range.streams += 1;
        Ok(deleted_bytes)
    }
}

/// Takes what lies in the range out of the streams.
fn take_batches(shard: &mut Shard, range: &mut SealedRange) -> Result<Taken, Broken> {
    let mut slots = std::mem::take(&mut shard.unsealed_slots);
    slots.sort_unstable();
    slots.dedup();
    if shard.scalars.last_append <= Some(range.through) {
        return take_all(shard, range, &slots);
    }
    let mut taken = Taken::default();
    for slot in slots {
        take_front(shard, range, slot, &mut taken)?;
    }
    Ok(taken)
}

/// Nothing was appended behind the range: every list goes as it is, without a look into it.
fn take_all(shard: &mut Shard, range: &mut SealedRange, slots: &[u32]) -> Result<Taken, Broken> {
    let mut taken = Taken { live: Vec::with_capacity(slots.len()), deleted: Vec::new() };
    let mut deleted_bytes = 0;
    for slot in slots {
        if shard.streams.at(*slot).is_none_or(|stream| stream.batches.is_none()) {
            continue;
        }
        let Some(stream) = shard.streams.change(*slot) else { continue };
        let Some(list) = stream.batches.take() else { continue };
        deleted_bytes += taken.add(&shard.compacted, stream, range, list)?;
        stream.sealed_max_timestamp = stream.max_timestamp;
    }
    range.bytes = std::mem::take(&mut shard.unsealed_bytes).saturating_sub(deleted_bytes);
    let left = std::mem::take(&mut shard.unsealed_batches);
    let streams = taken.live.len() + taken.deleted.len();
    ensure!((left == 0) == (streams == 0), "{left} batches were in memory and {streams} streams had some");
    Ok(taken)
}

/// What one stream has in the range; what it has behind it stays.
fn take_front(shard: &mut Shard, range: &mut SealedRange, slot: u32, taken: &mut Taken) -> Result<(), Broken> {
    let Some(list) = shard.streams.at(slot).and_then(|stream| stream.batches.as_deref()) else { return Ok(()) };
    let within = list.first_index() <= Some(range.through);
    let in_range =
        |extents: &[Extent]| extents.iter().any(|extent| (range.from..=range.through).contains(&extent.log_index));
    // Batches that stay may have begun in the range.
    let first_above = list.get(list.place_above(range.through)).map(|batch| batch.base_offset);
    let parts_within = first_above
        .is_some_and(|first| list.parts().iter().any(|(offset, extents)| *offset >= first && in_range(extents)));
    if !within && !parts_within {
        shard.unsealed_slots.push(slot);
        return Ok(());
    }
    let Some(stream) = shard.streams.change(slot) else { return Ok(()) };
    let Some(mut list) = stream.batches.take() else { return Ok(()) };
    if within {
        let front = Box::new(list.split_through(range.through));
        ensure!(!front.is_empty(), "stream {} has a batch in the range and none to seal", stream.id);
        ensure!(shard.unsealed_batches >= front.len(), "more batches are sealed than there are");
        ensure!(shard.unsealed_bytes >= front.bytes(), "more bytes are sealed than there are");
        shard.unsealed_batches -= front.len();
        shard.unsealed_bytes -= front.bytes();
        let (bytes, max_timestamp) = (front.bytes(), front.max_timestamp().unwrap_or(TimestampMs::NONE));
        range.bytes += bytes - taken.add(&shard.compacted, stream, range, front)?;
        stream.sealed_max_timestamp = stream.sealed_max_timestamp.max(max_timestamp);
    }
    if parts_within && stream.add_part_file(range.file) {
        range.streams += 1;
    }
    if !list.is_empty() {
        stream.batches = Some(list);
        shard.unsealed_slots.push(slot);
    }
    Ok(())
}

/// Parts of staged batches keep the range, too.
fn note_uploads(shard: &mut Shard, range: &mut SealedRange) {
    let within = |extent: &Extent| (range.from..=range.through).contains(&extent.log_index);
    let slots: Vec<u32> =
        shard.uploads.iter().filter(|(_, upload)| upload.extents.iter().any(within)).map(|(slot, _)| slot).collect();
    for slot in slots {
        if let Some(upload) = shard.uploads.change(slot) {
            upload.files.push(range.file);
            range.uploads += 1;
        }
    }
}
