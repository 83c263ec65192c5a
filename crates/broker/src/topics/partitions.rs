//! Adding partitions to a topic. There is no way to take any away.

use std::collections::BTreeSet;

use record::TopicId;

use super::api::{CreatePartitions, CreatePartitionsError};
use super::replication;
use super::service::{Topics, unavailable};

impl Topics {
    /// One answer per topic, in order, when all nodes have applied them. With `validate_only` nothing is created.
    pub async fn create_partitions(
        &self,
        topics: Vec<CreatePartitions>,
        validate_only: bool,
    ) -> Vec<Result<(), CreatePartitionsError>> {
        let mut seen = BTreeSet::new();
        let mut answers = Vec::with_capacity(topics.len());
        let mut changed = false;
        for topic in &topics {
            let checked = if seen.insert(topic.name.as_str()) {
                self.check_partitions(topic)
            } else {
                Err(CreatePartitionsError::InvalidRequest("Duplicate topic name.".to_owned()))
            };
            answers.push(match checked {
                Ok(_) if validate_only => Ok(()),
                Ok((id, total)) => {
                    let added = self.cluster.add_partitions(id, total).await;
                    changed |= added.is_ok();
                    added.map_err(|error| refused(&error))
                }
                Err(error) => Err(error),
            });
        }
        if changed {
            self.cluster.settled().await;
        }
        answers
    }

    fn check_partitions(&self, topic: &CreatePartitions) -> Result<(TopicId, u32), CreatePartitionsError> {
        let (id, current) = {
            let metadata = self.cluster.metadata();
            let known = metadata.topic_by_name(&topic.name).ok_or_else(unknown)?;
            (known.id, known.partitions.len())
        };
        let current = i32::try_from(current).unwrap_or(i32::MAX);
        if topic.total == current {
            return Err(CreatePartitionsError::InvalidPartitions(has_already(current)));
        }
        if topic.total < current {
            return Err(CreatePartitionsError::InvalidPartitions(format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                topic.name, topic.total
            )));
        }
        if topic.total > self.config.partitions_per_topic_max {
            let max = self.config.partitions_per_topic_max;
            let why = format!("A topic can have at most {max} partitions; {} were asked for.", topic.total);
            return Err(CreatePartitionsError::InvalidPartitions(why));
        }
        if let Some(assignments) = &topic.assignments {
            let added = usize::try_from(topic.total - current).unwrap_or(0);
            if assignments.len() != added {
                return Err(CreatePartitionsError::InvalidReplicaAssignment(format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                )));
            }
            let view = self.view();
            for brokers in assignments {
                replication::check_assignment(brokers, &view)
                    .map_err(CreatePartitionsError::InvalidReplicaAssignment)?;
            }
        }
        let total = u32::try_from(topic.total).expect("more partitions than now are more than none");
        Ok((id, total))
    }
}

fn unknown() -> CreatePartitionsError {
    CreatePartitionsError::UnknownTopicOrPartition("This server does not host this topic-partition.".to_owned())
}

fn has_already(current: i32) -> String {
    format!("Topic already has {current} partition(s).")
}

fn refused(error: &cluster::AddPartitionsError) -> CreatePartitionsError {
    match error {
        cluster::AddPartitionsError::Refused(shard::AddPartitionsError::UnknownTopic) => unknown(),
        cluster::AddPartitionsError::NotMore { current } => {
            CreatePartitionsError::InvalidPartitions(format!("Topic already has {current} partition(s)."))
        }
        cluster::AddPartitionsError::Refused(
            error @ (shard::AddPartitionsError::CountChanged { .. } | shard::AddPartitionsError::InProgress),
        ) => CreatePartitionsError::Unavailable(format!("The topic is being changed: {error}.")),
        cluster::AddPartitionsError::Refused(error @ shard::AddPartitionsError::StreamsExhausted) => {
            CreatePartitionsError::InvalidPartitions(format!("The partitions cannot be created: {error}."))
        }
        cluster::AddPartitionsError::Stream(error) => {
            CreatePartitionsError::InvalidPartitions(format!("The partitions cannot be created: {error}."))
        }
        cluster::AddPartitionsError::Propose(error) => CreatePartitionsError::Unavailable(unavailable(error)),
    }
}
