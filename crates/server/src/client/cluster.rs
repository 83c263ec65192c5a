//! The brokers of a cluster as a client sees them: who they are, who leads what, a connection to each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::time::{Instant, now, sleep};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;
use super::{error_name, error_text, is_retriable};
use crate::cli::ConnectArgs;
use crate::config::listener::join;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Cluster {
    bootstrap: Vec<String>,
    timeout: Duration,
    any: Option<Connection>,
    nodes: BTreeMap<i32, Node>,
}

#[derive(Debug)]
struct Node {
    address: String,
    connection: Option<Connection>,
}

/// Leader and epoch of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) epoch: i32,
}

impl Cluster {
    /// Connects to the first broker of the list that answers.
    pub(super) async fn connect(args: &ConnectArgs) -> anyhow::Result<Self> {
        let mut cluster =
            Self { bootstrap: args.bootstrap.clone(), timeout: args.timeout.0, any: None, nodes: BTreeMap::new() };
        cluster.any().await?;
        Ok(cluster)
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When attempts that begin now are given up.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline(now() + self.timeout)
    }

    /// Asks whichever broker answers. Admin requests may go to any: brokers pass them on.
    pub(super) async fn call<R: Request>(&mut self, request: &R, version_max: i16) -> anyhow::Result<R::Response> {
        let response = self.any().await?.call(request, version_max).await;
        if response.is_err() {
            self.any = None;
        }
        response
    }

    async fn any(&mut self) -> anyhow::Result<&mut Connection> {
        if self.any.as_ref().is_none_or(Connection::is_spoilt) {
            self.any = None;
            let mut last = None;
            for address in &self.bootstrap {
                match Connection::open(address, self.timeout).await {
                    Ok(connection) => {
                        self.any = Some(connection);
                        break;
                    }
                    Err(error) => last = Some(error),
                }
            }
            if self.any.is_none() {
                return Err(last.unwrap_or_else(|| anyhow::anyhow!("no broker is given")));
            }
        }
        self.any.as_mut().context("a connection was just opened")
    }

    /// Asks one broker, over the connection to it.
    pub(super) async fn call_node<R: Request>(
        &mut self,
        node: i32,
        request: &R,
        version_max: i16,
        wait: Duration,
    ) -> anyhow::Result<R::Response> {
        let response = async { self.node(node).await?.call_held(request, version_max, wait).await }.await;
        if response.is_err()
            && let Some(node) = self.nodes.get_mut(&node)
        {
            node.connection = None;
        }
        response
    }

    async fn node(&mut self, id: i32) -> anyhow::Result<&mut Connection> {
        let timeout = self.timeout;
        // How a broker says that there is none.
        ensure!(id >= 0, "it has no leader now");
        let node =
            self.nodes.get_mut(&id).with_context(|| format!("the cluster names no address for its node {id}"))?;
        if node.connection.as_ref().is_none_or(Connection::is_spoilt) {
            node.connection = Some(Connection::open(&node.address, timeout).await?);
        }
        node.connection.as_mut().context("a connection was just opened")
    }

    /// Topics as the cluster describes them; all when `topics` is `None`.
    pub(super) async fn metadata(
        &mut self,
        topics: Option<&[String]>,
        create: bool,
    ) -> anyhow::Result<MetadataResponse> {
        let topics = topics.map(|names| {
            names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create);
        let response = self.call(&request, 12).await?;
        for broker in &response.brokers {
            let address = join(broker.host.as_str(), u16::try_from(broker.port).unwrap_or(0));
            self.learn(broker.node_id.0, address);
        }
        Ok(response)
    }

    fn learn(&mut self, id: i32, address: String) {
        match self.nodes.get_mut(&id) {
            Some(node) if node.address == address => {}
            _ => {
                let connection = None;
                self.nodes.insert(id, Node { address, connection });
            }
        }
    }

    /// Topics that all have leaders, waiting for elections and creations to finish.
    pub(super) async fn topics(
        &mut self,
        names: &[String],
        create: bool,
    ) -> anyhow::Result<Vec<MetadataResponseTopic>> {
        let deadline = self.deadline();
        loop {
            let topics = self.metadata(Some(names), create).await?.topics;
            let code = topics
                .iter()
                .flat_map(|topic| {
                    let partitions = topic.partitions.iter().map(|partition| partition.error_code);
                    std::iter::once(topic.error_code).chain(partitions)
                })
                .find(|code| *code != 0 && *code != REPLICA_NOT_AVAILABLE);
            let Some(code) = code else {
                return Ok(topics);
            };
            let missing = code == UNKNOWN_TOPIC_OR_PARTITION && !create;
            if missing || !is_retriable(code) || deadline.passed() {
                let name = topics
                    .iter()
                    .find(|topic| topic.error_code != 0)
                    .and_then(|topic| topic.name.as_ref())
                    .map_or_else(|| names.join(", "), |name| name.0.to_string());
                bail!("topic {name}: {}", error_name(code));
            }
            pause().await;
        }
    }

    /// The node that coordinates a group.
    pub(super) async fn coordinator(&mut self, group: &str) -> anyhow::Result<i32> {
        let deadline = self.deadline();
        let request = FindCoordinatorRequest::default().with_key(text(group));
        loop {
            let response = self.call(&request, 3).await?;
            if response.error_code == 0 {
                let port = u16::try_from(response.port).unwrap_or(0);
                self.learn(response.node_id.0, join(response.host.as_str(), port));
                return Ok(response.node_id.0);
            }
            ensure!(
                is_retriable(response.error_code) && !deadline.passed(),
                "group {group} has no coordinator: {}",
                error_text(response.error_code, response.error_message.as_ref())
            );
            pause().await;
        }
    }
}

pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// Said of partitions that have a leader but not all their replicas.
const REPLICA_NOT_AVAILABLE: i16 = 9;

/// A moment after which nothing is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn passed(self) -> bool {
        now() >= self.0
    }
}

pub(super) async fn pause() {
    sleep(PAUSE).await;
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The leaders of a topic's partitions, by partition.
pub(super) fn leaders(topic: &MetadataResponseTopic) -> BTreeMap<i32, Leader> {
    topic
        .partitions
        .iter()
        .map(|partition| {
            let leader = Leader { node: partition.leader_id.0, epoch: partition.leader_epoch };
            (partition.partition_index, leader)
        })
        .collect()
}
