//! Several nodes in one process, over real sockets: they find each other, every shard gets its voters,
//! what is made on one shows on all, and one that dies is not missed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use base::Env;
use base::time::{Duration, now, sleep, timeout};
use cluster::{Cluster, Config, METADATA, NewTopic, StartError};
use record::{NodeId, ShardId};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// Addresses that nobody uses now.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let bound: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free address")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("bound")).collect()
}

fn config(dir: &Path, place: usize, addresses: &[SocketAddr]) -> Config {
    Config {
        listen: Some(addresses[place]),
        join: addresses.iter().map(|address| (address.ip().to_string(), address.port())).collect(),
        shards: 2,
        segment_bytes: 4 << 20,
        reserve_bytes: 0,
        ..Config::new(dir.join(place.to_string()))
    }
}

async fn start(config: Config) -> Cluster {
    let started = timeout(WAIT_MAX, Cluster::start(Env::real(), config)).await;
    started.expect("in time").expect("started")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + WAIT_MAX;
    while !condition() {
        assert!(now() < deadline, "{what} did not come to be");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether there are `shards` data shards, every shard has `count` voters by what its leader says, and a leader.
fn is_settled(nodes: &[Cluster], shards: usize, count: usize) -> bool {
    let expected = shards + 1;
    let shards: Vec<ShardId> = nodes[0].metadata().shard_records().iter().map(|record| record.id).collect();
    shards.len() == expected
        && shards.iter().all(|shard| {
            nodes.iter().filter_map(|node| node.replica(*shard)).any(|replica| {
                let members = replica.members();
                replica.is_leader() && !members.is_changing() && members.voters[0].len() == count
            })
        })
}

async fn topic(node: &Cluster, name: &str) {
    let topic = NewTopic { name: name.to_owned(), partitions: 4, configs: BTreeMap::new() };
    for result in node.create_topics(vec![topic]).await {
        result.expect("made");
    }
    node.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_name_each_other_become_one_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let starts = (0..3).map(|place| start(config(dir.path(), place, &addresses)));
    let mut nodes = futures_util::future::join_all(starts).await;
    let ids: BTreeSet<NodeId> = nodes.iter().map(Cluster::node_id).collect();
    assert_eq!(ids, [1, 2, 3].map(NodeId).into());
    assert!(nodes.iter().all(|node| node.cluster_id() == nodes[0].cluster_id()));
    // Each brings two.
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    for (place, node) in nodes.iter().enumerate() {
        let name = format!("made on {place}");
        topic(node, &name).await;
        for node in &nodes {
            assert!(node.metadata().topic_by_name(&name).is_some(), "settled means that all show it");
        }
    }
    // The one that leads the metadata goes without a word.
    let leader = nodes[0].leader(METADATA).expect("it is led");
    let place = nodes.iter().position(|node| node.node_id() == leader).expect("one of them");
    let gone = nodes.remove(place);
    let shards: Vec<ShardId> = gone.metadata().shard_records().iter().map(|record| record.id).collect();
    gone.shutdown().await;
    drop(gone);
    until("new leaders", || {
        shards.iter().all(|shard| {
            let leader = nodes[0].leader(*shard);
            leader.is_some_and(|leader| nodes.iter().any(|node| node.node_id() == leader))
        })
    })
    .await;
    topic(&nodes[0], "made by two").await;
    // It comes back as who it was, and learns what it missed.
    let back = start(config(dir.path(), place, &addresses)).await;
    assert_eq!(back.node_id(), leader);
    until("what was missed", || back.metadata().topic_by_name("made by two").is_some()).await;
    for node in nodes.iter().chain([&back]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_disk_comes_back_as_another_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(2);
    let first = start(config(dir.path(), 0, &addresses[..1])).await;
    let config_of_second =
        || Config { join: vec![("127.0.0.1".to_owned(), addresses[0].port())], ..config(dir.path(), 1, &addresses) };
    let second = start(config_of_second()).await;
    assert_eq!((first.node_id(), second.node_id()), (NodeId(1), NodeId(2)));
    second.shutdown().await;
    drop(second);
    let path = dir.path().join("1");
    // With its identity and nothing else a node would be one that forgot what it knew.
    for gone in ["log", "shards"] {
        std::fs::remove_dir_all(path.join(gone)).expect("removed");
    }
    let refused = Cluster::start(Env::real(), config_of_second()).await.expect_err("refused");
    assert!(matches!(refused, StartError::Emptied { node: NodeId(2), .. }), "{refused}");
    std::fs::remove_dir_all(&path).expect("removed");
    let third = start(config_of_second()).await;
    assert_eq!(third.node_id(), NodeId(3));
    first.shutdown().await;
    third.shutdown().await;
}

/// How many shards `node` leads of those that the metadata names.
fn leads(node: &Cluster) -> usize {
    let shards: Vec<ShardId> = node.metadata().shard_records().iter().map(|record| record.id).collect();
    shards.iter().filter(|shard| node.leader(**shard) == Some(node.node_id())).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_with_data_grows_to_four_and_is_emptied() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let alone = Config { join: Vec::new(), ..config(dir.path(), 0, &addresses) };
    let mut nodes = vec![start(alone).await];
    topic(&nodes[0], "old").await;
    let replicas = nodes[0].replicas();
    futures_util::future::join_all(replicas.iter().map(replica::Replica::checkpoint)).await;
    drop(replicas);
    for place in 1..4 {
        nodes.push(start(config(dir.path(), place, &addresses)).await);
    }
    until("three voters of every shard", || is_settled(&nodes, 8, 3)).await;
    until("leaders on all four", || nodes.iter().all(|node| leads(node) >= 1)).await;
    assert!(nodes.iter().all(|node| node.metadata().topic_by_name("old").is_some() && !node.replicas().is_empty()));
    let operate = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let refused = nodes[1].operate(&operate(&["remove", "1"])).await.expect_err("it holds replicas");
    assert!(refused.contains("drain"), "{refused}");
    nodes[1].operate(&operate(&["drain", "1"])).await.expect("begun");
    until("nothing on the first node", || {
        let metadata = nodes[1].metadata();
        metadata.shard_records().iter().all(|record| !record.voters.contains(&NodeId(1)))
    })
    .await;
    until("three voters elsewhere", || is_settled(&nodes[1..], 8, 3)).await;
    until("no replica left", || nodes[0].replicas().is_empty()).await;
    let deadline = now() + WAIT_MAX;
    while nodes[1].operate(&operate(&["remove", "1"])).await.is_err() {
        assert!(now() < deadline, "{}", nodes[1].operate(&operate(&["status"])).await.unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    let gone = nodes.remove(0);
    until("the removed node is told", || gone.failure().borrow().is_some()).await;
    gone.shutdown().await;
    topic(&nodes[0], "new").await;
    for node in &nodes {
        node.shutdown().await;
    }
}
