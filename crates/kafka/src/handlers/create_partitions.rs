//! CreatePartitions: one answer per topic.

use std::collections::BTreeMap;

use broker::topics::{CreatePartitions, CreatePartitionsError};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};

use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, NONE};

pub(super) async fn handle(
    context: &mut Context,
    request: CreatePartitionsRequest,
    _: i16,
) -> CreatePartitionsResponse {
    let mut times: BTreeMap<TopicName, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    let mut names = Vec::with_capacity(times.len());
    let mut wanted = Vec::with_capacity(times.len());
    for topic in request.topics {
        match times.remove(&topic.name) {
            Some(1) => {
                let assignments = topic.assignments.map(|partitions| {
                    partitions
                        .into_iter()
                        .map(|partition| partition.broker_ids.into_iter().map(|id| id.0).collect())
                        .collect()
                });
                wanted.push(CreatePartitions { name: topic.name.to_string(), total: topic.count, assignments });
                names.push(topic.name);
            }
            Some(_) => results.push(result(topic.name, INVALID_REQUEST, Some("Duplicate topic name."))),
            None => {}
        }
    }
    let created = context.broker().topics().create_partitions(wanted, request.validate_only).await;
    results.extend(names.into_iter().zip(created).map(|(name, created)| match created {
        Ok(()) => result(name, NONE, None),
        // Kafka leaves this one without text.
        Err(error @ CreatePartitionsError::UnknownTopicOrPartition(_)) => result(name, error.code(), None),
        Err(error) => result(name, error.code(), Some(&error.to_string())),
    }));
    CreatePartitionsResponse::default().with_results(results)
}

fn result(name: TopicName, code: i16, message: Option<&str>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default().with_name(name).with_error_code(code).with_error_message(message.map(text))
}
