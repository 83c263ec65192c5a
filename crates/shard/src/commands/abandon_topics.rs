//! Begins the deletion of topics that are still being made: of one that was completed meanwhile somebody was told.

use record::TopicId;

use super::delete_topics::delete;
use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::{AbandonTopicError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonTopics {
    pub topics: Vec<TopicId>,
}

wire_struct!(AbandonTopics { topics: Vec<TopicId> });

impl AbandonTopics {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.topics.into_iter().map(|id| abandon(shard, id, effects)).collect();
        Ok(Outcome::AbandonTopics(results))
    }
}

fn abandon(shard: &mut Shard, id: TopicId, effects: &mut Effects) -> Result<(), AbandonTopicError> {
    let topic = shard.metadata.topic(id).ok_or(AbandonTopicError::UnknownTopic)?;
    if topic.state == TopicState::Live {
        return Err(AbandonTopicError::Complete);
    }
    delete(shard, id, effects).map_err(|_| AbandonTopicError::UnknownTopic)
}
