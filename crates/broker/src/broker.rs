//! The broker: one handle that all protocols share.

use std::sync::Arc;

use base::Env;
use cluster::{Cluster, METADATA};
use record::NodeId;
use tokio::sync::Semaphore;

use crate::background::Background;
use crate::configs::Configs;
use crate::connections::Connections;
use crate::groups::Groups;
use crate::memory::Memory;
use crate::nodes::{ClusterView, Nodes};
use crate::producer_ids::ProducerIds;
use crate::retention;
use crate::sizes::Sizes;
use crate::topics::{Cache, Topics};
use crate::{Config, compaction};

/// A cheap handle; all clones are the same broker.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    environment: Env,
    cluster: Cluster,
    config: Arc<Config>,
    topics: Topics,
    configs: Configs,
    groups: Groups,
    producer_ids: ProducerIds,
    connections: Arc<Connections>,
    memory: Memory,
    nodes: Arc<Nodes>,
    /// Lookups that unpack batches at the same time.
    lookups: Arc<Semaphore>,
    retention: Background,
    compaction: Background,
    sizes: Sizes,
    /// Held while what takes space is counted.
    counting: tokio::sync::Mutex<()>,
}

/// See [`Inner::lookups`]; the others wait for their turn.
const LOOKUPS_MAX: usize = 4;

impl Broker {
    /// The broker of a cluster that has started.
    pub fn start(environment: Env, cluster: Cluster, config: Config) -> Self {
        let config = Arc::new(config);
        let cache = Arc::new(Cache::new(cluster.clone(), config.fixed_keys(cluster.node_id())));
        let nodes = Arc::new(Nodes::new(cluster.clone()));
        let topics = Topics::new(cluster.clone(), Arc::clone(&config), Arc::clone(&cache), Arc::clone(&nodes));
        let inner = Inner {
            topics,
            configs: Configs::new(cluster.clone(), Arc::clone(&cache), config.batch_bytes_max),
            retention: retention::start(
                environment.clone(),
                cluster.clone(),
                Arc::clone(&cache),
                config.retention_check_interval,
            ),
            compaction: compaction::start(
                environment.clone(),
                cluster.clone(),
                Arc::clone(&cache),
                config.compaction_interval,
            ),
            groups: Groups::new(environment.clone(), cluster.clone(), Arc::clone(&config), cache),
            sizes: Sizes::default(),
            counting: tokio::sync::Mutex::default(),
            producer_ids: ProducerIds::new(cluster.clone()),
            connections: Connections::new(config.connections_max),
            memory: Memory::new(config.memory_bytes_max),
            nodes,
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            environment,
            cluster,
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn sizes(&self) -> &Sizes {
        &self.inner.sizes
    }

    pub(crate) fn counting(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.counting
    }

    pub fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    pub fn configs(&self) -> &Configs {
        &self.inner.configs
    }

    pub fn groups(&self) -> &Groups {
        &self.inner.groups
    }

    pub fn connections(&self) -> &Arc<Connections> {
        &self.inner.connections
    }

    pub fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    /// Identity, nodes and controller are the cluster's to know.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// The nodes and where the copies of shards are, as of now.
    pub fn nodes(&self) -> Arc<ClusterView> {
        self.inner.nodes.view()
    }

    /// Who leads the metadata, as far as this node knows.
    pub fn controller(&self) -> Option<NodeId> {
        self.inner.cluster.leader(METADATA)
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn environment(&self) -> &Env {
        &self.inner.environment
    }

    pub(crate) fn lookups(&self) -> &Arc<Semaphore> {
        &self.inner.lookups
    }

    pub(crate) fn producer_ids(&self) -> &ProducerIds {
        &self.inner.producer_ids
    }

    /// Ends retention and compaction, and what waits in groups, with an error that makes members look for their coordinator again, and takes no
    /// more of them. Appends and fetches end with the cluster.
    pub async fn shutdown(&self) {
        self.inner.retention.shutdown().await;
        self.inner.compaction.shutdown().await;
        self.inner.groups.shutdown().await;
    }
}
