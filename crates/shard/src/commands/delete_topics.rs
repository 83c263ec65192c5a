//! Begins the deletion of topics: they are gone for clients at once and their names are free; the records stay until
//! every shard has dropped the streams.

use record::TopicId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::{Outcome, UnknownTopic};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    pub topics: Vec<TopicId>,
}

wire_struct!(DeleteTopics { topics: Vec<TopicId> });

impl DeleteTopics {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.topics.into_iter().map(|id| delete(shard, id, effects)).collect();
        Ok(Outcome::DeleteTopics(results))
    }
}

pub(super) fn delete(shard: &mut Shard, id: TopicId, effects: &mut Effects) -> Result<(), UnknownTopic> {
    let topic = shard.metadata.topic(id).ok_or(UnknownTopic)?;
    if topic.state == TopicState::Deleting {
        return Err(UnknownTopic);
    }
    let revision = shard.metadata_change(effects);
    shard.metadata.change_topic(id, revision, |topic| topic.state = TopicState::Deleting);
    Ok(())
}
