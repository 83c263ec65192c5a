//! All nodes stop while a shard is on its way to others: those that vote in it until then are still needed.

use std::collections::BTreeSet;

use cluster::Cluster;
use futures_util::future::join_all;
use record::{NodeId, ShardId};

use crate::support::{config, data_shards, free_addresses, operate, start, stop, topic, until};

const NODES: usize = 5;

fn wanted(node: &Cluster, shard: ShardId) -> BTreeSet<NodeId> {
    node.voters(shard).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_was_on_its_way_when_all_nodes_stopped_is_led_again_and_arrives() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(5);
    // Nobody gets a copy with that rate.
    let start_all = |rate: Option<u64>| {
        let config = |place| cluster::Config {
            shards: 1,
            catch_up_bytes_per_second: rate,
            ..config(dir.path(), place, &addresses)
        };
        join_all((0..NODES).map(config).map(start))
    };
    let nodes = start_all(None).await;
    until("three voters of every shard", || data_shards(&nodes[0]).len() == NODES).await;
    operate(&nodes[0], &["rebalance", "--stop"]).await.expect("stopped");
    topic(&nodes[0], "t", 8).await;
    until("each has its voters", || {
        data_shards(&nodes[0]).iter().all(|shard| {
            let leads = |node: &Cluster| {
                node.replica(*shard).is_some_and(|replica| {
                    let members = replica.members();
                    replica.is_leader() && !members.is_changing() && members.voters[0].len() == 3
                })
            };
            nodes.iter().any(leads)
        })
    })
    .await;
    stop(&nodes).await;
    drop(nodes);
    let nodes = start_all(Some(1)).await;
    let shard = data_shards(&nodes[0])[0];
    let before = wanted(&nodes[0], shard);
    let stays = *before.first().expect("three");
    let all: BTreeSet<NodeId> = nodes.iter().map(Cluster::node_id).collect();
    let after: Vec<NodeId> = all.difference(&before).copied().chain([stays]).collect();
    let named = after.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    until("all are heard of", || all.iter().all(|id| *id == nodes[0].node_id() || nodes[0].is_live(*id))).await;
    operate(&nodes[0], &["move", &shard.to_string(), &named]).await.expect("begun");
    let after: BTreeSet<NodeId> = after.into_iter().collect();
    until("all know", || nodes.iter().all(|node| wanted(node, shard) == after)).await;
    stop(&nodes).await;
    drop(nodes);

    let nodes = start_all(None).await;
    until("it is led, and arrives", || {
        let leader = nodes.iter().find_map(|node| node.replica(shard).filter(replica::Replica::is_leader));
        leader.is_some_and(|leader| {
            let members = leader.members();
            !members.is_changing() && members.voters[0].iter().copied().collect::<BTreeSet<_>>() == after
        })
    })
    .await;
    until("the others have let go of it", || nodes.iter().filter(|node| node.replica(shard).is_some()).count() == 3)
        .await;
    stop(&nodes).await;
}
