//! DescribeTopicPartitions: topics page by page (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use broker::nodes::Copies;
use broker::topics::{Topic, Topics};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use record::NodeId;

use super::topic_partition::{TOPIC_OPERATIONS, topic_name, uuid};
use crate::context::{Context, node_id};
use crate::errors::{INVALID_REQUEST, INVALID_TOPIC_EXCEPTION, NONE, UNKNOWN_TOPIC_OR_PARTITION};

/// `max.request.partition.size.limit`
const PARTITIONS_MAX: usize = 2_000;

enum Found {
    Topic(Arc<Topic>),
    Missing(String),
}

impl Found {
    fn name(&self) -> &str {
        match self {
            Self::Topic(topic) => &topic.name,
            Self::Missing(name) => name,
        }
    }
}

pub(super) async fn handle(
    context: &mut Context,
    request: DescribeTopicPartitionsRequest,
    _: i16,
) -> DescribeTopicPartitionsResponse {
    let names: BTreeSet<&str> = request.topics.iter().map(|topic| &**topic.name).collect();
    let (from_topic, from_partition) = match &request.cursor {
        Some(cursor) => (&**cursor.topic_name, cursor.partition_index),
        None => ("", 0),
    };
    let stray = request.cursor.is_some() && !names.is_empty() && !names.contains(from_topic);
    if stray || from_partition < 0 {
        let topics = names.into_iter().map(|name| refused(name, INVALID_REQUEST));
        return DescribeTopicPartitionsResponse::default().with_topics(topics.collect());
    }
    let topics = context.broker().topics();
    let found: Vec<Found> = if names.is_empty() {
        let mut all = topics.all();
        all.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        all.into_iter().map(Found::Topic).collect()
    } else {
        let named = names.into_iter();
        named.map(|name| topics.resolve(name).map_or_else(|| Found::Missing(name.to_owned()), Found::Topic)).collect()
    };
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(1).clamp(1, PARTITIONS_MAX);
    // Once for all that may stand on the page: each question may take its time.
    let on_page = found.iter().filter(|found| found.name() >= from_topic).filter_map(|found| match found {
        Found::Topic(topic) => Some(&**topic),
        Found::Missing(_) => None,
    });
    topics.learn_epochs(on_page.take(room)).await;
    let mut described = Vec::new();
    let mut next = None;
    for found in found.into_iter().filter(|found| found.name() >= from_topic) {
        if room == 0 {
            next = Some((found.name().to_owned(), 0));
            break;
        }
        let topic = match found {
            Found::Missing(name) => {
                described.push(missing(&name));
                continue;
            }
            Found::Topic(topic) => topic,
        };
        let first = if *topic.name == *from_topic { usize::try_from(from_partition).unwrap_or(0) } else { 0 };
        let count = topic.partitions.len().saturating_sub(first);
        described.push(describe(context, &topic, first, count.min(room)));
        if count > room {
            next = Some((topic.name.to_string(), first + room));
            break;
        }
        room -= count;
    }
    let cursor = next.map(|(name, index)| {
        let index = i32::try_from(index).expect("a topic has fewer than 2^31 partitions");
        Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(index)
    });
    DescribeTopicPartitionsResponse::default().with_topics(described).with_next_cursor(cursor)
}

fn describe(context: &Context, topic: &Arc<Topic>, first: usize, count: usize) -> DescribeTopicPartitionsResponseTopic {
    let endpoints = context.shared.endpoints();
    let partitions = (0..).zip(&topic.partitions).skip(first).take(count).map(|(index, partition)| {
        let leader = partition.leader();
        let copies = endpoints.view().copies(partition.shard());
        let ids = |nodes: fn(&Copies) -> &[NodeId]| -> Vec<BrokerId> {
            copies.map(nodes).unwrap_or_default().iter().map(|node| node_id(*node).into()).collect()
        };
        let (code, leader_id) = match endpoints.leader(leader, true) {
            Ok(leader) => (NONE, leader),
            Err(code) => (code, -1),
        };
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(code)
            .with_partition_index(index)
            .with_leader_id(leader_id.into())
            .with_leader_epoch(leader.epoch)
            .with_isr_nodes(ids(|copies| &copies.in_sync))
            .with_replica_nodes(ids(|copies| &copies.replicas))
            .with_offline_replicas(ids(|copies| &copies.offline))
            // Never null: clients take them for granted. Only those in sync can lead.
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(uuid(topic.id))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = if Topics::check_name(name).is_err() { INVALID_TOPIC_EXCEPTION } else { UNKNOWN_TOPIC_OR_PARTITION };
    refused(name, code).with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn refused(name: &str, code: i16) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_name(Some(topic_name(name))).with_error_code(code)
}
