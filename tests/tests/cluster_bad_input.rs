//! Any bytes on the port for nodes: whoever is no node of this cluster is refused or closed, and nothing changes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings, Status};
use tests::ledger::Chance;
use tests::wire::batch::crc32c;

/// Longer than a handshake may take.
const CLOSED_LIMIT: Duration = Duration::from_secs(20);
const REFUSED_CLUSTER: u16 = 2;
const REFUSED_NODE: u16 = 3;
const REFUSED_UNKNOWN: u16 = 4;
const REFUSED_FEATURES: u16 = 5;
const REFUSED_TWIN: u16 = 8;
/// The level of features of a new cluster.
const FEATURES: u32 = 6;
/// How many bytes a node may send before it closes a connection that it does not like.
const ANSWER_BYTES_MAX: u64 = 1 << 16;

/// What `docs/protocols/nodes.md` calls hello, of a member.
struct Hello {
    cluster: u128,
    node: u64,
    wanted: u64,
    features: u32,
    versions: (u16, u16),
}

impl Hello {
    fn bytes(&self) -> Vec<u8> {
        let mut out = b"RMQ-PEER".to_vec();
        out.extend(self.versions.0.to_le_bytes());
        out.extend(self.versions.1.to_le_bytes());
        out.extend([0, 0, 0, 0]);
        out.extend(self.features.to_le_bytes());
        out.extend(self.cluster.to_le_bytes());
        out.extend(self.node.to_le_bytes());
        out.extend(77_u64.to_le_bytes());
        out.extend(self.wanted.to_le_bytes());
        out.extend(crc32c(&out).to_le_bytes());
        out
    }
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(CLOSED_LIMIT))?;
    Ok(stream)
}

/// Sends the bytes and expects the connection to be closed, whatever comes before.
fn is_closed(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = open(address)?;
    // It may be closed before all is sent.
    let _closed = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context("the connection stays open"),
    }
    Ok(answer)
}

/// The status of the welcome to a hello.
fn status_of(address: SocketAddr, hello: &Hello) -> Result<u16> {
    let mut stream = open(address)?;
    stream.write_all(&hello.bytes())?;
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    ensure!(head.starts_with(b"RMQ-PEER"), "{head:?}");
    Ok(u16::from_le_bytes([head[8], head[9]]))
}

#[test]
fn what_is_no_node_of_the_cluster_changes_nothing() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings::default())?;
    let before = cluster.operate(&["status"])?;
    let id = before.lines().next().and_then(|line| line.strip_prefix("cluster ")).context("the cluster's id")?;
    let id = u128::from_str_radix(id.trim(), 16)?;
    let before = Status::parse(&before)?;
    let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.internal()).collect();
    let nodes: Vec<u64> = (0..3).map(|place| cluster.id(place)).collect::<Result<_>>()?;
    let member = |node, wanted| Hello { cluster: id, node, wanted, features: FEATURES, versions: (1, 1) };

    ensure!(status_of(addresses[0], &Hello { cluster: id ^ 1, ..member(nodes[1], 0) })? == REFUSED_CLUSTER);
    ensure!(status_of(addresses[0], &member(99, 0))? == REFUSED_UNKNOWN, "a node that there never was");
    ensure!(status_of(addresses[0], &Hello { features: FEATURES - 1, ..member(nodes[1], 0) })? == REFUSED_FEATURES);
    ensure!(status_of(addresses[0], &member(nodes[0], 0))? == REFUSED_NODE, "the node itself");
    ensure!(status_of(addresses[0], &member(nodes[1], nodes[2]))? == REFUSED_NODE, "another was wanted");
    ensure!(status_of(addresses[0], &Hello { versions: (7, 9), ..member(nodes[1], 0) })? == 1, "no version for both");

    ensure!(
        status_of(addresses[0], &member(nodes[1], nodes[0]))? == REFUSED_TWIN,
        "another process of a node that is there"
    );

    // A handshake as another node sent it, again, and behind it anything.
    let replayed = member(nodes[1], nodes[0]).bytes();
    let mut chance = Chance::new(1);
    let mut noise = |count: usize| -> Vec<u8> { (0..count).map(|_| chance.number().to_le_bytes()[3]).collect() };
    for address in &addresses {
        is_closed(*address, &[&replayed[..], &noise(4096)].concat())?;
        is_closed(*address, &[&replayed[..], &[0xff; 64][..]].concat())?;
        // A call of the group, whose checksum does not match.
        let mut frame = vec![4, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        frame.extend([0; 4]);
        is_closed(*address, &[&replayed[..], &frame].concat())?;
    }
    let mut broken = member(nodes[1], nodes[0]).bytes();
    broken[20] ^= 1;
    for bytes in [&broken[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 200], &noise(100_000), b"RMQ-PEE", b""] {
        let answer = is_closed(addresses[1], bytes)?;
        ensure!(answer.len() < 4096, "{} bytes of answer", answer.len());
    }
    // Many that say nothing, while nodes go on talking to each other.
    let silent: Vec<TcpStream> = (0..300).filter_map(|_| open(addresses[2]).ok()).collect();
    cluster.wait_settled(SETTLE_LIMIT)?;
    drop(silent);
    cluster.wait_settled(SETTLE_LIMIT)?;
    let after = cluster.status()?;
    let shape = |status: &Status| {
        let shards = status.shards.iter().map(|shard| (shard.id.clone(), shard.voters.clone()));
        (status.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), shards.collect::<Vec<_>>())
    };
    ensure!(shape(&before) == shape(&after), "{before:?}\n{after:?}");
    cluster.assert_healthy()
}
