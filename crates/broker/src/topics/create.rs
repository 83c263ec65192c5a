//! Creating topics: every rule is checked before anything is proposed, and one bad topic spoils no other.

use std::collections::BTreeSet;

use cluster::NewTopic;

use super::api::{CreateTopic, CreateTopicError, CreatedTopic};
use super::collisions::Collisions;
use super::names;
use super::replication;
use super::service::{Topics, unavailable};
use crate::configs;

/// Partitions that one request may create, as in Kafka.
const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

impl Topics {
    /// One answer per topic, in order, when all nodes have applied them. With `validate_only` nothing is created.
    pub async fn create(
        &self,
        topics: Vec<CreateTopic>,
        validate_only: bool,
    ) -> Vec<Result<CreatedTopic, CreateTopicError>> {
        let mut names_seen = BTreeSet::new();
        let mut partitions_left = PARTITIONS_PER_REQUEST_MAX;
        let mut collisions = Collisions::new(&self.cluster);
        let mut answers: Vec<Result<CreatedTopic, CreateTopicError>> = Vec::with_capacity(topics.len());
        let mut accepted = Vec::new();
        for (place, topic) in topics.iter().enumerate() {
            let checked = if names_seen.insert(topic.name.as_str()) {
                self.check(topic, &mut partitions_left, &mut collisions)
            } else {
                Err(CreateTopicError::InvalidRequest("Duplicate topic name.".to_owned()))
            };
            answers.push(checked.map(|new| {
                let created = self.created(&new);
                accepted.push((place, new));
                created
            }));
        }
        if validate_only || accepted.is_empty() {
            return answers;
        }
        let (places, new): (Vec<usize>, Vec<NewTopic>) = accepted.into_iter().unzip();
        let results = self.cluster.create_topics(new).await;
        assert_eq!(results.len(), places.len(), "the cluster answers for every topic");
        if results.iter().any(Result::is_ok) {
            self.cluster.settled().await;
        }
        for (place, result) in places.into_iter().zip(results) {
            let answer = &mut answers[place];
            match (result, answer) {
                (Ok(id), Ok(created)) => created.id = id,
                (Ok(_), Err(_)) => unreachable!("only topics without error are created"),
                (Err(error), answer) => *answer = Err(refused(&topics[place].name, &error)),
            }
        }
        answers
    }

