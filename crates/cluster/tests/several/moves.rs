//! Streams that move between the shards of a node: what was begun is brought to its end by whoever comes, and what goes
//! leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;

use base::Env;
use cluster::{Cluster, Config, METADATA, MovesError};
use record::{ShardId, StreamOffset, TopicId};
use shard::MoveStreamError;
use shard::commands::NewMove;

use crate::support::{free_addresses, joining, operate, start, stop, topic, until, until_status};

const SHARDS: usize = 3;

async fn alone(dir: &Path) -> Cluster {
    let config = Config { shards: SHARDS, segment_bytes: 4 << 20, reserve_bytes: 0, ..Config::new(dir.join("data")) };
    Cluster::start(Env::real(), config).await.expect("started")
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
    let node = alone(dir.path()).await;
    let topic = topic(&node, "t", 12).await;
    let begun = node.move_streams(moves(&node, topic, 12)).await.expect("begun");
    assert!(begun.iter().all(Result::is_ok), "{begun:?}");
    let before: Vec<Vec<ShardId>> = (0..12).map(|partition| history(&node, topic, partition)).collect();
    // In the middle of it.
    node.shutdown().await;
    drop(node);
    let node = alone(dir.path()).await;
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
    let node = alone(dir.path()).await;
    for _ in 0..3 {
        let topic = topic(&node, "t", 12).await;
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
    let node = alone(dir.path()).await;
    let topic = topic(&node, "t", 12).await;
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
    let addresses = free_addresses(3);
    let mut nodes = vec![start(joining(dir.path(), 0, &addresses)).await];
    let topic = topic(&nodes[0], "t", 24).await;
    operate(&nodes[0], &["rebalance", "--stop"]).await.expect("stopped");
    for place in 1..3 {
        nodes.push(start(joining(dir.path(), place, &addresses)).await);
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
    until_status(&nodes[1], |status| status.contains("0 are moving, 16 stay")).await;
    operate(&nodes[2], &["rebalance"]).await.expect("begun");
    until("as many on each", || loads(&nodes[0]) == [4; 6]).await;
    until_status(&nodes[1], |status| status.contains("spread evenly")).await;
    stop(&nodes).await;
}
