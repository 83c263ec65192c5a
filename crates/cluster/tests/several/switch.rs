//! A lone node that is to become one of another cluster, while clients are served: whatever they were told of is there
//! afterwards.

use std::net::SocketAddr;
use std::path::Path;

use base::Env;
use base::task::spawn;
use cluster::{Cluster, Config};
use record::{LeaderEpoch, Partition, StreamOffset, TimestampMs, TopicId};
use shard::commands::CommitOffsets;
use shard::{CommittedOffset, Outcome};
use storage::data_dir::{Claim, DataDir};

use crate::support::{config, free_addresses, operate, start, stop, topic, until};

/// A node that founds a cluster of its own.
fn alone(dir: &Path, place: usize, addresses: &[SocketAddr]) -> Config {
    Config { join: Vec::new(), ..config(dir, place, addresses) }
}

async fn commit(node: &Cluster) {
    let offset = CommittedOffset {
        topic: TopicId(7),
        partition: Partition(0),
        offset: StreamOffset(3),
        leader_epoch: LeaderEpoch(0),
        metadata: String::new(),
        commit_time: TimestampMs(1),
    };
    let command = CommitOffsets { group_id: "group".to_owned(), check: None, offsets: vec![offset] };
    let committed = node.propose(node.slot_shard("group"), command.into()).await;
    assert!(matches!(committed, Ok(Outcome::CommitOffsets(Ok(())))), "{committed:?}");
}

/// What a client is told of after the operator's command was taken, and before a cluster has answered.
async fn is_kept(change: impl AsyncFnOnce(&Cluster), what: &str, is_there: impl Fn(&Cluster) -> bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let first = start(alone(dir.path(), 0, &addresses)).await;
    let second = start(alone(dir.path(), 1, &addresses)).await;
    let own = second.cluster_id();
    // It is asked first, and says nothing.
    let silent = Env::real().network.listen(addresses[2]).await.expect("a listener");
    let asking = spawn("operator", {
        let (node, words) = (second.clone(), format!("{},{}", addresses[2], addresses[0]));
        async move { operate(&node, &["join", &words]).await }
    });
    let asked = silent.accept().await.expect("it is asked");
    change(&second).await;
    assert!(is_there(&second));
    drop(asked);
    let refused = asking.await.expect("no panic").expect_err("it has something now");
    assert!(refused.contains(what), "{refused}");
    until("the call for a new start", || *second.starts_anew().borrow()).await;
    second.shutdown().await;
    drop(second);
    let second = start(alone(dir.path(), 1, &addresses)).await;
    assert_eq!(second.cluster_id(), own);
    assert!(is_there(&second), "what was acknowledged");
    topic(&second, "later", 1).await;
    stop(&[first, second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_while_a_node_looks_for_its_cluster_is_kept() {
    let make = async |node: &Cluster| {
        topic(node, "mine", 2).await;
    };
    is_kept(make, "topics", |node| node.metadata().topic_by_name("mine").is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_while_a_node_looks_for_its_cluster_is_kept() {
    let committed = |node: &Cluster| {
        let replica = node.replica(node.slot_shard("group")).expect("here");
        replica.state().offset("group", TopicId(7), Partition(0)).is_some()
    };
    is_kept(commit, "consumer groups", committed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_while_a_cluster_is_given_up_is_acknowledged_and_kept_or_neither() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(8);
    let first = start(alone(dir.path(), 0, &addresses)).await;
    for place in 1..6 {
        let node = start(alone(dir.path(), place, &addresses)).await;
        let own = node.cluster_id();
        let address = addresses[0].to_string();
        let made = spawn("client", {
            let node = node.clone();
            async move {
                let new = cluster::NewTopic { name: "mine".to_owned(), partitions: 2, configs: [].into() };
                // Later by a little in each round.
                for _ in 0..place * 20 {
                    base::task::yield_now().await;
                }
                node.create_topics(vec![new]).await.remove(0).is_ok()
            }
        });
        let joined = operate(&node, &["join", &address]).await;
        // Nobody waits for a leader that does not come back.
        node.shutdown().await;
        let made = made.await.expect("no panic");
        drop(node);
        assert!(!(made && joined.is_ok()), "what was acknowledged is given up");
        let node = start(alone(dir.path(), place, &addresses)).await;
        match joined {
            Ok(_) => assert_eq!(node.cluster_id(), first.cluster_id()),
            Err(error) => assert_eq!(node.cluster_id(), own, "{error}"),
        }
        assert!(!made || node.metadata().topic_by_name("mine").is_some(), "what was acknowledged is there");
        node.shutdown().await;
    }
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_given_up_and_holds_something_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(2);
    let first = start(alone(dir.path(), 0, &addresses)).await;
    let second = start(alone(dir.path(), 1, &addresses)).await;
    let own = second.cluster_id();
    topic(&second, "mine", 2).await;
    second.shutdown().await;
    drop(second);
    let path = dir.path().join("1");
    let give_up = async || {
        let data_dir = DataDir::open(&Env::real(), &path).await.expect("opened");
        data_dir.give_up(&[(addresses[0].ip().to_string(), addresses[0].port())]).await.expect("written");
    };
    give_up().await;
    let second = start(alone(dir.path(), 1, &addresses)).await;
    assert_eq!(second.cluster_id(), own);
    let id = second.metadata().topic_by_name("mine").expect("kept").id;
    second.delete_topics(vec![id]).await.remove(0).expect("deleted");
    second.shutdown().await;
    drop(second);
    assert!(!Claim::take(&Env::real(), &path).await.expect("taken").gives_up(), "it goes on as before");
    // With nothing in it, it goes.
    give_up().await;
    let second = start(alone(dir.path(), 1, &addresses)).await;
    assert_eq!(second.cluster_id(), first.cluster_id());
    stop(&[first, second]).await;
}
