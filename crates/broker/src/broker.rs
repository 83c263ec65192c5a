//! The broker: one handle that all protocols share.

use std::sync::Arc;

use base::random::Random;
use base::time::WallClock;
use cluster::Cluster;

use crate::configs::Configs;
use crate::connections::Connections;
use crate::groups::Groups;
use crate::topics::Topics;
use crate::Config;

/// Where time and chance come from.
#[derive(Debug, Clone)]
pub struct Environment {
    pub clock: Arc<dyn WallClock>,
    pub random: Arc<dyn Random>,
}

/// A cheap handle; all clones are the same broker.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    environment: Environment,
    cluster: Cluster,
    config: Config,
    topics: Topics,
    configs: Configs,
    groups: Groups,
    connections: Arc<Connections>,
}

impl Broker {
    /// Starts the broker's own tasks on a cluster that has started.
    pub fn start(environment: Environment, cluster: Cluster, config: Config) -> Self {
        let _ = (environment, cluster, config);
        todo!()
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

    /// Identity, nodes and controller are the cluster's to know.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Wakes everyone who waits, with errors that clients repeat elsewhere, and refuses what comes after.
    pub async fn shutdown(&self) {
        todo!()
    }
}
