//! CreateTopics: one answer per topic, with its whole configuration since version 5.

use std::collections::BTreeMap;

use broker::configs::Entry;
use broker::topics::{CreateTopic, CreatedTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};

use super::describe_configs::source_code;
use super::topic_partition::{text, uuid};
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST};

pub(super) async fn handle(context: &mut Context, request: CreateTopicsRequest, _: i16) -> CreateTopicsResponse {
    let mut times: BTreeMap<TopicName, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    let mut wanted = Vec::with_capacity(times.len());
    let mut names = Vec::with_capacity(times.len());
    for topic in request.topics {
        match times.remove(&topic.name) {
            Some(1) => {
                names.push(topic.name.clone());
                wanted.push(wish(topic));
            }
            Some(_) => results.push(refused(topic.name, INVALID_REQUEST, "Duplicate topic name.")),
            // Answered where it was named first.
            None => {}
        }
    }
    let created = context.broker().topics().create(wanted, request.validate_only).await;
    results.extend(names.into_iter().zip(created).map(|(name, result)| match result {
        Ok(created) => answer(name, created),
        Err(error) => refused(name, error.code(), &error.to_string()),
    }));
    CreateTopicsResponse::default().with_topics(results)
}

fn wish(topic: CreatableTopic) -> CreateTopic {
    let assignments = topic
        .assignments
        .into_iter()
        .map(|assignment| (assignment.partition_index, assignment.broker_ids.into_iter().map(|id| id.0).collect()))
        .collect();
    let configs = topic
        .configs
        .into_iter()
        .map(|config| (config.name.to_string(), config.value.map(|value| value.to_string())))
        .collect();
    CreateTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
    }
}

fn answer(name: TopicName, created: CreatedTopic) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_topic_id(uuid(created.id))
        .with_error_message(None)
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        // Never null: clients take it for granted since version 5.
        .with_configs(Some(created.configs.into_iter().map(config).collect()))
}

fn config(entry: Entry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(text(entry.name))
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(source_code(entry.source))
        .with_is_sensitive(entry.sensitive)
}

fn refused(name: TopicName, code: i16, message: &str) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(code)
        .with_error_message(Some(text(message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}
