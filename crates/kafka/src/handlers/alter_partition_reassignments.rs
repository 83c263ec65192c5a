//! AlterPartitionReassignments: partitions are where their shards are. One goes elsewhere by going to another shard.

use base::time::{Duration, Instant, now};
use broker::nodes::ClusterView;
use broker::placement::{MovesError, OpenShardError, ReassignError};
use broker::topics::PartitionRef;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId};

use super::topic_partition::text;
use crate::context::{Context, node_id};
use crate::errors::{
    INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR, NO_REASSIGNMENT_IN_PROGRESS, NONE, REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
};

const MOVES_WHOLE: &str = "Partitions are on shards, which move whole: use `rosettamq cluster move`.";

/// The longest that a request has, whatever it says.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What holds for all of a request.
struct Terms {
    may_change_factor: bool,
    deadline: Instant,
}

pub(super) async fn handle(
    context: &mut Context,
    request: AlterPartitionReassignmentsRequest,
    _: i16,
) -> AlterPartitionReassignmentsResponse {
    context.broker().settled().await;
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(WAIT_MAX);
    let terms = Terms { may_change_factor: request.allow_replication_factor_change, deadline: now() + wait };
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = context.broker().topics().resolve(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            // What was done for the one before may have changed it.
            let view = context.broker().nodes();
            let partition = known.clone().and_then(|known| PartitionRef::new(known, asked.partition_index));
            let (code, message) = match (&known, partition) {
                (None, _) => (UNKNOWN_TOPIC_OR_PARTITION, format!("Unable to find a topic named {}.", &**topic.name)),
                (Some(_), None) => (
                    UNKNOWN_TOPIC_OR_PARTITION,
                    format!("Unable to find partition {}:{}.", &**topic.name, asked.partition_index),
                ),
                (Some(_), Some(partition)) => match &asked.replicas {
                    _ if now() >= terms.deadline => (REQUEST_TIMED_OUT, "The request timed out.".to_owned()),
                    Some(replicas) => reassign(context, &view, &partition, replicas, &terms).await,
                    None => cancel(context, &view, &partition).await,
                },
            };
            partitions.push(
                ReassignablePartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code)
                    .with_error_message((code != NONE).then(|| text(message))),
            );
        }
        responses.push(ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(responses)
}

/// Ends the move of a partition to another shard, if it is not too late. Shards go on to where they are to be.
async fn cancel(context: &Context, view: &ClusterView, partition: &PartitionRef) -> (i16, String) {
    match context.broker().keep(partition).await {
        Ok(()) => (NONE, String::new()),
        Err(MovesError::NoMove) if context.broker().movement(view, partition.partition().shard()).is_some() => {
            (INVALID_REPLICA_ASSIGNMENT, MOVES_WHOLE.to_owned())
        }
        Err(MovesError::NoMove) => {
            (NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.".to_owned())
        }
        Err(error @ MovesError::TooLate) => (NO_REASSIGNMENT_IN_PROGRESS, format!("It is too late: {error}.")),
        Err(error @ (MovesError::NotYet | MovesError::Propose(_))) => (REQUEST_TIMED_OUT, error.to_string()),
    }
}

/// What is so already is granted; else the partition goes to a shard that is on these nodes, which is made if there is none.
async fn reassign(
    context: &Context,
    view: &ClusterView,
    partition: &PartitionRef,
    replicas: &[BrokerId],
    terms: &Terms,
) -> (i16, String) {
    if replicas.is_empty() {
        let why = "The manual partition assignment includes an empty replica list.".to_owned();
        return (INVALID_REPLICA_ASSIGNMENT, why);
    }
    let mut wanted = Vec::with_capacity(replicas.len());
    for id in replicas.iter().map(|id| id.0) {
        let Some(node) = view.nodes().iter().find(|node| node_id(node.id) == id) else {
            let why =
                format!("The manual partition assignment includes broker {id}, but no such broker is registered.");
            return (INVALID_REPLICA_ASSIGNMENT, why);
        };
        if wanted.contains(&node.id) {
            let why = format!("The manual partition assignment includes the broker {id} more than once.");
            return (INVALID_REPLICA_ASSIGNMENT, why);
        }
        wanted.push(node.id);
    }
    let there = view.copies(partition.partition().shard()).map_or(wanted.len(), |copies| copies.wanted.len());
    if there != wanted.len() && !terms.may_change_factor {
        let why = format!("The replication factor is changed from {there} to {}", wanted.len());
        return (INVALID_REPLICATION_FACTOR, why);
    }
    match context.broker().reassign(partition, &wanted, terms.deadline.saturating_duration_since(now())).await {
        Ok(()) => (NONE, String::new()),
        Err(ReassignError::NoShard(error @ OpenShardError::Copies { .. })) => {
            (INVALID_REPLICATION_FACTOR, format!("There can be no {} replicas: {error}.", wanted.len()))
        }
        Err(ReassignError::NoShard(error @ (OpenShardError::NotYet | OpenShardError::Propose(_)))) => {
            (REQUEST_TIMED_OUT, error.to_string())
        }
        Err(error @ ReassignError::LedByAnother) => (INVALID_REPLICA_ASSIGNMENT, format!("It cannot move: {error}.")),
        Err(ReassignError::NoShard(error)) => (INVALID_REPLICA_ASSIGNMENT, format!("It cannot move there: {error}.")),
        Err(ReassignError::Refused(error)) => (INVALID_REPLICA_ASSIGNMENT, format!("It cannot move there: {error}.")),
        Err(ReassignError::Moves(error)) => (REQUEST_TIMED_OUT, error.to_string()),
    }
}
