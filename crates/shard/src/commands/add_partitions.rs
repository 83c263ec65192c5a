//! Begins to add partitions to a topic: clients see them when [`CompletePartitions`](super::CompletePartitions) says
//! that their streams exist.

use record::{ShardId, TopicId};

use super::create_topics::place;
use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::{AddPartitionsError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    pub topic: TopicId,
    /// How many the topic has, as the proposer saw it.
    pub current: u32,
    /// The shard of each new partition.
    pub added: Vec<ShardId>,
}

wire_struct!(AddPartitions { topic: TopicId, current: u32, added: Vec<ShardId> });

impl AddPartitions {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::AddPartitions(self.add(shard, effects)))
    }

    fn add(&self, shard: &mut Shard, effects: &mut Effects) -> Result<(), AddPartitionsError> {
        let topic = shard.metadata.topic(self.topic).filter(|topic| topic.state != TopicState::Deleting);
        let topic = topic.ok_or(AddPartitionsError::UnknownTopic)?;
        if topic.unfinished() {
            return Err(AddPartitionsError::InProgress);
        }
        let current = topic.live_partitions;
        if current != self.current {
            return Err(AddPartitionsError::CountChanged { current });
        }
        let added = place(shard, &self.added).ok_or(AddPartitionsError::StreamsExhausted)?;
        let revision = shard.metadata_change(effects);
        shard.metadata.change_topic(self.topic, revision, |topic| topic.partitions.extend(added));
        Ok(())
    }
}
