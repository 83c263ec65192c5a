//! A Kafka client as applications have one: it finds leaders and coordinators by itself and looks for
//! them again when they are elsewhere.

mod connection;
mod keyed;
mod requests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base::net::{Network, SimNetwork};
use base::random::{Random, SeededRandom};
use base::time::{Duration, sleep, timeout};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, MetadataRequest, ProducerId as WireProducerId};
use kafka_protocol::protocol::{Request, StrBytes};

pub use connection::{CallError, Connection};

use crate::machine::{KAFKA_PORT, host};

/// An answer is waited for so long, and a connection as long.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(5);
/// The first topic; those that follow it have a number behind the name.
const TOPIC: &str = "numbers";
/// A partition's number here is that of its topic times this, and its own.
pub const PARTITIONS_MAX: i32 = 100;

/// The number of the topic of `partition`.
#[must_use]
pub fn topic_of(partition: i32) -> i32 {
    partition / PARTITIONS_MAX
}

/// The name of a topic.
#[must_use]
pub fn topic_text(topic: i32) -> String {
    if topic == 0 { TOPIC.to_owned() } else { format!("{TOPIC}-{topic}") }
}

/// Codes after which a client tries again, elsewhere if need be.
const RETRIABLE: [i16; 16] = [3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 56, 72, 74, 75, 100];

/// What an answer's code means for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Done,
    /// To be tried again after a look at who leads.
    Again,
    /// To be told to the application.
    Fatal(i16),
}

/// What `code` means.
#[must_use]
pub fn meaning(code: i16) -> Meaning {
    match code {
        0 => Meaning::Done,
        code if RETRIABLE.contains(&code) => Meaning::Again,
        code => Meaning::Fatal(code),
    }
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Whoever answers.
    Any,
    Partition(i32),
    Node(i32),
}

/// A client with its connections.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    network: Arc<dyn Network>,
    random: SeededRandom,
    nodes: usize,
    brokers: BTreeMap<i32, (String, u16)>,
    leaders: BTreeMap<i32, i32>,
    connections: BTreeMap<i32, Connection>,
    coordinator: Option<i32>,
}

impl Client {
    #[must_use]
    pub fn new(name: &str, address: IpAddr, network: &SimNetwork, nodes: usize, random: SeededRandom) -> Self {
        Self {
            name: name.to_owned(),
            network: network.host(address),
            random,
            nodes,
            brokers: BTreeMap::new(),
            leaders: BTreeMap::new(),
            connections: BTreeMap::new(),
            coordinator: None,
        }
    }

    #[must_use]
    pub fn random(&self) -> &SeededRandom {
        &self.random
    }

    /// Forgets who led: whoever it asks next may know better.
    pub fn forget(&mut self) {
        self.leaders.clear();
        self.coordinator = None;
    }

    /// Rests before a request is tried again, and forgets who led.
    pub async fn back_off(&mut self) {
        self.forget();
        sleep(Duration::from_millis(50 + self.random.below(150))).await;
    }

