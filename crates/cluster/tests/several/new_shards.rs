//! Shards that come with more nodes: nothing is put on one before it has its copies, and nothing waits for one whose
//! founder is gone.

use base::time::{Duration, now, sleep};
use cluster::{Cluster, INTERNAL_LISTENER};
use record::{NodeId, ShardId};
use shard::commands::{AdmitNode, NewShard, OpenShards};
use shard::{NodeAddress, Outcome};

use crate::support::{WAIT_MAX, config, data_shards, free_addresses, joining, operate, start, stop, topic, until};

/// How many vote in a shard, by what its leader says.
fn voters(nodes: &[Cluster], shard: ShardId) -> Option<usize> {
    let leader = nodes.iter().filter_map(|node| node.replica(shard)).find(replica::Replica::is_leader)?;
    leader.members().voters.iter().map(std::collections::BTreeSet::len).max()
}

async fn three(dir: &std::path::Path, addresses: &[std::net::SocketAddr]) -> Vec<Cluster> {
    let starts = (0..3).map(|place| start(config(dir, place, &addresses[..3])));
    let nodes = futures_util::future::join_all(starts).await;
    until("three voters of six shards", || {
        let shards = data_shards(&nodes[0]);
        shards.len() == 6 && shards.iter().all(|shard| voters(&nodes, *shard) == Some(3))
    })
    .await;
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_is_gone_for_good_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let mut nodes = three(dir.path(), &addresses).await;
    // One that was taken in and was to begin two shards, and whose disk is gone.
    let host = addresses[3].ip().to_string();
    let address = NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host, port: addresses[3].port() };
    let admit = AdmitNode { birth: 77, rack: None, addresses: vec![address] };
    let admitted = nodes[0].decide(admit.into()).await.expect("decided");
    assert_eq!(admitted, Outcome::AdmitNode(Ok(NodeId(4))));
    let new = |id| NewShard { id: ShardId(id), founder: NodeId(4) };
    let opened = nodes[0].decide(OpenShards { shards: vec![new(7), new(8)] }.into()).await.expect("decided");
    assert_eq!(opened, Outcome::OpenShards { opened: 2 });
    let gone = topic(&nodes[0], "t", 12).await;
    nodes.push(start(joining(dir.path(), 3, &addresses)).await);
    assert_eq!(nodes[3].node_id(), NodeId(5));
    operate(&nodes[0], &["drain", "4"]).await.expect("begun");
    let deadline = now() + WAIT_MAX;
    while let Err(error) = operate(&nodes[0], &["remove", "4"]).await {
        assert!(now() < deadline, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
    // Others come in their place, under numbers of their own.
    until("two more shards", || {
        let wanted = (9..=10).map(ShardId);
        wanted.into_iter().all(|shard| voters(&nodes, shard) == Some(3))
    })
    .await;
    // Slots move on when every shard is where it should be.
    until("slots of groups on them", || {
        let metadata = nodes[1].metadata();
        [9, 10].map(ShardId).iter().any(|shard| metadata.slot_shards().contains(shard))
    })
    .await;
    // Nothing waits for what was given up.
    nodes[0].delete_topics(vec![gone]).await.remove(0).expect("deleted");
    until("no trace of the topic", || nodes[0].metadata().topic(gone).is_none()).await;
    stop(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_put_on_a_new_shard_before_it_has_its_copies() {
    const NEW: ShardId = ShardId(7);
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let mut nodes = three(dir.path(), &addresses).await;
    // While it is away no shard can get a third copy.
    nodes.pop().expect("three").shutdown().await;
    let founder = nodes[0].node_id();
    let opened = nodes[1].decide(OpenShards { shards: vec![NewShard { id: NEW, founder }] }.into()).await;
    assert_eq!(opened, Ok(Outcome::OpenShards { opened: 1 }));
    until("the new shard is led, as all nodes know", || {
        voters(&nodes, NEW).is_some() && nodes.iter().all(|node| node.leader(NEW).is_some())
    })
    .await;
    let mut number = 0;
    let mut make = async |node: &Cluster| {
        number += 1;
        let made = topic(node, &format!("t{number}"), 1).await;
        let metadata = node.metadata();
        metadata.topic(made).and_then(|topic| topic.partitions[0].shard()).expect("it is somewhere")
    };
    for place in 0..20 {
        assert_ne!(make(&nodes[place % 2]).await, NEW, "{:?}", operate(&nodes[0], &["status"]).await);
    }
    nodes.push(start(config(dir.path(), 2, &addresses)).await);
    until("the new shard is in use", || nodes.iter().all(|node| node.metadata().founder(NEW).is_none())).await;
    assert_eq!(voters(&nodes, NEW), Some(3));
    let deadline = now() + WAIT_MAX;
    while make(&nodes[0]).await != NEW {
        assert!(now() < deadline, "{:?}", operate(&nodes[0], &["status"]).await);
    }
    stop(&nodes).await;
}
