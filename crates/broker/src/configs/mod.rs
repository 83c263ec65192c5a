//! Configuration of topics and brokers under Kafka's keys: one table, layered values, checked changes.
//!
//! A value is looked for in layers, strongest first: set on the topic, set on this node, set on all nodes, given in
//! this node's configuration file, the key's default. What a key does is said by its documentation; keys that are
//! kept without being applied yet are named in the log when they are set. Values that would promise what does not
//! exist are refused.

mod alter;
mod api;
mod effective;
mod layers;
mod service;
mod table;
mod value;

pub(crate) use alter::{Limits, check_new_topic};
pub use api::{
    AlterConfigsError, Alteration, DescribeConfigsError, Entry, Operation, OperationKind, Resource, Source, Synonym,
    ValueKind,
};
pub(crate) use effective::{Compaction, Retention, TopicSettings};
pub(crate) use layers::{Layers, Values};
pub use service::Configs;
