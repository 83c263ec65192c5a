//! OffsetFetch: what groups have committed. Nothing committed is offset -1, never an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::groups::FetchedOffset;
use broker::topics::Topic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use record::TopicId;

use super::room::{Room, without_repeats};
use super::topic_partition::{find, text, topic_name, uuid};
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, NONE, UNKNOWN_TOPIC_ID};
use crate::wire::commit::BY_ID;

/// The first version that asks for several groups.
const BATCHED: i16 = 8;
/// The first version in which a null list means all topics.
pub(super) const NULL_IS_ALL_SINCE: i16 = 2;
/// The first version with an error beside the partitions.
const GROUP_ERROR_SINCE: i16 = 2;
const EPOCH_SINCE: i16 = 5;

pub(super) async fn handle(context: &mut Context, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    if version >= BATCHED {
        let mut groups = Vec::with_capacity(request.groups.len());
        let mut asked = request.groups;
        without_repeats(&mut asked, |group| group.group_id.to_string());
        let mut room = Room::of(context);
        for group in asked {
            let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
            if room.is_used_up() {
                groups.push(response.with_error_code(INVALID_REQUEST));
                continue;
            }
            groups.push(match fetch(context, &group.group_id, group.topics, version).await {
                Ok(topics) => {
                    room.take(topics.iter().map(bytes).sum());
                    response.with_topics(topics)
                }
                Err(code) => response.with_error_code(code),
            });
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        });
        topics.collect::<Vec<_>>()
    });
    match fetch(context, &request.group_id, asked.clone(), version).await {
        Ok(topics) => {
            OffsetFetchResponse::default().with_topics(topics.into_iter().map(|topic| old(topic, version)).collect())
        }
        Err(code) if version >= GROUP_ERROR_SINCE => OffsetFetchResponse::default().with_error_code(code),
        Err(code) => {
            let topics = asked.unwrap_or_default().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|index| nothing(*index, code)).collect();
                let topic = OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions);
                old(topic, version)
            });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

/// The offsets of one group: of the topics asked, or of all when none is named. The error is the group's.
async fn fetch(
    context: &Context,
    group_id: &str,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
    version: i16,
) -> Result<Vec<OffsetFetchResponseTopics>, i16> {
    let groups = context.broker().groups();
    let Some(asked) = asked.map(distinct) else {
        let mut offsets = groups.fetch_offsets(group_id, None).await.map_err(|error| error.code())?;
        offsets.sort_unstable_by_key(|offset| (offset.topic, offset.partition));
        return Ok(all(context, offsets));
    };
    let found: Vec<Option<Arc<Topic>>> =
        asked.iter().map(|topic| find(context.broker(), &topic.name, topic.topic_id)).collect();
    let keys: Vec<(TopicId, i32)> = asked
        .iter()
        .zip(&found)
        .filter_map(|(topic, found)| Some((topic, found.as_ref()?)))
        .flat_map(|(topic, found)| topic.partition_indexes.iter().map(|index| (found.id, *index)))
        .collect();
    let offsets = groups.fetch_offsets(group_id, Some(&keys)).await.map_err(|error| error.code())?;
    let mut offsets = offsets.into_iter();
    let topics = asked.into_iter().zip(found).map(|(topic, found)| {
        // A topic that is not there has nothing committed; asked by id, its client holds an id of the past.
        let code = if found.is_none() && version >= BY_ID { UNKNOWN_TOPIC_ID } else { NONE };
        let partitions = topic
            .partition_indexes
            .iter()
            .map(|index| match found.as_ref().and_then(|_| offsets.next()) {
                Some(offset) => committed(offset),
                None => nothing(*index, code),
            })
            .collect();
        OffsetFetchResponseTopics::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions)
    });
    Ok(topics.collect())
}

/// Each partition once, where it is named first: an offset's metadata is long, and its name is short.
fn distinct(mut asked: Vec<OffsetFetchRequestTopics>) -> Vec<OffsetFetchRequestTopics> {
    let mut topics = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for topic in &mut asked {
        let next = topics.len();
        let topic_number = *topics.entry((topic.name.to_string(), topic.topic_id)).or_insert(next);
        topic.partition_indexes.retain(|index| seen.insert((topic_number, *index)));
    }
    asked
}

/// About what one topic of an answer takes.
fn bytes(topic: &OffsetFetchResponseTopics) -> usize {
    let partitions = topic.partitions.iter().map(|partition| {
        size_of::<OffsetFetchResponsePartitions>() + partition.metadata.as_ref().map_or(0, |metadata| metadata.len())
    });
    size_of::<OffsetFetchResponseTopics>() + partitions.sum::<usize>()
}

/// Groups sorted offsets by topic; those of deleted topics are left out.
fn all(context: &Context, offsets: Vec<FetchedOffset>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    let mut current: Option<(TopicId, bool)> = None;
    for offset in offsets {
        let known = match current {
            Some((id, known)) if id == offset.topic => known,
            _ => {
                let topic = context.broker().topics().resolve_id(offset.topic);
                current = Some((offset.topic, topic.is_some()));
                if let Some(topic) = &topic {
                    let next = OffsetFetchResponseTopics::default().with_name(topic_name(&topic.name));
                    topics.push(next.with_topic_id(uuid(topic.id)));
                }
                topic.is_some()
            }
        };
        if known && let Some(topic) = topics.last_mut() {
            topic.partitions.push(committed(offset));
        }
    }
    topics
}

fn committed(offset: FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(offset.partition)
        .with_committed_offset(offset.offset)
        .with_committed_leader_epoch(offset.leader_epoch)
        .with_metadata(Some(text(offset.metadata)))
}

fn nothing(index: i32, code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::new()))
        .with_error_code(code)
}

/// The same in the structures of the versions before 8.
fn old(topic: OffsetFetchResponseTopics, version: i16) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(if version >= EPOCH_SINCE { partition.committed_leader_epoch } else { -1 })
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}
