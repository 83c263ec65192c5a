//! What is asked of a node whose copy of the metadata is behind: it leaves to others what it cannot see, and nobody is sent
//! there until it has caught up.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Env;
use base::disk::GatedDisk;
use base::time::{Duration, now};
use cluster::{AddPartitionsError, Cluster, CreateTopicError, NewTopic};
use record::{ShardId, StreamId};
use replica::ProposeError;
use shard::TopicState;

use crate::nodes::is_settled;
use crate::support::{config, free_addresses, start, stop, topic, until, until_status};

/// Whether the topic lives with all its partitions, each with its stream.
fn is_whole(nodes: &[Cluster], name: &str, partitions: usize) -> bool {
    let metadata = nodes[0].metadata();
    let Some(topic) = metadata.topic_by_name(name) else { return false };
    topic.state == TopicState::Live
        && topic.live().len() == partitions
        && topic.partitions.iter().all(|placement| {
            let has_stream = |shard| leader(nodes, shard).is_some_and(|node| has_stream(node, shard, placement.stream));
            placement.shard().is_some_and(has_stream)
        })
}

fn leader(nodes: &[Cluster], shard: ShardId) -> Option<&Cluster> {
    nodes.iter().find(|node| node.replica(shard).is_some_and(|replica| replica.is_leader()))
}

fn has_stream(node: &Cluster, shard: ShardId, stream: StreamId) -> bool {
    node.replica(shard).is_some_and(|replica| replica.state().stream(stream).is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_are_changed_by_a_node_that_lags_are_whole_and_nothing_stays_of_removed_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let disk = GatedDisk::new();
    let late = async {
        let env = Env { disk: Arc::new(disk.clone()), ..Env::real() };
        Cluster::start(env, config(dir.path(), 2, &addresses)).await.expect("started")
    };
    let others = [start(config(dir.path(), 0, &addresses)), start(config(dir.path(), 1, &addresses))];
    let (late, others) = tokio::join!(late, futures_util::future::join_all(others));
    let mut nodes = others;
    nodes.push(late);
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    let late = nodes.pop().expect("the third");
    for name in ["grows", "goes"] {
        topic(&nodes[0], name, 2).await;
    }
    nodes[0].settled().await;
    let shards: Vec<ShardId> = nodes[0].metadata().shard_records().iter().map(|record| record.id).collect();
    // It takes nothing more, and still asks others.
    disk.close();
    until("the others lead", || shards.iter().all(|shard| leader(&nodes, *shard).is_some())).await;

    let gone = late.metadata().topic_by_name("goes").expect("known").id;
    let grows = late.metadata().topic_by_name("grows").expect("known").id;
    nodes[0].add_partitions(gone, 6).await.expect("added");
    let removed: Vec<(ShardId, StreamId)> = {
        let metadata = nodes[0].metadata();
        let placements = &metadata.topic(gone).expect("known").partitions;
        placements.iter().filter_map(|placement| Some((placement.shard()?, placement.stream))).collect()
    };
    assert_eq!(removed.len(), 6);
    let new = NewTopic { name: "new".to_owned(), partitions: 4, configs: BTreeMap::new() };
    let (made, added, deleted) =
        tokio::join!(late.create_topics(vec![new]), late.add_partitions(grows, 5), late.delete_topics(vec![gone]));
    // Mostly it cannot say more than that: the topic may be whole by now. It can when the others do without it before its time is up.
    assert!(matches!(*made, [Ok(_) | Err(CreateTopicError::Propose(ProposeError::Unknown))]), "{made:?}");
    assert!(matches!(added, Ok(_) | Err(AddPartitionsError::Propose(ProposeError::Unknown))), "{added:?}");
    assert_eq!(deleted, [Ok(())]);
    assert!(late.metadata().topic_by_name("new").is_none(), "it does lag");
    until("the new topic is whole", || is_whole(&nodes, "new", 4)).await;
    until("the grown topic is whole", || is_whole(&nodes, "grows", 5)).await;
    until("nothing is left", || {
        let left = |(shard, stream): &(ShardId, StreamId)| {
            leader(&nodes, *shard).is_none_or(|node| has_stream(node, *shard, *stream))
        };
        nodes[0].metadata().topic(gone).is_none() && !removed.iter().any(left)
    })
    .await;
    // It is out of routing, and changes do not wait for it any more.
    until("the others do without it", || nodes.iter().all(|node| !node.is_live(late.node_id()))).await;
    until("it knows itself", || !late.is_live(late.node_id())).await;
    let state = [late.node_id().to_string(), "behind".to_owned()];
    until_status(&nodes[0], |status| {
        // Its line among the nodes; those of shards begin with their number, too.
        status.lines().any(|line| line.split_whitespace().take(2).eq(state.iter()))
    })
    .await;
    let since = now();
    topic(&nodes[0], "quick", 2).await;
    nodes[0].settled().await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(late.metadata().topic_by_name("quick").is_none());

    disk.open();
    nodes.push(late);
    let is_back = |node: &Cluster| nodes.iter().all(|other| node.is_live(other.node_id()));
    until("it is back", || nodes.iter().all(is_back)).await;
    topic(&nodes[0], "last", 2).await;
    nodes[0].settled().await;
    assert!(nodes[2].metadata().topic_by_name("last").is_some(), "it is waited for again");
    let leads = || shards.iter().any(|shard| nodes[2].replica(*shard).is_some_and(|replica| replica.is_leader()));
    until("it leads again", leads).await;
    stop(&nodes).await;
}
