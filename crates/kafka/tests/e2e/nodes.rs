//! Several nodes: clients learn where everything is from any of them, are sent to whoever leads, and lose nothing when
//! that changes.

use base::time::{Duration, now, sleep, timeout};
use bytes::Bytes;
use cluster::METADATA;
use futures_util::future::join_all;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeClusterRequest, FetchRequest, FetchResponse, ProduceResponse,
};
use record::{NodeId, ShardId};

use crate::cluster::quorum_of;
use crate::groups::{heartbeat, joined, sync};
use crate::offsets::{commit, commit_codes};
use crate::several::{Nodes, coordinator, create, described, earliest, latest, until};
use crate::support::{Node, PATIENCE, batch, fetch_request, produce_request, stamped, text, topic_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_where_everything_is_and_sends_clients_there() {
    let nodes = Nodes::start().await;
    let mut clients = join_all(nodes.0.iter().map(Node::client)).await;
    for client in &mut clients {
        let listed = client.metadata(Some(&[]), false).await;
        let expected: Vec<_> = nodes.0.iter().map(|node| (node.cluster.node_id().0, node.address.port())).collect();
        let brokers: Vec<_> = listed
            .brokers
            .iter()
            .map(|broker| {
                (u64::try_from(broker.node_id.0).expect("an id"), u16::try_from(broker.port).expect("a port"))
            })
            .collect();
        assert_eq!(brokers, expected);
        let mut racks: Vec<_> = listed.brokers.iter().map(|broker| broker.rack.as_deref().expect("a rack")).collect();
        racks.sort_unstable();
        assert_eq!(racks, ["rack 0", "rack 1", "rack 2"]);
        let cluster = client.call(2, &DescribeClusterRequest::default().with_endpoint_type(1)).await;
        assert_eq!((cluster.brokers.len(), cluster.controller_id), (3, listed.controller_id));
    }
    // Whatever one node was told, all show at once.
    for place in 0..3 {
        let name = format!("t{place}");
        assert_eq!(create(&mut clients[place], &name, [-1, 1, 3][place]).await, (0, 3));
        for client in &mut clients {
            let topic = described(client, &name).await;
            assert_eq!(topic.error_code, 0);
            let partition = &topic.partitions[0];
            assert_eq!(
                (partition.replica_nodes.len(), partition.isr_nodes.len(), partition.offline_replicas.len()),
                (3, 3, 0)
            );
        }
    }
    assert_eq!(create(&mut clients[0], "too-many", 4).await.0, 38);
    let state = DeleteTopicState::default().with_name(Some(topic_name("t2")));
    let deletion = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(10_000);
    assert_eq!(clients[1].call(6, &deletion).await.responses[0].error_code, 0);
    for client in &mut clients {
        assert_eq!(described(client, "t2").await.error_code, 3);
    }
    // Only the leader serves a partition; the others name it.
    let shard = nodes.shard_of("t0");
    let place = nodes.leader(shard);
    let leader = i32::try_from(nodes.0[place].cluster.node_id().0).expect("a small number");
    assert_eq!(clients[place].produce("t0", 0, batch(&[b"a"])).await.error_code, 0);
    assert_eq!(latest(&mut clients[place], "t0").await, (0, 1));
    let epoch = described(&mut clients[place], "t0").await.partitions[0].leader_epoch;
    for client in clients.iter_mut().enumerate().filter(|(other, _)| *other != place).map(|(_, client)| client) {
        assert_eq!(described(client, "t0").await.partitions[0].leader_id.0, leader);
        assert_eq!((latest(client, "t0").await, earliest(client, "t0").await), ((6, -1), (6, -1)));
        let refused: ProduceResponse = client.call(12, &produce_request(-1, "t0", 0, Some(batch(&[b"b"])))).await;
        let partition = &refused.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
        assert_eq!(partition.current_leader.leader_epoch, epoch);
        assert!(refused.node_endpoints.iter().any(|node| node.node_id.0 == leader && node.rack.is_some()));
        let mut request = fetch_request(&[("", &[(0, 0)])]);
        request.topics[0].topic_id = described(client, "t0").await.topic_id;
        let refused: FetchResponse = client.call(16, &request).await;
        let partition = &refused.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
        assert!(refused.node_endpoints.iter().any(|node| node.node_id.0 == leader));
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_answered_when_its_partition_gets_another_leader() {
    let nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    let mut reader = nodes.0[nodes.leader(shard)].client().await;
    let request = fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(120_000);
    reader.send(12, &request).await;
    let to = nodes.move_leader(shard).await;
    let answered = timeout(PATIENCE, reader.next::<FetchRequest>(12, 0)).await;
    assert_eq!(answered.expect("at once").responses[0].partitions[0].error_code, 6);
    // Who comes to the new leader with the epoch of the one before is told that there is another.
    let mut client = nodes.0[to].client().await;
    let mut request = fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(0);
    let epoch = described(&mut client, "t").await.partitions[0].leader_epoch;
    for (asked, code) in [(epoch, 0), (epoch - 1, 74), (epoch + 1, 75)] {
        request.topics[0].partitions[0].current_leader_epoch = asked;
        assert_eq!(client.call(12, &request).await.responses[0].partitions[0].error_code, code);
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_keeps_its_generation_when_its_coordinator_changes() {
    let nodes = Nodes::start().await;
    let mut clients = join_all(nodes.0.iter().map(Node::client)).await;
    assert_eq!(create(&mut clients[0], "t", -1).await.0, 0);
    let shard = nodes.0[0].cluster.slot_shard("g");
    let mut place = nodes.leader(shard);
    let joined = joined(&mut clients[place], 5, "g", b"wishes").await;
    assert_eq!(joined.error_code, 0);
    let (generation, member) = (joined.generation_id, joined.member_id.to_string());
    let share = Bytes::from_static(b"share");
    let synced = clients[place].call(5, &sync("g", generation, &member, &[(&member, share.clone())])).await;
    assert_eq!(synced.error_code, 0);
    for round in 0..2 {
        let request = commit("g", "t", &[(0, 10 + round, None)])
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&member));
        assert_eq!(commit_codes(&mut clients[place], 8, &request).await, [0]);
        let id = i32::try_from(nodes.0[place].cluster.node_id().0).expect("a small number");
        for (other, client) in clients.iter_mut().enumerate() {
            assert_eq!(coordinator(client, "g").await, (0, id));
            let code = client.call(4, &heartbeat("g", generation, &member)).await.error_code;
            assert_eq!(code, if other == place { 0 } else { 16 });
        }
        place = nodes.move_leader(shard).await;
        // The same member in the same generation, and its share as it was.
        assert_eq!(clients[place].call(4, &heartbeat("g", generation, &member)).await.error_code, 0);
        let synced = clients[place].call(5, &sync("g", generation, &member, &[])).await;
        assert_eq!((synced.error_code, synced.assignment), (0, share.clone()));
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_goes_on_when_the_leader_goes_and_comes_back() {
    let nodes = Nodes::start().await;
    let mut clients = join_all(nodes.0.iter().map(Node::client)).await;
    assert_eq!(create(&mut clients[0], "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    let first = nodes.leader(shard);
    let next = |sequence| stamped(7, 0, sequence, &[b"a"]);
    assert_eq!(clients[first].produce("t", 0, next(0)).await.error_code, 0);
    let second = nodes.move_leader(shard).await;
    assert_eq!(clients[first].produce("t", 0, next(1)).await.error_code, 6);
    // What may have been appended before is known at the new leader.
    let repeated = clients[second].produce("t", 0, next(0)).await;
    assert_eq!((repeated.error_code, repeated.base_offset), (0, 0));
    for sequence in 1..3 {
        let produced = clients[second].produce("t", 0, next(sequence)).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, sequence.into()));
    }
    assert_eq!(clients[second].produce("t", 0, next(4)).await.error_code, 6, "the one before may be on its way");
    nodes.move_leader_to(shard, first).await;
    let produced = clients[first].produce("t", 0, next(3)).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 3), "on the connection that was refused before");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_node_that_led() {
    let mut nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    let gone = nodes.leader(shard);
    let mut producer = nodes.0[gone].client().await;
    for value in [b"a", b"b", b"c"] {
        assert_eq!(producer.produce("t", 0, batch(&[value])).await.error_code, 0);
    }
    drop((client, producer));
    let gone = nodes.0.remove(gone);
    let gone_id = gone.cluster.node_id();
    gone.stop().await;
    let leads = |node: &Node| node.cluster.replica(shard).is_some_and(|replica| replica.is_leader());
    until("another leader", || nodes.0.iter().any(leads)).await;
    until("one node less", || nodes.0.iter().all(|node| !node.cluster.is_live(gone_id))).await;
    let place = nodes.0.iter().position(leads).expect("one leads");
    let mut client = nodes.0[place].client().await;
    let found = client.fetch("t", 0, 0).await;
    assert_eq!((found.error_code, found.high_watermark), (0, 3));
    assert_eq!(client.produce("t", 0, batch(&[b"d"])).await.error_code, 0);
    assert_eq!(latest(&mut client, "t").await, (0, 4));
    let two =
        || nodes.0.iter().all(|node| node.broker.nodes().copies(shard).map(|copies| copies.in_sync.len()) == Some(2));
    until("two copies", two).await;
    let listed = client.metadata(Some(&["t"]), false).await;
    assert_eq!(listed.brokers.len(), 2);
    let partition = &listed.topics[0].partitions[0];
    let gone_id = i32::try_from(gone_id.0).expect("a small number");
    assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (3, 2));
    assert_eq!(partition.offline_replicas.iter().map(|node| node.0).collect::<Vec<_>>(), [gone_id]);
    assert!(NodeId(u64::try_from(partition.leader_id.0).expect("an id")) == nodes.0[place].cluster.node_id());
    nodes.stop().await;
}

/// Who asks while nobody leads would pause, and then ask again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_meets_a_hand_over_is_told_at_once_where_to_go() {
    let nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    for _ in 0..4 {
        let from = nodes.leader(shard);
        let to = (from + 1) % 3;
        let next = nodes.0[to].cluster.node_id();
        let mut writer = nodes.0[from].client().await;
        let before = described(&mut writer, "t").await.partitions[0].leader_epoch;
        let replica = nodes.0[from].cluster.replica(shard).expect("it leads");
        replica.transfer_leader(next).await.expect("it is asked");
        let refused = loop {
            let response: ProduceResponse = writer.call(12, &produce_request(-1, "t", 0, Some(batch(&[b"a"])))).await;
            let answer = response.responses[0].partition_responses[0].clone();
            if answer.error_code != 0 {
                break answer;
            }
        };
        let leader = refused.current_leader;
        assert_eq!((refused.error_code, leader.leader_id.0), (6, i32::try_from(next.0).expect("a small number")));
        assert!(leader.leader_epoch > before, "{} after {before}", leader.leader_epoch);
        let mut there = nodes.0[to].client().await;
        assert_eq!(there.produce("t", 0, batch(&[b"b"])).await.error_code, 0, "it takes writes already");
        until("another leader", || nodes.is_whole(shard)).await;
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_meets_a_hand_over_is_told_at_once_where_to_go() {
    let nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    for _ in 0..6 {
        let from = nodes.leader(shard);
        let next = nodes.0[(from + 1) % 3].cluster.node_id();
        let mut reader = nodes.0[from].client().await;
        let before = described(&mut reader, "t").await.partitions[0].leader_epoch;
        reader.send(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(120_000)).await;
        let replica = nodes.0[from].cluster.replica(shard).expect("it leads");
        replica.transfer_leader(next).await.expect("it is asked");
        let response = timeout(PATIENCE, reader.next::<FetchRequest>(12, 0)).await.expect("at once");
        let refused = &response.responses[0].partitions[0];
        let leader = &refused.current_leader;
        assert_eq!((refused.error_code, leader.leader_id.0), (6, i32::try_from(next.0).expect("a small number")));
        // Clients believe it only if it is later than what they know.
        assert!(leader.leader_epoch > before, "{} after {before}", leader.leader_epoch);
        until("another leader", || nodes.is_whole(shard)).await;
    }
    nodes.stop().await;
}

/// Whoever led last has all that was acknowledged, and cannot know whether it still leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_others_what_is_committed_is_read_and_nothing_else_is_said() {
    let mut nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", -1).await.0, 0);
    drop(client);
    let (shard, of_group) = (nodes.shard_of("t"), nodes.0[0].cluster.slot_shard("g"));
    let place = nodes.leader(shard);
    if nodes.leader(of_group) != place {
        nodes.move_leader_to(of_group, place).await;
    }
    let mut client = nodes.0[place].client().await;
    assert_eq!(client.produce("t", 0, batch(&[b"a", b"b"])).await.error_code, 0);
    let joined = joined(&mut client, 5, "g", b"wishes").await;
    let (generation, member) = (joined.generation_id, joined.member_id.to_string());
    assert_eq!(client.call(5, &sync("g", generation, &member, &[])).await.error_code, 0);
    let last = nodes.0.remove(place);
    nodes.stop().await;
    // Who is silent for two seconds counts as gone.
    sleep(Duration::from_secs(4)).await;
    let found = client.fetch("t", 0, 0).await;
    assert_eq!((found.error_code, found.high_watermark), (0, 2));
    let listed = client.metadata(Some(&["t"]), false).await;
    // It may be this one that is cut off: clients may reach the others.
    assert_eq!((listed.brokers.len(), listed.topics[0].partitions[0].isr_nodes.len()), (3, 1));
    let leader = u64::try_from(listed.topics[0].partitions[0].leader_id.0).expect("an id");
    assert_eq!(NodeId(leader), last.cluster.node_id());
    // Another leader could have taken more, or another member.
    assert_eq!(client.fetch("t", 0, 5).await.error_code, 6);
    assert_eq!(latest(&mut client, "t").await, (6, -1));
    // Where it begins nobody else can know better.
    assert_eq!(earliest(&mut client, "t").await, (0, 0));
    assert_eq!(client.call(4, &heartbeat("g", generation, &member)).await.error_code, 16);
    let refused = client.call(9, &produce_request(-1, "t", 0, Some(batch(&[b"c"]))).with_timeout_ms(500)).await;
    assert!(matches!(refused.responses[0].partition_responses[0].error_code, 6 | 7));
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 2);
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_copy_sends_clients_to_the_leader() {
    let nodes = Nodes::start_some(4).await;
    let data = |shard: &ShardId| *shard != METADATA;
    let lacks =
        |node: &Node| nodes.shards().into_iter().filter(data).find(|shard| node.cluster.replica(*shard).is_none());
    until("a node without a copy", || nodes.0.iter().any(|node| lacks(node).is_some())).await;
    let place = nodes.0.iter().position(|node| lacks(node).is_some()).expect("there is one");
    let shard = lacks(&nodes.0[place]).expect("it lacks one");
    let mut client = nodes.0[place].client().await;
    // Topics go around the shards.
    let mut name = String::new();
    for number in 0..64 {
        name = format!("t{number}");
        assert_eq!(create(&mut client, &name, 3).await, (0, 3));
        if nodes.shard_of(&name) == shard {
            break;
        }
    }
    assert_eq!(nodes.shard_of(&name), shard);
    let leads = nodes.leader(shard);
    let leader = i32::try_from(nodes.0[leads].cluster.node_id().0).expect("a small number");
    let epoch = described(&mut nodes.0[leads].client().await, &name).await.partitions[0].leader_epoch;
    let partition = described(&mut client, &name).await.partitions.remove(0);
    assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (0, leader, epoch));
    assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (3, 3));
    assert_eq!(latest(&mut client, &name).await, (6, -1));
    assert_eq!(client.fetch(&name, 0, 0).await.error_code, 6);
    let refused: ProduceResponse = client.call(12, &produce_request(-1, &name, 0, Some(batch(&[b"b"])))).await;
    let refusal = &refused.responses[0].partition_responses[0];
    assert_eq!(
        (refusal.error_code, refusal.current_leader.leader_id.0, refusal.current_leader.leader_epoch),
        (6, leader, epoch)
    );
    let group =
        (0..1_000).map(|number| format!("g{number}")).find(|group| nodes.0[0].cluster.slot_shard(group) == shard);
    let group = group.expect("one of so many");
    assert_eq!(coordinator(&mut client, &group).await, (0, leader));
    assert_eq!(joined(&mut client, 5, &group, b"wishes").await.error_code, 16);
    let mut there = nodes.0[leads].client().await;
    assert_eq!(joined(&mut there, 5, &group, b"wishes").await.error_code, 0);
    assert_eq!(there.produce(&name, 0, batch(&[b"a"])).await.error_code, 0);
    // The next leader, and its epoch.
    let next =
        (0..4).find(|next| *next != leads && nodes.0[*next].cluster.replica(shard).is_some()).expect("three have it");
    nodes.move_leader_to(shard, next).await;
    let next = i32::try_from(nodes.0[next].cluster.node_id().0).expect("a small number");
    let deadline = now() + PATIENCE;
    loop {
        let partition = described(&mut client, &name).await.partitions.remove(0);
        if (partition.leader_id.0, partition.leader_epoch) == (next, epoch + 1) {
            break;
        }
        assert!(now() < deadline, "{partition:?}");
        sleep(Duration::from_millis(20)).await;
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_how_far_the_members_of_the_quorum_are() {
    let nodes = Nodes::start_some(4).await;
    let mut clients = join_all(nodes.0.iter().map(Node::client)).await;
    assert_eq!(create(&mut clients[0], "t", 3).await, (0, 3));
    for client in &mut clients {
        let deadline = now() + PATIENCE;
        loop {
            let response = client.call(2, &quorum_of("__cluster_metadata", &[0])).await;
            let quorum = response.topics[0].partitions[0].clone();
            let members: Vec<_> = quorum.current_voters.iter().chain(&quorum.observers).collect();
            assert_eq!((quorum.error_code, quorum.current_voters.len(), members.len()), (0, 3, 4));
            let is_there = |end: i64| end >= quorum.high_watermark;
            let is_known = members.iter().all(|member| {
                let (fetched, caught_up) = (member.last_fetch_timestamp, member.last_caught_up_timestamp);
                is_there(member.log_end_offset) && fetched > 0 && caught_up > 0 && caught_up <= fetched
            });
            if is_known {
                break;
            }
            assert!(now() < deadline, "{quorum:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    nodes.stop().await;
}
