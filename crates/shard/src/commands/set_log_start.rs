//! Lets the pieces of a stream begin later in the metadata: what is before is not read any more, and whoever leads the shards where
//! the stream was frees it there. A stream that is about to go on elsewhere says so where it begins.

use record::{StreamOffset, TopicId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{StreamHome, TopicState};
use crate::outcome::{Outcome, UnknownTopic};
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLogStart {
    pub topic: TopicId,
    pub partition: u32,
    /// The first offset that stays. On the last shard nothing before it may be left, or it is to go.
    pub before: StreamOffset,
}

wire_struct!(SetLogStart { topic: TopicId, partition: u32, before: StreamOffset });

impl SetLogStart {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::SetLogStart(self.set(shard, effects)))
    }

    /// Where the first piece begins that is left.
    fn set(&self, shard: &mut Shard, effects: &mut Effects) -> Result<StreamOffset, UnknownTopic> {
        let topic = shard.metadata.topic(self.topic).filter(|topic| topic.state == TopicState::Live);
        let place = usize::try_from(self.partition).map_err(|_| UnknownTopic)?;
        let placement = topic.and_then(|topic| topic.partitions.get(place)).ok_or(UnknownTopic)?;
        let before = self.before;
        let later = |home: &StreamHome| home.from_offset < before;
        if placement.history.iter().any(later) {
            let revision = shard.metadata_change(effects);
            shard.metadata.change_topic(self.topic, revision, |topic| {
                let homes = topic.partitions.get_mut(place).map(|placement| &mut placement.history);
                for home in homes.into_iter().flatten().filter(|home| later(home)) {
                    home.from_offset = before;
                }
            });
        }
        let placement = shard.metadata.topic(self.topic).and_then(|topic| topic.partitions.get(place));
        Ok(placement.and_then(|placement| placement.history.first()).map_or(before, |home| home.from_offset))
    }
}
