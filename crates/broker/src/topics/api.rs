//! What can be asked about topics, and the answers.

use std::sync::Arc;

use record::TopicId;

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
