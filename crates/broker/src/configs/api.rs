//! What can be asked about configurations, and the answers.

use record::NodeId;

/// Whose configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    Topic(String),
    /// One node.
    Broker(NodeId),
    /// The default of all nodes.
    BrokerDefault,
}

/// Where a value comes from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    DynamicTopic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// One key of a resource with its effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// `None` when there is none, or when it is sensitive.
    pub value: Option<String>,
    pub kind: ValueKind,
    pub source: Source,
    pub read_only: bool,
    pub sensitive: bool,
    /// The value and those it hides, strongest first.
    pub synonyms: Vec<Synonym>,
    pub documentation: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    Set,
    Delete,
    Append,
    Subtract,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub name: String,
    pub kind: OperationKind,
    pub value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// The whole dynamic configuration becomes this (AlterConfigs).
    Replace(Vec<(String, Option<String>)>),
    /// Changes of single keys (IncrementalAlterConfigs).
    Incremental(Vec<Operation>),
}

/// The text of each is what the client is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeConfigsError {
    #[error("{0}")]
    UnknownTopicOrPartition(String),
    #[error("{0}")]
    InvalidTopic(String),
    #[error("{0}")]
    InvalidRequest(String),
}

/// The text of each is what the client is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigsError {
    #[error("{0}")]
    UnknownTopicOrPartition(String),
    #[error("{0}")]
    InvalidTopic(String),
    #[error("{0}")]
    InvalidConfig(String),
    #[error("{0}")]
    InvalidRequest(String),
    /// May be repeated.
    #[error("{0}")]
    Unavailable(String),
}
