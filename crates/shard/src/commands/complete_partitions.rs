//! Ends the addition of partitions: their streams exist.

use record::TopicId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::{Outcome, UnknownTopic};
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletePartitions {
    pub topic: TopicId,
    /// How many partitions clients may see from now on.
    pub total: u32,
}

wire_struct!(CompletePartitions { topic: TopicId, total: u32 });

impl CompletePartitions {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let topic = shard.metadata.topic(self.topic).filter(|topic| topic.state == TopicState::Live);
        let Some(topic) = topic else { return Ok(Outcome::CompletePartitions(Err(UnknownTopic))) };
        let placed = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let total = self.total.min(placed);
        if total > topic.live_partitions {
            let revision = shard.metadata_change(effects);
            shard.metadata.change_topic(self.topic, revision, |topic| topic.live_partitions = total);
        }
        Ok(Outcome::CompletePartitions(Ok(())))
    }
}
