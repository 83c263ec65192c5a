//! Nodes in one process, over real sockets, and short words for what the tests ask of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use base::Env;
use base::time::{Duration, now, sleep, timeout};
use cluster::{Cluster, Config, METADATA, NewTopic};
use record::{ShardId, TopicId};

/// Nothing takes so long.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);

/// Addresses that nobody uses now, at most eight: each test has a network of its own on the loopback interface.
pub(crate) fn free_addresses(count: u8) -> Vec<SocketAddr> {
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let test = TESTS.fetch_add(1, Ordering::Relaxed);
    (0..count).map(|place| SocketAddr::from(([127, high | 64, low, test.wrapping_mul(8) + place], 9190))).collect()
}

fn join(addresses: &[SocketAddr]) -> Vec<(String, u16)> {
    addresses.iter().map(|address| (address.ip().to_string(), address.port())).collect()
}

/// A node of those that all name each other.
pub(crate) fn config(dir: &Path, place: usize, addresses: &[SocketAddr]) -> Config {
    Config {
        listen: Some(addresses[place]),
        join: join(addresses),
        shards: 2,
        segment_bytes: 4 << 20,
        reserve_bytes: 0,
        ..Config::new(dir.join(place.to_string()))
    }
}

/// A node that joins the first, which is alone before.
pub(crate) fn joining(dir: &Path, place: usize, addresses: &[SocketAddr]) -> Config {
    let others = if place == 0 { 0 } else { 1 };
    Config { join: join(&addresses[..others]), ..config(dir, place, addresses) }
}

pub(crate) async fn start(config: Config) -> Cluster {
    let started = timeout(WAIT_MAX, Cluster::start(Env::real(), config)).await;
    started.expect("in time").expect("started")
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + WAIT_MAX;
    while !condition() {
        assert!(now() < deadline, "{what} did not come to be");
        sleep(Duration::from_millis(10)).await;
    }
}

/// What operators are told.
pub(crate) async fn operate(node: &Cluster, words: &[&str]) -> Result<String, String> {
    node.operate(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).await
}

/// Returns when a node's status says what is wanted; its copy of the metadata may be a little behind.
pub(crate) async fn until_status(node: &Cluster, wanted: impl Fn(&str) -> bool) {
    let deadline = now() + WAIT_MAX;
    loop {
        let status = operate(node, &["status"]).await.expect("told");
        if wanted(&status) {
            return;
        }
        assert!(now() < deadline, "{status}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn topic(node: &Cluster, name: &str, partitions: u32) -> TopicId {
    let topic = NewTopic { name: name.to_owned(), partitions, configs: BTreeMap::new() };
    node.create_topics(vec![topic]).await.remove(0).expect("made")
}

/// The data shards.
pub(crate) fn data_shards(node: &Cluster) -> Vec<ShardId> {
    let metadata = node.metadata();
    metadata.shard_records().iter().map(|record| record.id).filter(|shard| *shard != METADATA).collect()
}

pub(crate) async fn stop(nodes: &[Cluster]) {
    for node in nodes {
        node.shutdown().await;
    }
}
