//! The topics of the cluster, as this node knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::Cluster;
use record::{ShardId, StreamId, TopicId};
use replica::ProposeError;

use super::cache::Cache;
use super::names;
use super::topic::{PartitionRef, Topic};
use crate::Config;
use crate::nodes::{ClusterView, Nodes};

/// See the module above.
#[derive(Debug)]
pub struct Topics {
    pub(super) cluster: Cluster,
    pub(super) config: Arc<Config>,
    pub(super) cache: Arc<Cache>,
    nodes: Arc<Nodes>,
}

impl Topics {
    pub(crate) fn new(cluster: Cluster, config: Arc<Config>, cache: Arc<Cache>, nodes: Arc<Nodes>) -> Self {
        Self { cluster, config, cache, nodes }
    }

    /// Cheap: one look-up, no copy.
    pub fn resolve(&self, name: &str) -> Option<Arc<Topic>> {
        self.cache.by_name(name)
    }

    /// As [`Self::resolve`], by id.
    pub fn resolve_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.cache.by_id(id)
    }

    /// A partition by topic name.
    pub fn partition(&self, name: &str, index: i32) -> Option<PartitionRef> {
        PartitionRef::new(self.resolve(name)?, index)
    }

    /// A partition by topic id.
    pub fn partition_by_id(&self, id: TopicId, index: i32) -> Option<PartitionRef> {
        PartitionRef::new(self.resolve_id(id)?, index)
    }

    /// The partition as it is now; none if it is gone. One that is held for long may have moved.
    pub fn again(&self, partition: &PartitionRef) -> Option<PartitionRef> {
        self.partition_by_id(partition.topic().id, partition.index())
    }

    /// Every live topic, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.cache.all()
    }

    /// Asks other nodes for what this one needs to tell the leader epochs of these topics' partitions, if it lacks any. Takes
    /// half a second at most.
    pub async fn learn_epochs(&self, topics: impl Iterator<Item = &Topic>) {
        let mut unknown: BTreeMap<ShardId, Vec<StreamId>> = BTreeMap::new();
        for partition in topics.flat_map(|topic| &topic.partitions).filter(|partition| !partition.knows_epoch()) {
            unknown.entry(partition.shard()).or_default().push(partition.stream);
        }
        if !unknown.is_empty() {
            self.cluster.learn_epochs(unknown).await;
        }
    }

    /// Whether a topic may have this name; the text says why not.
    pub fn check_name(name: &str) -> Result<(), String> {
        names::check(name)
    }

    pub(super) fn view(&self) -> Arc<ClusterView> {
        self.nodes.view()
    }
}

/// What a client is told when the metadata cannot be changed now.
pub(crate) fn unavailable(error: &ProposeError) -> String {
    format!("The request cannot be served now: {error}.")
}
