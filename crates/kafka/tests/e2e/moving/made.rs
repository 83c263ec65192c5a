//! Partitions that go to nodes on which no shard is that they could go to.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_made_where_none_is_to_which_a_partition_could_go() {
    let nodes = Nodes::start_some(4).await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic("t", 2).await;
    until("the shards are whole", || data_shards(&nodes).into_iter().all(|shard| nodes.is_whole(shard))).await;
    let before = data_shards(&nodes).len();
    let mut client = nodes.0[nodes.leader(shard_of(&nodes.0[0], "t", 0))].client().await;
    assert_eq!(client.produce("t", 0, batch_at(1_000, &[b"a"])).await.error_code, 0);
    assert_eq!(reassign(&mut client, "t", 0, &[1, 2, 9].map(NodeId)).await, 39, "nobody is node 9");
    // Forth and back, and never to a shard again on which it was: there are no more of them soon.
    let sets = [[1, 2, 3], [4, 3, 2]].map(|ids| ids.map(NodeId));
    let mut moves = 0;
    for wanted in (0..8).map(|at| sets[at % 2]) {
        let set = |nodes: &[NodeId]| nodes.iter().copied().collect::<BTreeSet<_>>();
        let places = history(&nodes.0[0], "t", 0).len();
        let is_there = set(&nodes.0[0].cluster.voters(shard_of(&nodes.0[0], "t", 0))) == set(&wanted);
        assert_eq!(reassign(&mut client, "t", 0, &wanted).await, 0);
        let expected = places + usize::from(!is_there);
        moves += usize::from(!is_there);
        until("the move", || nodes.0.iter().all(|node| history(node, "t", 0).len() == expected)).await;
        let shard = shard_of(&nodes.0[0], "t", 0);
        assert_eq!(set(&nodes.0[0].cluster.voters(shard)), set(&wanted));
    }
    assert!(moves >= 7, "{moves}");
    let all = data_shards(&nodes);
    assert!(all.len() > before, "{before} shards cannot have been enough: {all:?}");
    let last = shard_of(&nodes.0[0], "t", 0);
    until("all votes", || nodes.is_whole(last)).await;
    // The next one is made for both partitions together.
    let wanted = [1, 2, 4].map(NodeId);
    for partition in 0..2 {
        assert_eq!(reassign(&mut client, "t", partition, &wanted).await, 0);
    }
    until("the moves", || nodes.0.iter().all(|node| node.cluster.metadata().stream_moves().is_empty())).await;
    let mut client = nodes.0[nodes.leader(shard_of(&nodes.0[0], "t", 0))].client().await;
    assert_eq!(client.produce("t", 0, batch_at(2_000, &[b"b"])).await.error_code, 0);
    let all = read_all(&nodes.0, "t", 0, 0).await;
    assert_eq!(all.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    nodes.stop().await;
}
