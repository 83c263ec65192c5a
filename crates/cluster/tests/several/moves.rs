//! Streams that move between the shards of a node: what was begun is brought to its end by whoever comes, and what goes
//! leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;

use base::Env;
use base::time::{Duration, now, sleep};
use cluster::{Cluster, Config, METADATA, MovesError, NewTopic};
use record::{ShardId, StreamOffset, TopicId};
use shard::MoveStreamError;
use shard::commands::NewMove;

const WAIT_MAX: Duration = Duration::from_secs(60);
const SHARDS: usize = 3;

async fn start(dir: &Path) -> Cluster {
    let config = Config { shards: SHARDS, segment_bytes: 4 << 20, reserve_bytes: 0, ..Config::new(dir.join("data")) };
    Cluster::start(Env::real(), config).await.expect("started")
}

async fn topic(node: &Cluster, partitions: u32) -> TopicId {
    let topic = NewTopic { name: "t".to_owned(), partitions, configs: BTreeMap::new() };
    node.create_topics(vec![topic]).await.remove(0).expect("made")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + WAIT_MAX;
    while !condition() {
        assert!(now() < deadline, "{what} did not come to be");
        sleep(Duration::from_millis(10)).await;
    }
}

fn history(node: &Cluster, topic: TopicId, partition: usize) -> Vec<ShardId> {
    let metadata = node.metadata();
    metadata.topic(topic).expect("it exists").partitions[partition].history.iter().map(|home| home.shard).collect()
}

/// Moves every partition to the shard behind its own.
fn moves(node: &Cluster, topic: TopicId, partitions: u32) -> Vec<NewMove> {
    let next = |partition: u32| {
        let place = usize::try_from(partition).expect("small");
        let shard = history(node, topic, place).last().expect("it is somewhere").0;
        ShardId(shard % u32::try_from(SHARDS).expect("small") + 1)
    };
    (0..partitions).map(|partition| NewMove { topic, partition, to: next(partition) }).collect()
}

fn streams(node: &Cluster) -> usize {
    node.replicas().iter().map(|replica| replica.state().streams()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let topic = topic(&node, 12).await;
    let begun = node.move_streams(moves(&node, topic, 12)).await.expect("begun");
    assert!(begun.iter().all(Result::is_ok), "{begun:?}");
    let before: Vec<Vec<ShardId>> = (0..12).map(|partition| history(&node, topic, partition)).collect();
    // In the middle of it.
    node.shutdown().await;
    drop(node);
    let node = start(dir.path()).await;
    until("the moves", || node.metadata().stream_moves().is_empty()).await;
    for (partition, before) in before.iter().enumerate() {
        let after = history(&node, topic, partition);
        assert_eq!(after.len(), 2);
        assert!(before.len() == 2 || after[..1] == before[..], "{before:?} {after:?}");
        let stream = node.metadata().topic(topic).expect("it exists").partitions[partition].stream;
        let replica = |shard| node.replica(shard).expect("it is here");
        assert!(replica(after[0]).state().stream(stream).expect("its end is here").is_closed());
        let opened = replica(after[1]);
        let state = opened.state();
        let view = state.stream(stream).expect("it is here");
        assert!(!view.is_closed() && view.first_offset() == StreamOffset(0));
    }
    let again = node.move_streams(vec![NewMove { topic, partition: 0, to: history(&node, topic, 0)[0] }]).await;
    assert_eq!(again, Ok(vec![Err(MoveStreamError::OnShard)]), "an earlier range of it is there");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_while_it_moves_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    for _ in 0..3 {
        let topic = topic(&node, 12).await;
        let begun = node.move_streams(moves(&node, topic, 12)).await.expect("begun");
        assert!(begun.iter().all(Result::is_ok), "{begun:?}");
        node.delete_topics(vec![topic]).await.remove(0).expect("deleted");
        until("the end of it", || node.metadata().topic(topic).is_none()).await;
        assert!(node.metadata().stream_moves().is_empty());
        until("no stream", || streams(&node) == 0).await;
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_given_up_or_comes_to_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let topic = topic(&node, 12).await;
    node.move_streams(moves(&node, topic, 12)).await.expect("begun");
    let mut given_up = 0;
    for partition in 0..12 {
        match node.cancel_move(topic, partition).await {
            Ok(()) => given_up += 1,
            Err(MovesError::TooLate | MovesError::NoMove) => {}
            Err(error) => panic!("{error}"),
        }
    }
    until("the end of all", || node.metadata().stream_moves().is_empty()).await;
    let moved = (0..12).filter(|partition| history(&node, topic, *partition).len() == 2).count();
    assert_eq!(moved + given_up, 12);
    // What was given up can be taken up.
    for partition in (0..12_u32).filter(|partition| history(&node, topic, *partition as usize).len() == 1) {
        let new = moves(&node, topic, 12).remove(partition as usize);
        assert!(node.move_streams(vec![new]).await.expect("begun")[0].is_ok());
    }
    until("all of them", || (0..12).all(|partition| history(&node, topic, partition).len() == 2)).await;
    assert_eq!(node.leader(METADATA), Some(node.node_id()));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_lone_node_spread_over_the_shards_of_those_that_join() {
    let dir = tempfile::tempdir().expect("a directory");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let addresses: Vec<std::net::SocketAddr> =
        (0..3).map(|place| ([127, high | 64, low, 200 + place], 9190).into()).collect();
    let config = |place: usize| Config {
        listen: Some(addresses[place]),
        join: if place == 0 { Vec::new() } else { vec![(addresses[0].ip().to_string(), addresses[0].port())] },
        shards: 2,
        segment_bytes: 4 << 20,
        reserve_bytes: 0,
        ..Config::new(dir.path().join(place.to_string()))
    };
    let mut nodes = vec![Cluster::start(Env::real(), config(0)).await.expect("started")];
    let topic = topic(&nodes[0], 24).await;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    nodes[0].operate(&words(&["rebalance", "--stop"])).await.expect("stopped");
    for place in 1..3 {
        nodes.push(Cluster::start(Env::real(), config(place)).await.expect("started"));
    }
    let loads = |node: &Cluster| {
        let mut loads: BTreeMap<ShardId, usize> =
            node.metadata().shard_records().iter().map(|record| (record.id, 0)).collect();
        loads.remove(&METADATA);
        for partition in 0..24 {
            *loads.entry(*history(node, topic, partition).last().expect("somewhere")).or_default() += 1;
        }
        loads.into_values().collect::<Vec<_>>()
    };
    until("six shards", || loads(&nodes[0]).len() == 6).await;
    let deadline = now() + WAIT_MAX;
    loop {
        let status = nodes[1].operate(&words(&["status"])).await.expect("told");
        if status.contains("0 are moving, 16 stay") {
            break;
        }
        assert!(now() < deadline, "{status}");
        sleep(Duration::from_millis(50)).await;
    }
    nodes[2].operate(&words(&["rebalance"])).await.expect("begun");
    until("as many on each", || loads(&nodes[0]) == [4; 6]).await;
    let deadline = now() + WAIT_MAX;
    loop {
        let status = nodes[1].operate(&words(&["status"])).await.expect("told");
        if status.contains("spread evenly") {
            break;
        }
        assert!(now() < deadline, "{status}");
        sleep(Duration::from_millis(50)).await;
    }
    for node in &nodes {
        node.shutdown().await;
    }
}
