//! Topics: their names, life and partitions, and how a request finds them.
//!
//! A resolved topic is immutable and shared. It is found in a cache whose entries count only while the metadata has
//! the version at which they were last compared with it, so that a request pays for one look-up, and whoever was
//! told that a topic was created, changed or deleted never finds the state before.

mod api;
mod cache;
mod collisions;
mod create;
mod delete;
pub(crate) mod names;
mod partitions;
mod replication;
mod service;
mod topic;

pub use api::{
    CreatePartitions, CreatePartitionsError, CreateTopic, CreateTopicError, CreatedTopic, DeleteTopicError,
    DeletedTopic, TopicSelector,
};
pub(crate) use cache::Cache;
pub use service::Topics;
pub(crate) use service::unavailable;
pub(crate) use topic::EarlierRange;
pub use topic::{Partition, PartitionLeader, PartitionRef, Topic};
