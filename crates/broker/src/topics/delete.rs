//! Deleting topics, by name or by id. Once it is answered nobody finds them any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use record::TopicId;

use super::api::{DeleteTopicError, DeletedTopic, TopicSelector};
use super::service::{Topics, unavailable};

const UNKNOWN_NAME: &str = "This server does not host this topic-partition.";
const UNKNOWN_ID: &str = "This server does not host this topic ID.";

impl Topics {
    /// One answer per topic, in order, when all nodes have applied them.
    pub async fn delete(&self, topics: Vec<TopicSelector>) -> Vec<Result<DeletedTopic, DeleteTopicError>> {
        let mut seen = BTreeSet::new();
        let answers: Vec<Result<DeletedTopic, DeleteTopicError>> = topics
            .iter()
            .map(|selector| {
                let found = self.find(selector)?;
                if seen.insert(found.id) {
                    Ok(found)
                } else {
                    Err(DeleteTopicError::InvalidRequest("Duplicate topic in the request.".to_owned()))
                }
            })
            .collect();
        let ids: Vec<TopicId> = answers.iter().flatten().map(|found| found.id).collect();
        if ids.is_empty() {
            return answers;
        }
        let results = self.cluster.delete_topics(ids).await;
        if results.iter().any(Result::is_ok) {
            self.cluster.settled().await;
        }
        let mut results = results.into_iter();
        let answers = answers
            .into_iter()
            .map(|found| {
                let found = found?;
                match results.next().expect("the cluster answers for every topic") {
                    Ok(()) => Ok(found),
                    Err(cluster::DeleteTopicError::UnknownTopic) => {
                        Err(DeleteTopicError::UnknownTopicOrPartition(UNKNOWN_NAME.to_owned()))
                    }
                    Err(cluster::DeleteTopicError::Propose(error)) => {
                        Err(DeleteTopicError::Unavailable(unavailable(&error)))
                    }
                }
            })
            .collect();
        assert!(results.next().is_none(), "the cluster answers for these topics only");
        answers
    }

    fn find(&self, selector: &TopicSelector) -> Result<DeletedTopic, DeleteTopicError> {
        if !self.config.delete_topics {
            return Err(DeleteTopicError::TopicDeletionDisabled("Topic deletion is disabled.".to_owned()));
        }
        let metadata = self.cluster.metadata();
        let (topic, unknown) = match selector {
            TopicSelector::Name(name) => {
                (metadata.topic_by_name(name), DeleteTopicError::UnknownTopicOrPartition(UNKNOWN_NAME.to_owned()))
            }
            TopicSelector::Id(id) => {
                let live = metadata.topic(*id).filter(|topic| topic.state != shard::TopicState::Deleting);
                (live, DeleteTopicError::UnknownTopicId(UNKNOWN_ID.to_owned()))
            }
        };
        topic.map(|topic| DeletedTopic { name: Arc::from(topic.name.as_str()), id: topic.id }).ok_or(unknown)
    }
}
