//! Removes streams and everything that hangs on them. A step of deleting a topic, so it may come again.

use record::StreamId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteStreams {
    pub streams: Vec<StreamId>,
}

wire_struct!(DeleteStreams { streams: Vec<StreamId> });

impl DeleteStreams {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut deleted = 0;
        for stream in self.streams {
            deleted += u32::from(shard.remove_stream(stream, effects)?);
        }
        Ok(Outcome::DeleteStreams { deleted })
    }
}
