//! Who leads what, as any node of a cluster says it: Metadata, and topics with several replicas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::wire::requests::{CREATE_TOPICS, METADATA};
use tests::wire::{Connection, Reader, Writer};

use super::request::resolve_all;

/// With plain encodings and leader epochs.
const METADATA_VERSION: i16 = 8;
/// How long a topic may take until all its replicas are there.
const READY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// The leader of one partition; -1 when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node: i32,
    pub(crate) epoch: i32,
}

/// What one node says of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    pub(crate) addresses: BTreeMap<i32, SocketAddr>,
    pub(crate) leaders: BTreeMap<i32, Leader>,
    /// The fewest replicas in sync of any partition.
    pub(crate) in_sync: usize,
}

impl Topology {
    /// Asks over a connection; a topic that is not known has no leaders.
    pub(crate) fn ask(connection: &mut Connection, topic: &str) -> Result<Self> {
        let mut body = Writer::new();
        body.i32(1).string(topic).i8(0).i8(0).i8(0);
        let answer = connection.call(METADATA, METADATA_VERSION, &body.0)?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        let mut topology = Self { in_sync: usize::MAX, ..Self::default() };
        for _ in 0..reader.count()? {
            let id = reader.i32()?;
            let host = reader.string()?.context("a broker's host")?;
            let port = reader.i32()?;
            reader.string()?;
            topology.addresses.insert(id, format!("{host}:{port}").parse()?);
        }
        reader.string()?;
        reader.i32()?;
        ensure!(reader.count()? == 1, "topics answered");
        reader.i16()?;
        reader.string()?;
        reader.i8()?;
        for _ in 0..reader.count()? {
            reader.i16()?;
            let partition = reader.i32()?;
            let leader = Leader { node: reader.i32()?, epoch: reader.i32()? };
            if leader.node >= 0 {
                topology.leaders.insert(partition, leader);
            }
            let replicas = reader.count()?;
            reader.take(4 * replicas)?;
            let in_sync = reader.count()?;
            reader.take(4 * in_sync)?;
            let offline = reader.count()?;
            reader.take(4 * offline)?;
            topology.in_sync = topology.in_sync.min(in_sync);
        }
        Ok(topology)
    }

    /// Asks the first of `servers` that answers.
    pub(crate) fn of(servers: &[SocketAddr], topic: &str) -> Result<Self> {
        let mut last = None;
        for server in servers {
            let asked = Connection::open(*server).and_then(|mut connection| {
                connection.set_limit(Duration::from_secs(2))?;
                Self::ask(&mut connection, topic)
            });
            match asked {
                Ok(topology) => return Ok(topology),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no server is named")?)
    }

    fn is_ready(&self, partitions: i32, replicas: i16) -> bool {
        let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
        let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
        self.leaders.len() == partitions && self.in_sync >= replicas
    }
}

/// Creates a topic when it is not there yet; returns when every server says that each partition has its leader and all
/// replicas in sync.
pub(crate) fn ensure_replicated(servers: &str, topic: &str, partitions: i32, replicas: i16) -> Result<Topology> {
    let servers = resolve_all(servers)?;
    let deadline = Instant::now() + READY_LIMIT;
    let mut body = Writer::new();
    body.i32(1).string(topic).i32(partitions).i16(replicas).i32(0).i32(0).i32(30_000).i8(0);
    loop {
        let answer = Connection::open(servers[0])?.call(CREATE_TOPICS, 2, &body.0)?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        ensure!(reader.i32()? == 1, "topics answered");
        reader.string()?;
        let error = reader.i16()?;
        if error == 0 || error == TOPIC_ALREADY_EXISTS {
            break;
        }
        ensure!(Instant::now() < deadline, "creating {topic}: error {error} {:?}", reader.string()?);
        thread::sleep(POLL);
    }
    loop {
        let mut last = Topology::default();
        let mut ready = true;
        for server in &servers {
            last = Topology::of(&[*server], topic)?;
            ready &= last.is_ready(partitions, replicas);
        }
        if ready {
            return Ok(last);
        }
        if Instant::now() > deadline {
            bail!("{topic} is not ready within {READY_LIMIT:?}: {last:?}");
        }
        thread::sleep(POLL);
    }
}
