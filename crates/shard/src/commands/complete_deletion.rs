//! Ends the deletion of topics: none of their streams exist any more.

use record::TopicId;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::TopicState;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteDeletion {
    pub topics: Vec<TopicId>,
}

wire_struct!(CompleteDeletion { topics: Vec<TopicId> });

impl CompleteDeletion {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut completed = 0;
        for id in self.topics {
            if shard.metadata.topic(id).is_some_and(|topic| topic.state == TopicState::Deleting) {
                shard.metadata_change(effects);
                shard.metadata.remove_topic(id);
                completed += 1;
            }
        }
        Ok(Outcome::CompleteDeletion { completed })
    }
}
