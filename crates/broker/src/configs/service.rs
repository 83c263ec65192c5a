//! Configurations of the cluster: read through the layers, changed in the metadata.

use std::sync::Arc;

use cluster::{Cluster, METADATA};
use record::NodeId;
use shard::commands::{AlterConfigs, ConfigAlteration};
use shard::{AlterConfigError, ConfigResource, Outcome};

use super::alter::{self, Change, Kind, Limits};
use super::api::{AlterConfigsError, Alteration, DescribeConfigsError, Entry, Resource};
use super::layers::Values;
use crate::topics::{Cache, names};

/// A change that was computed from values that changed meanwhile is computed again this often.
const ATTEMPTS_MAX: usize = 8;

/// Reads and changes configurations.
#[derive(Debug)]
pub struct Configs {
    cluster: Cluster,
    cache: Arc<Cache>,
    batch_bytes_max: usize,
}

impl Configs {
    pub(crate) fn new(cluster: Cluster, cache: Arc<Cache>, batch_bytes_max: usize) -> Self {
        Self { cluster, cache, batch_bytes_max }
    }

    /// All keys, or those named; unknown names are left out.
    pub fn describe(&self, resource: &Resource, keys: Option<&[String]>) -> Result<Vec<Entry>, DescribeConfigsError> {
        let mut entries = match resource {
            Resource::Topic(name) => {
                names::check(name).map_err(DescribeConfigsError::InvalidTopic)?;
                let configs = self.cluster.metadata().topic_by_name(name).map(|topic| topic.configs.clone());
                let unknown = || DescribeConfigsError::UnknownTopicOrPartition(String::new());
                let configs = configs.ok_or_else(unknown)?;
                self.cache.with_layers(|layers| layers.describe_topic(&configs))
            }
            Resource::Broker(node) => {
                self.check_node(*node).map_err(DescribeConfigsError::InvalidRequest)?;
                self.cache.with_layers(|layers| layers.describe_broker())
            }
            Resource::BrokerDefault => self.cache.with_layers(|layers| layers.describe_all_nodes()),
        };
        if let Some(keys) = keys {
            entries.retain(|entry| keys.iter().any(|key| key == entry.name));
        }
        Ok(entries)
    }

    /// Changes one resource, all or nothing. With `validate_only` nothing is changed.
    pub async fn alter(
        &self,
        resource: &Resource,
        alteration: Alteration,
        validate_only: bool,
    ) -> Result<(), AlterConfigsError> {
        let mut is_current = false;
        for _ in 0..ATTEMPTS_MAX {
            let copies_max = self.cluster.metadata().copies().into();
            let limits = Limits { batch_bytes_max: self.batch_bytes_max, copies_max };
            let current = self.current(resource);
            if let Err(AlterConfigsError::UnknownTopicOrPartition(_)) = current {
                // An alteration that no topic can have is told first, as Kafka's controller does.
                alter::plan(Kind::Topic, &Values::new(), &alteration, limits)?;
            }
            let (target, kind, version, current) = current?;
            let Change { set, remove } = alter::plan(kind, &current, &alteration, limits)?;
            if validate_only {
                return Ok(());
            }
            if set.is_empty() && remove.is_empty() {
                if is_current {
                    return Ok(());
                }
                // It may be so only in this node's copy.
                if !self.cluster.follow_metadata().await {
                    return Err(AlterConfigsError::Unavailable(
                        "This node's copy of the metadata is behind.".to_owned(),
                    ));
                }
                is_current = true;
                continue;
            }
            let alteration = ConfigAlteration { resource: target, expected_version: Some(version), set, remove };
            let command = AlterConfigs { alterations: vec![alteration] };
            let outcome = self.cluster.propose(METADATA, command.into()).await;
            let results = match outcome {
                Ok(Outcome::AlterConfigs(results)) => results,
                Ok(other) => unreachable!("an alteration has its own outcome, not {other:?}"),
                Err(error) => {
                    return Err(AlterConfigsError::Unavailable(crate::topics::unavailable(&error)));
                }
            };
            match results.first() {
                Some(Ok(_)) => {
                    self.cluster.settled().await;
                    return Ok(());
                }
                Some(Err(AlterConfigError::UnknownTopic)) => return Err(unknown_topic(resource)),
                // What others changed may not have come to this node yet.
                Some(Err(AlterConfigError::Conflict { .. })) | None => self.cluster.settled().await,
            }
        }
        Err(AlterConfigsError::Unavailable("The configuration is being changed by others.".to_owned()))
    }

    fn current(&self, resource: &Resource) -> Result<(ConfigResource, Kind, u64, Values), AlterConfigsError> {
        let metadata = self.cluster.metadata();
        let (target, kind) = match resource {
            Resource::Topic(name) => {
                if name.is_empty() {
                    let why = "Default topic resources are not allowed.";
                    return Err(AlterConfigsError::InvalidRequest(why.to_owned()));
                }
                names::check(name).map_err(AlterConfigsError::InvalidTopic)?;
                let topic = metadata.topic_by_name(name).ok_or_else(|| unknown_topic(resource))?;
                (ConfigResource::Topic(topic.id), Kind::Topic)
            }
            Resource::Broker(node) => {
                self.check_node(*node).map_err(AlterConfigsError::InvalidRequest)?;
                (ConfigResource::Broker(Some(*node)), Kind::Broker)
            }
            Resource::BrokerDefault => (ConfigResource::Broker(None), Kind::Broker),
        };
        let (version, values) = metadata.configs(&target);
        Ok((target, kind, version, values))
    }

    /// A node answers for itself only.
    fn check_node(&self, node: NodeId) -> Result<(), String> {
        let own = self.cluster.node_id();
        if node == own { Ok(()) } else { Err(format!("Unexpected broker id, expected {own} but received {node}")) }
    }
}

fn unknown_topic(resource: &Resource) -> AlterConfigsError {
    let name = match resource {
        Resource::Topic(name) => name.as_str(),
        Resource::Broker(_) | Resource::BrokerDefault => "",
    };
    AlterConfigsError::UnknownTopicOrPartition(format!("The topic '{name}' does not exist."))
}
