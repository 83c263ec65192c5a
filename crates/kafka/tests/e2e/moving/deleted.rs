//! Records of a partition that moved go from its front, wherever they are.

use bytes::Bytes;
use record::{ShardId, StreamOffset};

use super::{data_shards, history, list, move_to, read_on, shard_of, stop_rebalancing};
use crate::configs::{SET, TOPIC, alter};
use crate::retention::{delete, often};
use crate::several::{Nodes, until};
use crate::support::{Client, batch_at};

/// The first offset that the copies of a stream have on a shard: none while they differ.
fn first_on(nodes: &Nodes, shard: ShardId) -> Option<i64> {
    let topic = nodes.0[0].cluster.metadata().topic_by_name("t").expect("it exists").clone();
    let stream = topic.partitions[0].stream;
    let replicas = nodes.0.iter().filter_map(|node| node.cluster.replica(shard));
    let firsts = replicas.map(|replica| replica.state().stream(stream).map(|view| view.first_offset()));
    let mut firsts: Vec<Option<StreamOffset>> = firsts.collect();
    firsts.dedup();
    if firsts.len() == 1 { firsts[0].map(|first| first.0) } else { None }
}

async fn read_from(nodes: &Nodes, first: i64) -> Vec<(i64, Bytes)> {
    read_on(&nodes.0, "t", 0, first, first).await
}

async fn leader(nodes: &Nodes) -> Client {
    nodes.0[nodes.leader(shard_of(&nodes.0[0], "t", 0))].client().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_before_a_move_goes_first() {
    let nodes = Nodes::start_with(3, often).await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic_with("t", 1, &[("retention.ms", "-1")]).await;
    let now = nodes.0[0].env.wall_clock.now_ms();
    let first = shard_of(&nodes.0[0], "t", 0);
    let second = data_shards(&nodes).into_iter().find(|shard| *shard != first).expect("there are six");
    for (to, times) in [(None, [1_000, 2_000, now]), (Some(second), [3_000, now, now])] {
        if let Some(to) = to {
            // It does not begin with its first record when it moves.
            let mut client = leader(&nodes).await;
            assert_eq!(delete(&mut client, 2, "t", &[(0, 1)]).await, [(0, 1)]);
            move_to(&nodes.0, "t", 0, to).await;
        }
        let mut client = leader(&nodes).await;
        for time in times {
            assert_eq!(client.produce("t", 0, batch_at(time, &[b"x", b"y"])).await.error_code, 0);
        }
    }
    let mut client = leader(&nodes).await;
    assert_eq!((list(&mut client, "t", -2).await.1, client.fetch("t", 0, 0).await.error_code), (1, 1));
    assert_eq!(list(&mut client, "t", 0).await, (0, 1, 1_001), "no record before the first");
    assert_eq!(read_from(&nodes, 1).await.len(), 11);
    // On the shard where it was.
    assert_eq!(delete(&mut client, 2, "t", &[(0, 2)]).await, [(0, 2)]);
    assert_eq!((list(&mut client, "t", -2).await.1, client.fetch("t", 0, 1).await.error_code), (2, 1));
    assert_eq!(history(&nodes.0[0], "t", 0), [(2, first), (6, second)]);
    until("the other shard lets go of it", || first_on(&nodes, first) == Some(2)).await;
    assert_eq!(list(&mut client, "t", 0).await, (0, 2, 2_000));
    assert_eq!(read_from(&nodes, 2).await.len(), 10);
    // By time, which ends at what is young on the shard where it was.
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("retention.ms", SET, Some("3600000"))]).await, 0);
    until("what is old goes", || first_on(&nodes, first) == Some(4)).await;
    assert_eq!((list(&mut client, "t", -2).await.1, first_on(&nodes, second)), (4, Some(6)));
    assert_eq!(read_from(&nodes, 4).await.len(), 8);
    // By size: what is on its shard alone is enough.
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("retention.ms", SET, Some("-1"))]).await, 0);
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("retention.bytes", SET, Some("100"))]).await, 0);
    until("what is too much goes", || first_on(&nodes, first) == Some(6)).await;
    until("and then what is on its shard", || first_on(&nodes, second) == Some(8)).await;
    assert_eq!((list(&mut client, "t", -2).await.1, history(&nodes.0[0], "t", 0)), (8, vec![(6, first), (6, second)]));
    assert_eq!(read_from(&nodes, 8).await.len(), 4);
    // And over the place of the move.
    assert_eq!(delete(&mut client, 2, "t", &[(0, -1)]).await, [(0, 12)]);
    assert_eq!(client.produce("t", 0, batch_at(now, &[b"z"])).await.log_start_offset, 12);
    nodes.stop().await;
}
