//! ListPartitionReassignments: the partitions that move to other shards, and those whose shards move, as their leaders
//! said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::placement::Movement;
use broker::topics::Topic;
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use record::{NodeId, ShardId, TopicId};

use super::room::{Room, without_repeats};
use super::topic_partition::{text, topic_name};
use crate::context::{Context, node_id};
use crate::errors::INVALID_REQUEST;

pub(super) async fn handle(
    context: &mut Context,
    request: ListPartitionReassignmentsRequest,
    _: i16,
) -> ListPartitionReassignmentsResponse {
    let response = ListPartitionReassignmentsResponse::default();
    let moving = moving(context);
    let partitions = moving_partitions(context);
    if moving.is_empty() && partitions.is_empty() {
        return response;
    }
    let mut room = Room::of(context);
    let mut topics = Vec::new();
    for (topic, indexes) in wanted(context, request) {
        let of_topic = (0..).zip(&topic.partitions);
        let asked = of_topic.filter(|(index, _)| indexes.as_ref().is_none_or(|indexes| indexes.contains(index)));
        let ongoing: Vec<_> = asked
            .filter_map(|(index, partition)| {
                let movement = partitions.get(&(topic.id, index)).or_else(|| moving.get(&partition.shard()));
                movement.map(|movement| said(index, movement))
            })
            .collect();
        if ongoing.is_empty() {
            continue;
        }
        room.take(ongoing.len() * (size_of::<OngoingPartitionReassignment>() + 64));
        if room.is_used_up() {
            let why = "More partitions move than one answer has room for: ask for some of them.";
            return response.with_error_code(INVALID_REQUEST).with_error_message(Some(text(why)));
        }
        topics.push(OngoingTopicReassignment::default().with_name(topic_name(&topic.name)).with_partitions(ongoing));
    }
    response.with_topics(topics)
}

fn moving(context: &Context) -> BTreeMap<ShardId, Movement> {
    let broker = context.broker();
    let view = broker.nodes();
    view.shards().filter_map(|(shard, _)| Some((shard, broker.movement(&view, shard)?))).collect()
}

fn moving_partitions(context: &Context) -> BTreeMap<(TopicId, i32), Movement> {
    let broker = context.broker();
    let moving = broker.moving_partitions(&broker.nodes());
    moving.into_iter().map(|(topic, index, movement)| ((topic, index), movement)).collect()
}

fn said(index: i32, movement: &Movement) -> OngoingPartitionReassignment {
    let ids = |nodes: &[NodeId]| -> Vec<BrokerId> { nodes.iter().map(|node| node_id(*node).into()).collect() };
    OngoingPartitionReassignment::default()
        .with_partition_index(index)
        .with_replicas(ids(&movement.replicas))
        .with_adding_replicas(ids(&movement.adding))
        .with_removing_replicas(ids(&movement.removing))
}

/// No list of topics is all of them; what does not exist moves nowhere.
fn wanted(context: &Context, request: ListPartitionReassignmentsRequest) -> Vec<(Arc<Topic>, Option<Vec<i32>>)> {
    let topics = context.broker().topics();
    let Some(mut asked) = request.topics else {
        return topics.all().into_iter().map(|topic| (topic, None)).collect();
    };
    without_repeats(&mut asked, |topic| topic.name.to_string());
    let found =
        asked.into_iter().filter_map(|asked| Some((topics.resolve(&asked.name)?, Some(asked.partition_indexes))));
    found.collect()
}
