//! ElectLeaders: gives the lead back to the first replica. A shard's partitions are led together.

use std::collections::BTreeMap;

use base::time::{Duration, timeout};
use broker::topics::Topic;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use record::ShardId;

use super::room::{Room, without_repeats};
use super::topic_partition::{text, topic_name};
use crate::context::Context;
use crate::errors::{
    Code, ELECTION_NOT_NEEDED, ELIGIBLE_LEADERS_NOT_AVAILABLE, INVALID_REQUEST, NONE, PREFERRED_LEADER_NOT_AVAILABLE,
    REQUEST_TIMED_OUT, UNKNOWN_TOPIC_OR_PARTITION,
};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// The longest that a request waits, whatever it says.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What was found out of each shard.
struct Elections<'a> {
    context: &'a Context,
    is_unclean: bool,
    wait: Duration,
    known: BTreeMap<ShardId, i16>,
}

pub(super) async fn handle(context: &mut Context, request: ElectLeadersRequest, _: i16) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return response.with_error_code(INVALID_REQUEST);
    }
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(WAIT_MAX);
    let mut elections =
        Elections { context, is_unclean: request.election_type == UNCLEAN, wait, known: BTreeMap::new() };
    let mut room = Room::of(context);
    let mut results = Vec::new();
    match request.topic_partitions {
        Some(mut asked) => {
            without_repeats(&mut asked, |topic| topic.topic.to_string());
            for topic in asked {
                let known = context.broker().topics().resolve(&topic.topic);
                let mut partitions = Vec::with_capacity(topic.partitions.len());
                for index in topic.partitions {
                    partitions.push(elections.named(&topic.topic, known.as_deref(), index).await);
                }
                results.push(elected(topic.topic, partitions));
            }
        }
        // Of all, those that stay as they are are not told.
        None => {
            for topic in context.broker().topics().all() {
                let mut partitions = Vec::new();
                for (index, partition) in (0..).zip(&topic.partitions) {
                    let code = elections.elect(partition.shard()).await;
                    if code != ELECTION_NOT_NEEDED {
                        partitions.push(result(index, code));
                    }
                }
                room.take(partitions.len() * size_of::<PartitionResult>());
                if room.is_used_up() {
                    return response.with_error_code(INVALID_REQUEST);
                }
                if !partitions.is_empty() {
                    results.push(elected(topic_name(&topic.name), partitions));
                }
            }
        }
    }
    response.with_replica_election_results(results)
}

impl Elections<'_> {
    async fn named(&mut self, name: &str, topic: Option<&Topic>, index: i32) -> PartitionResult {
        let unknown = |what: String| result(index, UNKNOWN_TOPIC_OR_PARTITION).with_error_message(Some(text(what)));
        let Some(topic) = topic else { return unknown(format!("No such topic as {name}")) };
        let partition = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
        let Some(partition) = partition else { return unknown(format!("No such partition as {name}-{index}")) };
        result(index, self.elect(partition.shard()).await)
    }

    /// The code for every partition of the shard.
    async fn elect(&mut self, shard: ShardId) -> i16 {
        if let Some(code) = self.known.get(&shard) {
            return *code;
        }
        let code = self.elect_leader(shard).await;
        self.known.insert(shard, code);
        code
    }

    async fn elect_leader(&self, shard: ShardId) -> i16 {
        let broker = self.context.broker();
        let view = broker.nodes();
        let Some(copies) = view.copies(shard) else { return PREFERRED_LEADER_NOT_AVAILABLE };
        if self.is_unclean {
            // Who lacks what was acknowledged never leads.
            return if broker.is_led(shard) { ELECTION_NOT_NEEDED } else { ELIGIBLE_LEADERS_NOT_AVAILABLE };
        }
        if broker.is_led_as_preferred(copies, shard) {
            return ELECTION_NOT_NEEDED;
        }
        if copies.wanted.first().is_none_or(|first| copies.offline.contains(first)) {
            return PREFERRED_LEADER_NOT_AVAILABLE;
        }
        match timeout(self.wait, broker.prefer_leader(shard)).await {
            Ok(Ok(())) => NONE,
            Ok(Err(error)) => error.code(),
            Err(_) => REQUEST_TIMED_OUT,
        }
    }
}

fn elected(topic: TopicName, partitions: Vec<PartitionResult>) -> ReplicaElectionResult {
    ReplicaElectionResult::default().with_topic(topic).with_partition_result(partitions)
}

fn result(index: i32, code: i16) -> PartitionResult {
    let message = match code {
        ELECTION_NOT_NEEDED => Some("Leader election not needed for topic partition."),
        PREFERRED_LEADER_NOT_AVAILABLE => Some("The preferred leader was not available."),
        ELIGIBLE_LEADERS_NOT_AVAILABLE => Some("Eligible topic partition leaders are not available."),
        REQUEST_TIMED_OUT => Some("The request timed out."),
        _ => None,
    };
    PartitionResult::default().with_partition_id(index).with_error_code(code).with_error_message(message.map(text))
}