    /// Creates topics with the defaults because someone asked for them by name; one that exists is no error. When
    /// automatic creation is off, nothing is created and nothing is said.
    pub async fn create_automatically(&self, names: Vec<String>) -> Vec<Result<(), CreateTopicError>> {
        if !self.config.auto_create_topics {
            return names.iter().map(|name| names::check(name).map_err(CreateTopicError::InvalidTopic)).collect();
        }
        let topics = names
            .into_iter()
            .map(|name| CreateTopic {
                name,
                partitions: -1,
                replication_factor: -1,
                assignments: Vec::new(),
                configs: Vec::new(),
            })
            .collect();
        let answers = self.create(topics, false).await;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(_) | Err(CreateTopicError::TopicAlreadyExists(_)) => Ok(()),
                Err(error) => Err(error),
            })
            .collect()
    }

    fn check(
        &self,
        topic: &CreateTopic,
        partitions_left: &mut i64,
        collisions: &mut Collisions<'_>,
    ) -> Result<NewTopic, CreateTopicError> {
        names::check(&topic.name).map_err(CreateTopicError::InvalidTopic)?;
        if self.cluster.metadata().topic_by_name(&topic.name).is_some() {
            return Err(exists(&topic.name));
        }
        if *partitions_left <= 0 {
            return Err(too_many_partitions());
        }
        if let Some(other) = collisions.find(&topic.name) {
            let why = format!("Topic '{}' collides with existing topic: {other}", topic.name);
            return Err(CreateTopicError::InvalidTopic(why));
        }
        let partitions = self.partitions(topic)?;
        *partitions_left -= i64::from(partitions);
        if *partitions_left < 0 || partitions > self.config.partitions_per_topic_max {
            return Err(too_many_partitions());
        }
        let checked = configs::check_new_topic(&topic.configs, self.config.limits(self.view().copies_max()));
        let configs = checked.map_err(CreateTopicError::InvalidConfig)?;
        let partitions = u32::try_from(partitions).expect("the number of partitions was checked to be above zero");
        Ok(NewTopic { name: topic.name.clone(), partitions, configs })
    }

    /// The number of partitions, from the request, its manual assignment, or the default.
    fn partitions(&self, topic: &CreateTopic) -> Result<i32, CreateTopicError> {
        if !topic.assignments.is_empty() {
            return self.assigned_partitions(topic);
        }
        replication::check_factor(topic.replication_factor, &self.view())
            .map_err(CreateTopicError::InvalidReplicationFactor)?;
        match topic.partitions {
            -1 => Ok(self.config.num_partitions),
            partitions if partitions > 0 => Ok(partitions),
            _ => Err(CreateTopicError::InvalidPartitions(
                "Number of partitions was set to an invalid non-positive value.".to_owned(),
            )),
        }
    }

    fn assigned_partitions(&self, topic: &CreateTopic) -> Result<i32, CreateTopicError> {
        if topic.replication_factor != -1 {
            let why = "A manual partition assignment was specified, but replication factor was not set to -1.";
            return Err(CreateTopicError::InvalidRequest(why.to_owned()));
        }
        if topic.partitions != -1 {
            let why = "A manual partition assignment was specified, but numPartitions was not set to -1.";
            return Err(CreateTopicError::InvalidRequest(why.to_owned()));
        }
        let view = self.view();
        let mut indexes = BTreeSet::new();
        for (index, brokers) in &topic.assignments {
            if !indexes.insert(*index) {
                let why = format!("Found multiple manual partition assignments for partition {index}");
                return Err(CreateTopicError::InvalidReplicaAssignment(why));
            }
            replication::check_assignment(brokers, &view).map_err(CreateTopicError::InvalidReplicaAssignment)?;
        }
        let consecutive = indexes.iter().zip(0..).all(|(index, expected)| *index == expected);
        if !consecutive {
            let why = "partitions should be a consecutive 0-based integer sequence";
            return Err(CreateTopicError::InvalidReplicaAssignment(why.to_owned()));
        }
        Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX))
    }

    /// The answer for a topic before it has an id.
    fn created(&self, new: &NewTopic) -> CreatedTopic {
        CreatedTopic {
            id: record::TopicId(0),
            partitions: i32::try_from(new.partitions).unwrap_or(i32::MAX),
            replication_factor: replication::factor(&self.view()),
            configs: self.cache.with_layers(|layers| layers.describe_topic(&new.configs)),
        }
    }
}

fn too_many_partitions() -> CreateTopicError {
    CreateTopicError::PolicyViolation("Excessively large number of partitions per request.".to_owned())
}

fn exists(name: &str) -> CreateTopicError {
    CreateTopicError::TopicAlreadyExists(format!("Topic '{name}' already exists."))
}

fn refused(name: &str, error: &cluster::CreateTopicError) -> CreateTopicError {
    match error {
        cluster::CreateTopicError::Refused(shard::CreateTopicError::Exists) => exists(name),
        cluster::CreateTopicError::Propose(error) => CreateTopicError::Unavailable(unavailable(error)),
        cluster::CreateTopicError::Refused(
            error @ (shard::CreateTopicError::IdTaken
            | shard::CreateTopicError::NoPartitions
            | shard::CreateTopicError::StreamsExhausted),
        ) => CreateTopicError::PolicyViolation(format!("The topic cannot be created: {error}.")),
        cluster::CreateTopicError::Stream(error) => {
            CreateTopicError::PolicyViolation(format!("The topic cannot be created: {error}."))
        }
    }
}
