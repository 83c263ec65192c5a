//! Topics: their names, life and partitions, and how a request finds them.

use std::sync::Arc;

use record::TopicId;

/// A topic as it was when it was resolved: immutable, shared, cheap to hold.
#[derive(Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<Partition>,
}

/// One partition of a topic.
#[derive(Debug)]
pub struct Partition {
    pub index: i32,
}

/// A partition with its topic.
#[derive(Debug, Clone)]
pub struct PartitionRef {
    topic: Arc<Topic>,
    index: usize,
}

impl PartitionRef {
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }
    pub fn partition(&self) -> &Partition {
        &self.topic.partitions[self.index]
    }
}

#[derive(Debug, Clone)]
pub struct CreateTopic {
    pub name: String,
    /// -1: the default, `num.partitions`.
    pub partitions: i32,
    /// -1 or 1.
    pub replication_factor: i16,
    /// Manual assignment: partition index and broker ids; partitions and replication factor must be -1 then.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// A value of `None` means the default.
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    /// The effective configuration, every key.
    pub configs: Vec<crate::configs::Entry>,
}

/// The text of each is what the client is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    #[error("{0}")]
    InvalidTopic(String),
    #[error("{0}")]
    TopicAlreadyExists(String),
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplicationFactor(String),
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    #[error("{0}")]
    InvalidConfig(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    PolicyViolation(String),
    /// May be repeated: no leader, the disk full, the broker stopping.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelector {
    Name(String),
    Id(TopicId),
}

#[derive(Debug, Clone)]
pub struct DeletedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    #[error("{0}")]
    UnknownTopicOrPartition(String),
    #[error("{0}")]
    UnknownTopicId(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    TopicDeletionDisabled(String),
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Debug, Clone)]
pub struct CreatePartitions {
    pub name: String,
    /// The new total.
    pub total: i32,
    /// Brokers of each new partition, or none for the broker to choose.
    pub assignments: Option<Vec<Vec<i32>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    #[error("{0}")]
    UnknownTopicOrPartition(String),
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    Unavailable(String),
}

/// The topics of the cluster, as this node knows them.
#[derive(Debug)]
pub struct Topics {}

impl Topics {
    /// Cheap: one lookup, no copy.
    pub fn resolve(&self, name: &str) -> Option<Arc<Topic>> {
        let _ = name;
        todo!()
    }
    pub fn resolve_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        let _ = id;
        todo!()
    }
    /// A partition by topic name.
    pub fn partition(&self, name: &str, index: i32) -> Option<PartitionRef> {
        let _ = (name, index);
        todo!()
    }
    /// A partition by topic id.
    pub fn partition_by_id(&self, id: TopicId, index: i32) -> Option<PartitionRef> {
        let _ = (id, index);
        todo!()
    }
    /// Every live topic, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        todo!()
    }
    /// Whether a topic may have this name; the text says why not.
    pub fn check_name(name: &str) -> Result<(), String> {
        let _ = name;
        todo!()
    }
    /// One answer per topic, in order. Answered when every node has applied them.
    pub async fn create(
        &self,
        topics: Vec<CreateTopic>,
        validate_only: bool,
    ) -> Vec<Result<CreatedTopic, CreateTopicError>> {
        let _ = (topics, validate_only);
        todo!()
    }
    /// Creates topics with the defaults because someone asked for them by name; those that exist are no error.
    /// Invalid names are refused; when automatic creation is off nothing is created.
    pub async fn create_automatically(&self, names: Vec<String>) -> Vec<Result<(), CreateTopicError>> {
        let _ = names;
        todo!()
    }
    pub async fn delete(&self, topics: Vec<TopicSelector>) -> Vec<Result<DeletedTopic, DeleteTopicError>> {
        let _ = topics;
        todo!()
    }
    pub async fn create_partitions(
        &self,
        topics: Vec<CreatePartitions>,
        validate_only: bool,
    ) -> Vec<Result<(), CreatePartitionsError>> {
        let _ = (topics, validate_only);
        todo!()
    }
}
