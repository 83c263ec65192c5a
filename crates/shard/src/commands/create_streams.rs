//! Opens streams on this shard. A step of creating a topic, so it may come again: what exists already is as good as
//! made.

use record::{LeaderEpoch, StreamId, StreamOffset};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::{CreateStreamError, Outcome};
use crate::shard::{Position, Shard};
use crate::stream::Stream;

/// A stream to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewStream {
    pub id: StreamId,
    /// The epoch that it has here until the shard's leader changes.
    pub epoch_start: LeaderEpoch,
    /// 0, but for a stream that moved here.
    pub first_offset: StreamOffset,
}

wire_struct!(NewStream { id: StreamId, epoch_start: LeaderEpoch, first_offset: StreamOffset });

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateStreams {
    pub streams: Vec<NewStream>,
}

wire_struct!(CreateStreams { streams: Vec<NewStream> });

/// Bounds on what a stream may begin with: far from where numbers end.
pub(super) const FIRST_OFFSET_MAX: i64 = 1 << 62;
pub(super) const EPOCH_START_MAX: i32 = 1 << 30;

impl CreateStreams {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.streams.into_iter().map(|stream| create(shard, stream, effects)).collect();
        Ok(Outcome::CreateStreams(results))
    }
}

fn create(shard: &mut Shard, new: NewStream, effects: &mut Effects) -> Result<(), CreateStreamError> {
    if shard.streams.slot(&new.id).is_some() {
        return Ok(());
    }
    let streams_max = shard.scalars.settings.streams_max;
    if shard.streams.len() >= streams_max as usize {
        return Err(CreateStreamError::TooManyStreams { streams_max });
    }
    if !(0..=FIRST_OFFSET_MAX).contains(&new.first_offset.0) || !(0..=EPOCH_START_MAX).contains(&new.epoch_start.0) {
        return Err(CreateStreamError::OutOfRange);
    }
    let epoch_shift = i64::from(new.epoch_start.0) - i64::from(shard.scalars.leader_changes);
    shard.streams.insert(Stream::new(new.id, new.first_offset, epoch_shift));
    effects.created.push(new.id);
    Ok(())
}