    /// Asks whoever `target` is, and waits for the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call<Q: Request>(
        &mut self,
        target: Target,
        version: i16,
        request: &Q,
    ) -> Result<Q::Response, CallError> {
        let node = self.node(target).await?;
        self.call_node(node, version, request).await
    }

    async fn call_node<Q: Request>(&mut self, node: i32, version: i16, request: &Q) -> Result<Q::Response, CallError> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => self.connect(node).await?,
        };
        connection.send(&self.name, version, request, REQUEST_WAIT_MAX).await?;
        let response = connection.receive::<Q>(version, REQUEST_WAIT_MAX).await?;
        // One that failed is dropped: nobody knows what it would answer next.
        self.connections.insert(node, connection);
        Ok(response)
    }

    /// Asks `target` several things at once; the answers in order, up to the first that does not come.
    ///
    /// # Errors
    /// When nothing could be asked.
    pub async fn call_all<Q: Request>(
        &mut self,
        target: Target,
        version: i16,
        requests: &[Q],
    ) -> Result<Vec<Q::Response>, CallError> {
        let node = self.node(target).await?;
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => self.connect(node).await?,
        };
        let mut asked = 0;
        for request in requests {
            if connection.send(&self.name, version, request, REQUEST_WAIT_MAX).await.is_err() {
                break;
            }
            asked += 1;
        }
        let mut answers = Vec::new();
        while answers.len() < asked {
            match connection.receive::<Q>(version, REQUEST_WAIT_MAX).await {
                Ok(answer) => answers.push(answer),
                Err(error @ CallError::Malformed(_)) => return Err(error),
                Err(_) => return Ok(answers),
            }
        }
        if asked == requests.len() {
            self.connections.insert(node, connection);
        }
        Ok(answers)
    }

    /// A connection of its own to whoever `target` is.
    ///
    /// # Errors
    /// When there is none.
    pub async fn dial(&mut self, target: Target) -> Result<Connection, CallError> {
        let node = self.node(target).await?;
        self.connect(node).await
    }

    async fn connect(&self, node: i32) -> Result<Connection, CallError> {
        let (name, port) = if node < 0 {
            (host(usize::try_from(-1 - node).expect("a place")), KAFKA_PORT)
        } else {
            self.brokers.get(&node).cloned().ok_or(CallError::Nobody)?
        };
        let connecting = async {
            let addresses = self.network.resolve(&name, port).await?;
            self.network.connect(addresses[0]).await
        };
        let stream = timeout(REQUEST_WAIT_MAX, connecting).await.map_err(|_| CallError::TimedOut)??;
        Ok(Connection::new(stream))
    }

    async fn node(&mut self, target: Target) -> Result<i32, CallError> {
        match target {
            Target::Node(node) => Ok(node),
            Target::Any => Ok(self.any()),
            Target::Partition(partition) => {
                if !self.leaders.contains_key(&partition) {
                    self.look(topic_of(partition)).await?;
                }
                self.leaders.get(&partition).copied().ok_or(CallError::Nobody)
            }
        }
    }

    /// One of the brokers that are known; those that were configured stand below 0.
    fn any(&self) -> i32 {
        let known: Vec<i32> = self.brokers.keys().copied().collect();
        if known.is_empty() || self.random.below(4) == 0 {
            return -1 - i32::try_from(self.random.below(self.nodes as u64)).expect("few nodes");
        }
        known[usize::try_from(self.random.below(known.len() as u64)).expect("an index")]
    }

    /// Asks who leads what of a topic.
    async fn look(&mut self, topic: i32) -> Result<(), CallError> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let node = self.any();
        let response = self.call_node(node, 12, &request).await?;
        let brokers = response.brokers.iter();
        self.brokers = brokers
            .map(|broker| (broker.node_id.0, (broker.host.to_string(), u16::try_from(broker.port).unwrap_or(0))))
            .collect();
        self.connections.retain(|node, _| *node < 0 || self.brokers.contains_key(node));
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let led = partitions.filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0);
        self.leaders
            .extend(led.map(|partition| (topic * PARTITIONS_MAX + partition.partition_index, partition.leader_id.0)));
        Ok(())
    }

    /// The coordinator of a group.
    ///
    /// # Errors
    /// When nobody says who it is.
    pub async fn coordinator(&mut self, group: &str) -> Result<Target, CallError> {
        if let Some(node) = self.coordinator {
            return Ok(Target::Node(node));
        }
        let request = FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let node = self.any();
        let response = self.call_node(node, 4, &request).await?;
        let found = response.coordinators.first().ok_or(CallError::Nobody)?;
        if found.error_code != 0 {
            return Err(CallError::Nobody);
        }
        let id = found.node_id.0;
        self.brokers.insert(id, (found.host.to_string(), u16::try_from(found.port).unwrap_or(0)));
        self.coordinator = Some(id);
        Ok(Target::Node(id))
    }
}

/// A producer's id as the protocol has it.
#[must_use]
pub fn wire_producer_id(id: i64) -> WireProducerId {
    WireProducerId(id)
}

/// A group's name as the protocol has it.
#[must_use]
pub fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

pub use keyed::{KeyedRecord, keyed_batch};
pub use requests::*;
