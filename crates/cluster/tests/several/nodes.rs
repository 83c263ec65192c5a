//! Several nodes in one process, over real sockets: they find each other, every shard gets its voters,
//! what is made on one shows on all, and one that dies is not missed.

use std::collections::BTreeSet;
use std::path::Path;

use base::Env;
use base::time::{Duration, now, sleep};
use cluster::{Cluster, Config, METADATA, RecoverError, StartError, recover};
use record::{NodeId, ShardId};

use crate::support::{self, WAIT_MAX, config, free_addresses, joining, operate, start, stop, until};

#[expect(clippy::disallowed_methods, reason = "somebody else than the node does it")]
fn remove_dir(path: &Path) {
    std::fs::remove_dir_all(path).expect("removed");
}

/// Whether there are `shards` data shards, every shard has `count` voters by what its leader says, and a leader.
pub(crate) fn is_settled(nodes: &[Cluster], shards: usize, count: usize) -> bool {
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
    support::topic(node, name, 4).await;
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
    // It comes back as who it was, and has learned what it missed before it serves anybody; from then on it is waited for.
    let back = start(config(dir.path(), place, &addresses)).await;
    assert_eq!(back.node_id(), leader);
    back.caught_up().await;
    assert!(back.metadata().topic_by_name("made by two").is_some(), "what was missed");
    topic(&nodes[0], "made by three").await;
    assert!(back.metadata().topic_by_name("made by three").is_some(), "what the others make meanwhile");
    for node in nodes.iter().chain([&back]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_disk_comes_back_as_another_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(2);
    let first = start(config(dir.path(), 0, &addresses[..1])).await;
    let config_of_second = || joining(dir.path(), 1, &addresses);
    let second = start(config_of_second()).await;
    assert_eq!((first.node_id(), second.node_id()), (NodeId(1), NodeId(2)));
    second.shutdown().await;
    drop(second);
    let path = dir.path().join("1");
    // With its identity and nothing else a node would be one that forgot what it knew.
    for gone in ["log", "shards"] {
        remove_dir(&path.join(gone));
    }
    let refused = Cluster::start(Env::real(), config_of_second()).await.expect_err("refused");
    assert!(matches!(refused, StartError::Emptied { node: NodeId(2), .. }), "{refused}");
    remove_dir(&path);
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
    let mut nodes = vec![start(joining(dir.path(), 0, &addresses)).await];
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
    let refused = operate(&nodes[1], &["remove", "1"]).await.expect_err("it holds replicas");
    assert!(refused.contains("drain"), "{refused}");
    operate(&nodes[1], &["drain", "1"]).await.expect("begun");
    until("nothing on the first node", || {
        let metadata = nodes[1].metadata();
        metadata.shard_records().iter().all(|record| !record.voters.contains(&NodeId(1)))
    })
    .await;
    until("three voters elsewhere", || is_settled(&nodes[1..], 8, 3)).await;
    until("no replica left", || nodes[0].replicas().is_empty()).await;
    let deadline = now() + WAIT_MAX;
    while operate(&nodes[1], &["remove", "1"]).await.is_err() {
        assert!(now() < deadline, "{}", operate(&nodes[1], &["status"]).await.unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    let gone = nodes.remove(0);
    until("the removed node is told", || gone.failure().borrow().is_some()).await;
    gone.shutdown().await;
    topic(&nodes[0], "new").await;
    stop(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_goes_on_alone_when_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let starts = (0..3).map(|place| start(config(dir.path(), place, &addresses)));
    let nodes = futures_util::future::join_all(starts).await;
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    topic(&nodes[0], "kept").await;
    let left = nodes[2].node_id();
    let lost: BTreeSet<NodeId> = nodes[..2].iter().map(Cluster::node_id).collect();
    stop(&nodes).await;
    drop(nodes);
    let config_of_last = || config(dir.path(), 2, &addresses);
    let nowhere = dir.path().join("mistyped");
    let mistyped = Config { data_dir: nowhere.clone(), ..config_of_last() };
    let none = recover(Env::real(), mistyped, &lost, true).await.expect_err("nothing is there");
    assert!(matches!(none, RecoverError::NoNode(_)) && !nowhere.exists(), "{none}");
    let wrong = recover(Env::real(), config_of_last(), &[left].into(), true).await.expect_err("itself");
    assert!(matches!(wrong, RecoverError::Itself(_)), "{wrong}");
    let one: BTreeSet<NodeId> = lost.iter().take(1).copied().collect();
    let none = recover(Env::real(), config_of_last(), &one, true).await.expect_err("two of three are a majority");
    assert!(matches!(none, RecoverError::NothingLost), "{none}");
    let shown = recover(Env::real(), config_of_last(), &lost, false).await.expect("shown");
    assert!(shown.contains("Nothing was changed"), "{shown}");
    recover(Env::real(), config_of_last(), &lost, true).await.expect("recovered");
    let again = recover(Env::real(), config_of_last(), &lost, true).await.expect_err("done");
    assert!(matches!(again, RecoverError::NothingLost), "{again}");
    let alone = vec![start(config_of_last()).await];
    assert_eq!(alone[0].node_id(), left);
    assert!(alone[0].metadata().topic_by_name("kept").is_some());
    until("one voter of every shard", || is_settled(&alone, 6, 1)).await;
    topic(&alone[0], "new").await;
    // By itself, and who says it once more is not told that it is wrong.
    until("only one node", || alone[0].metadata().nodes().len() == 1).await;
    for node in &lost {
        operate(&alone[0], &["remove", &node.to_string()]).await.expect("it is removed");
    }
    alone[0].shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_gives_up_its_cluster_only_when_it_holds_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let alone = |place: usize| Config { join: Vec::new(), ..config(dir.path(), place, &addresses) };
    let first = start(alone(0)).await;
    let second = start(alone(1)).await;
    assert_ne!(first.cluster_id(), second.cluster_id());
    topic(&second, "mine").await;
    let words = ["join".to_owned(), addresses[0].to_string()];
    let refused = second.operate(&words).await.expect_err("it has a topic");
    assert!(refused.contains("topics"), "{refused}");
    let id = second.metadata().topic_by_name("mine").expect("here").id;
    second.delete_topics(vec![id]).await.into_iter().for_each(|result| result.expect("deleted"));
    let nowhere = second.operate(&["join".to_owned(), addresses[2].to_string()]).await.expect_err("nobody is there");
    assert!(nowhere.contains("no cluster is there"), "{nowhere}");
    second.operate(&words).await.expect("begun");
    until("the call for a new start", || *second.starts_anew().borrow()).await;
    second.shutdown().await;
    drop(second);
    let second = start(alone(1)).await;
    assert_eq!((second.node_id(), second.cluster_id()), (NodeId(2), first.cluster_id()));
    // By its configuration, and with data: refused. Without: it joins.
    let third = start(alone(2)).await;
    topic(&third, "mine").await;
    third.shutdown().await;
    drop(third);
    let third = start(joining(dir.path(), 2, &addresses)).await;
    until("the refusal", || third.failure().borrow().is_some()).await;
    let reason = third.failure().borrow().clone().unwrap_or_default();
    assert!(reason.contains("holds topics"), "{reason}");
    third.shutdown().await;
    first.shutdown().await;
    second.shutdown().await;
}

async fn features(node: &Cluster) -> String {
    let status = node.operate(&["status".to_owned()]).await.expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("features "));
    line.expect("a line of features").to_owned()
}

async fn until_features(node: &Cluster, expected: &str) {
    let deadline = now() + WAIT_MAX;
    loop {
        let line = features(node).await;
        if line == expected {
            return;
        }
        assert!(now() < deadline, "{line:?} instead of {expected:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn three_that_know_the_first_level(with: impl Fn(usize, u32) -> Config) -> Vec<Cluster> {
    let starts = (0..3).map(|place| start(with(place, 1)));
    let nodes = futures_util::future::join_all(starts).await;
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_of_features_rises_when_the_last_node_has_the_new_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let with = |place: usize, features_known: u32| Config { features_known, ..config(dir.path(), place, &addresses) };
    let mut nodes = three_that_know_the_first_level(with).await;
    let ids: Vec<NodeId> = nodes.iter().map(Cluster::node_id).collect();
    for place in [0, 1] {
        assert_eq!(features(&nodes[2]).await, "1", "all that the old program knows");
        nodes.remove(place).shutdown().await;
        nodes.insert(place, start(with(place, 2)).await);
        until("all three", || is_settled(&nodes, 6, 3)).await;
    }
    until_features(&nodes[0], &format!("1, held back from 2: node {} knows 1", ids[2])).await;
    assert!(nodes.iter().all(|node| node.feature_level() == 1));
    nodes.remove(2).shutdown().await;
    until_features(&nodes[0], &format!("1, held back from 2: node {} is silent", ids[2])).await;
    assert_eq!(nodes[1].feature_level(), 1, "it may come back as it was");
    nodes.push(start(with(2, 2)).await);
    until("the level everywhere", || nodes.iter().all(|node| node.feature_level() == 2)).await;
    until_features(&nodes[2], "2").await;
    stop(&nodes).await;
    drop(nodes);
    let refused = Cluster::start(Env::real(), with(2, 1)).await.expect_err("there is no way back");
    assert!(matches!(refused, StartError::Features { level: 2, known: 1, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_holds_the_level_back_until_it_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let with = |place: usize, features_known: u32| Config { features_known, ..config(dir.path(), place, &addresses) };
    let mut nodes = three_that_know_the_first_level(with).await;
    let old = nodes.pop().expect("three");
    let gone = old.node_id();
    old.shutdown().await;
    for place in [0, 1] {
        nodes.remove(place).shutdown().await;
        nodes.insert(place, start(with(place, 2)).await);
    }
    until_features(&nodes[0], &format!("1, held back from 2: node {gone} is silent")).await;
    assert!(nodes.iter().all(|node| node.feature_level() == 1));
    nodes[0].operate(&["drain".to_owned(), gone.to_string()]).await.expect("begun");
    let remove = ["remove".to_owned(), gone.to_string()];
    let deadline = now() + WAIT_MAX;
    while let Err(error) = nodes[0].operate(&remove).await {
        assert!(now() < deadline, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
    until("the level", || nodes.iter().all(|node| node.feature_level() == 2)).await;
    stop(&nodes).await;
}
