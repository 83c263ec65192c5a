//! DeleteTopics: by name, and by id since version 6; one answer per topic.

use std::collections::BTreeMap;

use broker::topics::{DeleteTopicError, TopicSelector};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::topic_partition::{text, topic_id, topic_name, uuid};
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, NONE};

/// The first version that names topics in structures, by name or id.
const STRUCTURED: i16 = 6;
/// The first version that says that deleting is disabled.
const DISABLED_SINCE: i16 = 3;
/// The first version with texts.
const MESSAGES_SINCE: i16 = 5;

pub(super) async fn handle(context: &mut Context, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let asked = if version >= STRUCTURED {
        request.topics
    } else {
        request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect()
    };
    let mut times: BTreeMap<Key, u32> = BTreeMap::new();
    for topic in &asked {
        *times.entry(key(topic)).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    let mut selected = Vec::with_capacity(times.len());
    let mut topics = Vec::with_capacity(times.len());
    for topic in asked {
        let Some(count) = times.remove(&key(&topic)) else { continue };
        let problem = match (&topic.name, topic.topic_id.is_nil()) {
            (Some(_), false) => Some("You may not specify both topic name and topic id."),
            (None, true) => Some("Neither topic name nor id were specified."),
            (Some(_), true) if count > 1 => Some("Duplicate topic name."),
            (None, false) if count > 1 => Some("Duplicate topic id."),
            _ => None,
        };
        if let Some(problem) = problem {
            results.push(refused(topic, INVALID_REQUEST, problem, version));
            continue;
        }
        selected.push(match &topic.name {
            Some(name) => TopicSelector::Name(name.to_string()),
            None => TopicSelector::Id(topic_id(topic.topic_id)),
        });
        topics.push(topic);
    }
    let deleted = context.broker().topics().delete(selected).await;
    results.extend(topics.into_iter().zip(deleted).map(|(topic, result)| match result {
        Ok(deleted) => {
            let result =
                DeletableTopicResult::default().with_name(Some(topic_name(&deleted.name))).with_error_code(NONE);
            if version >= STRUCTURED { result.with_topic_id(uuid(deleted.id)) } else { result }
        }
        Err(error) => {
            let message = match &error {
                // Kafka's words for these two name no topic.
                DeleteTopicError::UnknownTopicOrPartition(_) => {
                    "This server does not host this topic-partition.".to_owned()
                }
                DeleteTopicError::UnknownTopicId(_) => "This server does not host this topic ID.".to_owned(),
                DeleteTopicError::InvalidRequest(_)
                | DeleteTopicError::TopicDeletionDisabled(_)
                | DeleteTopicError::Unavailable(_) => error.to_string(),
            };
            refused(topic, code(&error, version), &message, version)
        }
    }));
    DeleteTopicsResponse::default().with_responses(results)
}

/// Versions before the third have no word for deletion that is disabled, as in Kafka.
fn code(error: &DeleteTopicError, version: i16) -> i16 {
    match error {
        DeleteTopicError::TopicDeletionDisabled(_) if version < DISABLED_SINCE => INVALID_REQUEST,
        _ => error.code(),
    }
}

type Key = (Option<kafka_protocol::messages::TopicName>, u128);

fn key(topic: &DeleteTopicState) -> Key {
    (topic.name.clone(), topic.topic_id.as_u128())
}

fn refused(topic: DeleteTopicState, code: i16, message: &str, version: i16) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(topic.name).with_error_code(code);
    let result = if version >= STRUCTURED { result.with_topic_id(topic.topic_id) } else { result };
    if version >= MESSAGES_SINCE { result.with_error_message(Some(text(message))) } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::TOPIC_DELETION_DISABLED;

    #[test]
    fn that_deletion_is_disabled_is_said_in_the_words_of_the_version() {
        let error = DeleteTopicError::TopicDeletionDisabled(String::new());
        assert_eq!(
            [1, 2, 3, 6].map(|version| code(&error, version)),
            [INVALID_REQUEST, INVALID_REQUEST, TOPIC_DELETION_DISABLED, TOPIC_DELETION_DISABLED]
        );
    }
}
