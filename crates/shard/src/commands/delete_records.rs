//! Deletes the records at the front of streams: by retention, or because somebody asked for it. What is deleted is not read
//! from then on; index files and ranges of the log that held nothing else are dead.
//!
//! Which files a stream does not need any more says the command, because apply reads none: they never change, so whoever
//! has looked into them knows for all time.

use record::{FileNumber, StreamId, StreamOffset};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::{Effects, ObjectChange};
use crate::outcome::{DeleteRecordsError, Outcome};
use crate::shard::{Position, Shard};
use crate::stream::Standing;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRecords {
    pub fronts: Vec<StreamFront>,
}

/// What of a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFront {
    pub stream: StreamId,
    /// The first offset that stays. Not above the stream's next offset.
    pub before: StreamOffset,
    /// No index file of the stream with a smaller number has a batch that reaches to `before` or beyond.
    pub files: FileNumber,
    /// In no range of the log of a smaller number is an earlier part of such a batch.
    pub part_files: FileNumber,
    /// The stream has ended here, and the metadata say that it begins at `before` or later: what a stream has that is about to go
    /// on elsewhere does not change.
    pub ended: bool,
}

wire_struct!(DeleteRecords { fronts: Vec<StreamFront> });
wire_struct!(StreamFront {
    stream: StreamId,
    before: StreamOffset,
    files: FileNumber,
    part_files: FileNumber,
    ended: bool,
});

impl DeleteRecords {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.fronts.iter().map(|front| front.apply(shard, effects));
        results.collect::<Result<_, _>>().map(Outcome::DeleteRecords)
    }
}

impl StreamFront {
    fn apply(
        &self,
        shard: &mut Shard,
        effects: &mut Effects,
    ) -> Result<Result<StreamOffset, DeleteRecordsError>, Broken> {
        let slot = shard.streams.slot(&self.stream);
        let Some((slot, stream)) = slot.and_then(|slot| Some((slot, shard.streams.at(slot)?))) else {
            return Ok(Err(DeleteRecordsError::UnknownStream));
        };
        match stream.standing {
            Standing::Receiving => return Ok(Err(DeleteRecordsError::UnknownStream)),
            Standing::Closed if !self.ended => return Ok(Err(DeleteRecordsError::Ended)),
            Standing::Open | Standing::Closed => {}
        }
        if self.before > stream.next_offset {
            return Ok(Err(DeleteRecordsError::OffsetOutOfRange));
        }
        let frees = stream.files.first().is_some_and(|file| file < self.files)
            || shard.compacted.of(self.stream).next().is_some_and(|oldest| oldest.object.last < self.files)
            || stream.part_files.as_ref().and_then(|files| files.first()).is_some_and(|file| file < self.part_files);
        if self.before <= stream.first_offset && !frees {
            return Ok(Ok(stream.first_offset));
        }
        let Some(stream) = shard.streams.change(slot) else { return Ok(Err(DeleteRecordsError::UnknownStream)) };
        stream.begin_at(self.before.max(stream.first_offset));
        let first_offset = stream.first_offset;
        for file in stream.forget_files(self.files, self.part_files) {
            shard.release_stream(file, effects)?;
        }
        let compacted = shard.compacted.take_below(self.stream, self.files);
        effects.objects.extend(compacted.into_iter().map(ObjectChange::Gone));
        Ok(Ok(first_offset))
    }
}
