//! Ends the creation of topics: all of their streams exist.

use record::TopicId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteTopics {
    pub topics: Vec<TopicId>,
}

wire_struct!(CompleteTopics { topics: Vec<TopicId> });

impl CompleteTopics {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut completed = 0;
        for id in self.topics {
            if shard.metadata.topic(id).is_none_or(|topic| topic.state != TopicState::Creating) {
                continue;
            }
            let revision = shard.metadata_change(effects);
            shard.metadata.change_topic(id, revision, |topic| {
                topic.state = TopicState::Live;
                topic.live_partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            });
            completed += 1;
        }
        Ok(Outcome::CompleteTopics { completed })
    }
}
