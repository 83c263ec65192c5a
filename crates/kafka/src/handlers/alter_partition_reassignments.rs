//! AlterPartitionReassignments: partitions are where their shards are, and those move whole.

use std::collections::BTreeSet;

use broker::nodes::ClusterView;
use broker::topics::PartitionRef;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::topic_partition::text;
use crate::context::{Context, node_id};
use crate::errors::{INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS, NONE, UNKNOWN_TOPIC_OR_PARTITION};

const MOVES_WHOLE: &str = "Partitions are on shards, which move whole: use `rosettamq cluster move`.";

pub(super) async fn handle(
    context: &mut Context,
    request: AlterPartitionReassignmentsRequest,
    _: i16,
) -> AlterPartitionReassignmentsResponse {
    let view = context.broker().nodes();
    let topics = request.topics.into_iter().map(|topic| {
        let topics = context.broker().topics();
        let known = topics.resolve(&topic.name);
        let partitions = topic.partitions.iter().map(|asked| {
            let partition = known.clone().and_then(|known| PartitionRef::new(known, asked.partition_index));
            let (code, message) = match (&known, partition) {
                (None, _) => (UNKNOWN_TOPIC_OR_PARTITION, format!("Unable to find a topic named {}.", &**topic.name)),
                (Some(_), None) => (
                    UNKNOWN_TOPIC_OR_PARTITION,
                    format!("Unable to find partition {}:{}.", &**topic.name, asked.partition_index),
                ),
                (Some(_), Some(partition)) => reassign(context, &view, &partition, asked),
            };
            ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code)
                .with_error_message((code != NONE).then(|| text(message)))
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(topics.collect())
}

/// What is so already is granted; anything else is not.
fn reassign(
    context: &Context,
    view: &ClusterView,
    partition: &PartitionRef,
    asked: &ReassignablePartition,
) -> (i16, String) {
    let shard = partition.partition().shard();
    let Some(replicas) = &asked.replicas else {
        return match context.broker().movement(view, shard) {
            None => (NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.".to_owned()),
            Some(_) => (INVALID_REPLICA_ASSIGNMENT, MOVES_WHOLE.to_owned()),
        };
    };
    let mut wanted = BTreeSet::new();
    for id in replicas.iter().map(|id| id.0) {
        if !view.nodes().iter().any(|node| node_id(node.id) == id) {
            let why =
                format!("The manual partition assignment includes broker {id}, but no such broker is registered.");
            return (INVALID_REPLICA_ASSIGNMENT, why);
        }
        if !wanted.insert(id) {
            let why = format!("The manual partition assignment includes the broker {id} more than once.");
            return (INVALID_REPLICA_ASSIGNMENT, why);
        }
    }
    let there = view.copies(shard).map(|copies| copies.replicas.iter().map(|node| node_id(*node)).collect());
    if there == Some(wanted) { (NONE, String::new()) } else { (INVALID_REPLICA_ASSIGNMENT, MOVES_WHOLE.to_owned()) }
}
