//! Partitions that go to nodes on which no shard is that they could go to, and to other leaders on their own nodes.

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
    let set = |nodes: &[NodeId]| nodes.iter().copied().collect::<BTreeSet<_>>();
    let is_on = |partition, wanted: &[NodeId]| {
        set(&nodes.0[0].cluster.voters(shard_of(&nodes.0[0], "t", partition))) == set(wanted)
    };
    let first = usize::from(is_on(0, &sets[0]));
    for wanted in (first..first + 8).map(|at| sets[at % 2]) {
        let places = history(&nodes.0[0], "t", 0).len();
        assert_eq!(reassign(&mut client, "t", 0, &wanted).await, 0);
        until("the move", || nodes.0.iter().all(|node| history(node, "t", 0).len() == places + 1)).await;
        assert!(is_on(0, &wanted));
    }
    let all = data_shards(&nodes);
    assert!(all.len() > before, "{before} shards cannot have been enough: {all:?}");
    let last = shard_of(&nodes.0[0], "t", 0);
    until("all votes", || nodes.is_whole(last)).await;
    // The next one is made for both partitions together.
    let wanted = [1, 2, 4].map(NodeId);
    for partition in (0..2).filter(|partition| !is_on(*partition, &wanted)) {
        let partition = i32::try_from(partition).expect("small");
        assert_eq!(reassign(&mut client, "t", partition, &wanted).await, 0);
    }
    until("the moves", || nodes.0.iter().all(|node| node.cluster.metadata().stream_moves().is_empty())).await;
    let mut client = nodes.0[nodes.leader(shard_of(&nodes.0[0], "t", 0))].client().await;
    assert_eq!(client.produce("t", 0, batch_at(2_000, &[b"b"])).await.error_code, 0);
    let all = read_all(&nodes.0, "t", 0, 0).await;
    assert_eq!(all.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_another_leader_a_partition_goes_to_a_shard_that_it_leads_as_long_as_there_is_one() {
    let nodes = Nodes::start().await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic("t", 1).await;
    let leads =
        |node: NodeId| data_shards(&nodes).into_iter().filter(|shard| first_of(&nodes, *shard) == Some(node)).count();
    until("two leads each", || {
        let is_whole = data_shards(&nodes).into_iter().all(|shard| nodes.is_whole(shard));
        is_whole && nodes.0.iter().all(|node| leads(node.cluster.node_id()) == 2)
    })
    .await;
    let from = shard_of(&nodes.0[0], "t", 0);
    let own = first_of(&nodes, from).expect("it has voters");
    let [one, two] = {
        let mut others = nodes.0.iter().map(|node| node.cluster.node_id()).filter(|node| *node != own);
        [(); 2].map(|()| others.next().expect("three nodes"))
    };
    let mut client = nodes.0[0].client().await;
    // The order of the others is none of a partition's.
    for order in [[own, one, two], [own, two, one]] {
        assert_eq!(reassign(&mut client, "t", 0, &order).await, 0);
    }
    assert_eq!(shard_of(&nodes.0[0], "t", 0), from);
    let mut was_on = vec![from];
    for (first, second) in [(one, own), (own, one), (one, own)] {
        assert_eq!(reassign(&mut client, "t", 0, &[first, second, two]).await, 0);
        let places = was_on.len() + 1;
        until("the move", || nodes.0.iter().all(|node| history(node, "t", 0).len() == places)).await;
        let to = shard_of(&nodes.0[0], "t", 0);
        assert!(first_of(&nodes, to) == Some(first) && !was_on.contains(&to), "{to} after {was_on:?}");
        was_on.push(to);
    }
    let before = data_shards(&nodes).len();
    let refused = client.call(0, &reassignment("t", 0, &[own, one, two])).await.responses[0].partitions[0].clone();
    assert_eq!(refused.error_code, 39);
    let why = refused.error_message.unwrap_or_default();
    assert!(why.contains("is led as its shard is"), "{why:?}");
    assert_eq!(data_shards(&nodes).len(), before, "no shard is made for that");
    nodes.stop().await;
}

/// Who is to lead a shard.
fn first_of(nodes: &Nodes, shard: ShardId) -> Option<NodeId> {
    nodes.0[0].cluster.voters(shard).first().copied()
}
