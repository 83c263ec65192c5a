//! Begins the creation of topics: the name is taken, stream ids are given out, and the record says what is still to be
//! done on which shard. The topic lives when [`CompleteTopics`](super::CompleteTopics) says that all of it is done.

use std::collections::BTreeMap;

use record::{LeaderEpoch, ShardId, StreamId, StreamOffset, TopicId};
use smallvec::smallvec;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{Placement, StreamHome, Topic, TopicMode, TopicState};
use crate::outcome::{CreateTopicError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Chosen by the proposer at random.
    pub id: TopicId,
    pub name: String,
    /// The shard of each partition.
    pub partitions: Vec<ShardId>,
    pub configs: BTreeMap<String, String>,
}

wire_struct!(NewTopic { id: TopicId, name: String, partitions: Vec<ShardId>, configs: BTreeMap<String, String> });

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
}

wire_struct!(CreateTopics { topics: Vec<NewTopic> });

impl CreateTopics {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.topics.into_iter().map(|topic| create(shard, topic, effects)).collect();
        Ok(Outcome::CreateTopics(results))
    }
}

fn create(shard: &mut Shard, new: NewTopic, effects: &mut Effects) -> Result<TopicId, CreateTopicError> {
    if shard.metadata.names.contains_key(new.name.as_str()) {
        return Err(CreateTopicError::Exists);
    }
    if new.id == TopicId::NONE || shard.metadata.topic(new.id).is_some() {
        return Err(CreateTopicError::IdTaken);
    }
    if new.partitions.is_empty() {
        return Err(CreateTopicError::NoPartitions);
    }
    let partitions = place(shard, &new.partitions).ok_or(CreateTopicError::StreamsExhausted)?;
    let revision = shard.metadata_change(effects);
    shard.metadata.insert_topic(Topic {
        id: new.id,
        name: new.name,
        mode: TopicMode::Log,
        state: TopicState::Creating,
        live_partitions: 0,
        partitions,
        config_version: u64::from(!new.configs.is_empty()),
        configs: new.configs,
        revision,
    });
    Ok(new.id)
}

/// New streams, one for each shard named; `None` if there are not so many ids left.
pub(super) fn place(shard: &mut Shard, shards: &[ShardId]) -> Option<Vec<Placement>> {
    let first = shard.scalars.next_stream;
    shard.scalars.next_stream = first.checked_add(u64::try_from(shards.len()).ok()?)?;
    let place = |(stream, shard): (u64, &ShardId)| Placement {
        stream: StreamId(stream),
        epoch_start: LeaderEpoch(0),
        history: smallvec![StreamHome { from_offset: StreamOffset(0), shard: *shard }],
    };
    Some((first..).zip(shards).map(place).collect())
}
