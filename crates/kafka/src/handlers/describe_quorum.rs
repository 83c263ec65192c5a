//! DescribeQuorum: who decides about the metadata.
//!
//! Any node answers, with what it knows: the leader how far each member is, another node what they said of themselves.

use std::collections::BTreeSet;

use base::time::Duration;
use broker::quorum::Quorum;
use kafka_protocol::messages::describe_quorum_request::TopicData as Asked;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use record::NodeId;

use super::topic_partition::text;
use crate::context::{Context, node_id};
use crate::endpoints::Endpoints;
use crate::errors::{NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION};

/// Kafka's name of the log that the group writes.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// The first version with nodes and texts.
const NODES_SINCE: i16 = 2;
const TIMES_SINCE: i16 = 1;
const UNKNOWN: i64 = -1;

pub(super) async fn handle(
    context: &mut Context,
    request: DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let one = match &request.topics[..] {
        [topic] => {
            &**topic.topic_name == METADATA_TOPIC && matches!(&topic.partitions[..], [one] if one.partition_index == 0)
        }
        _ => false,
    };
    if !one {
        return refused(
            request.topics,
            UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
            version,
        );
    }
    let quorum = context.broker().quorum();
    if quorum.leader.is_none() {
        let why = "Nobody leads the metadata for the moment, as far as this node knows.";
        return refused(request.topics, NOT_LEADER_OR_FOLLOWER, why, version);
    }
    let topic = TopicData::default()
        .with_topic_name(request.topics[0].topic_name.clone())
        .with_partitions(vec![partition(context, &quorum, version)]);
    let nodes = if version >= NODES_SINCE { nodes(context, &quorum.voters) } else { Vec::new() };
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes)
}

fn partition(context: &Context, quorum: &Quorum, version: i16) -> PartitionData {
    let end = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
    let now = context.broker().environment().wall_clock.now_ms();
    let time = |ago: Option<Duration>| match ago {
        Some(ago) if version >= TIMES_SINCE => now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        _ => UNKNOWN,
    };
    let state = |node: &NodeId| {
        let position = quorum.positions.get(node);
        ReplicaState::default()
            .with_replica_id(node_id(*node).into())
            .with_log_end_offset(position.map_or(UNKNOWN, |position| end(position.end)))
            .with_last_fetch_timestamp(time(position.and_then(|position| position.heard)))
            .with_last_caught_up_timestamp(time(position.and_then(|position| position.caught_up)))
    };
    PartitionData::default()
        .with_leader_id(quorum.leader.map_or(-1, node_id).into())
        .with_leader_epoch(i32::try_from(quorum.term.0).unwrap_or(i32::MAX))
        .with_high_watermark(end(quorum.committed_end))
        .with_current_voters(quorum.voters.iter().map(state).collect())
        .with_observers(quorum.observers.iter().map(state).collect())
}

fn nodes(context: &Context, voters: &BTreeSet<NodeId>) -> Vec<Node> {
    let endpoints = context.shared.endpoints();
    voters.iter().map(|voter| node(&endpoints, &context.shared.listener, *voter)).collect()
}

fn node(endpoints: &Endpoints, listener: &str, voter: NodeId) -> Node {
    let listeners = endpoints.find(voter).into_iter().map(|endpoint| {
        Listener::default()
            // Kafka's tools take no other.
            .with_name(text(listener.to_uppercase()))
            .with_host(text(&endpoint.host))
            .with_port(u16::try_from(endpoint.port).unwrap_or(0))
    });
    Node::default().with_node_id(node_id(voter).into()).with_listeners(listeners.collect())
}

fn refused(asked: Vec<Asked>, code: i16, why: &'static str, version: i16) -> DescribeQuorumResponse {
    let message = || (version >= NODES_SINCE).then(|| text(why));
    let topics = asked.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            PartitionData::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code)
                .with_error_message(message())
        });
        let partitions = partitions.collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
