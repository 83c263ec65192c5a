//! Partitions that move to other shards: no record is lost, comes twice or out of its order, and clients notice nothing
//! that their retries do not settle.

mod deleted;
mod load;
mod made;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::time::{Duration, now, sleep, timeout};
use bytes::Bytes;
use cluster::METADATA;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeLogDirsRequest, FetchRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
};
use record::{NodeId, ShardId};
use shard::commands::NewMove;

use self::load::{follow, read, write};
use crate::several::{Nodes, described, until};
use crate::support::{Client, Node, PATIENCE, Place, batch_at, fetch_request, stamped, topic_name};

/// Where a partition is and was, oldest first, by what one node knows.
fn history(node: &Node, topic: &str, partition: usize) -> Vec<(i64, ShardId)> {
    let metadata = node.cluster.metadata();
    let topic = metadata.topic_by_name(topic).expect("it exists");
    topic.partitions[partition].history.iter().map(|home| (home.from_offset.0, home.shard)).collect()
}

fn shard_of(node: &Node, topic: &str, partition: usize) -> ShardId {
    history(node, topic, partition).last().expect("it is somewhere").1
}

/// From now on only what is asked for moves.
async fn stop_rebalancing(node: &Node) {
    node.cluster.operate(&["rebalance".to_owned(), "--stop".to_owned()]).await.expect("stopped");
}

async fn begin_move(node: &Node, topic: &str, partition: u32, to: ShardId) {
    let topic = node.cluster.metadata().topic_by_name(topic).expect("it exists").id;
    let begun = node.cluster.move_streams(vec![NewMove { topic, partition, to }]).await.expect("begun");
    assert!(begun[0].is_ok(), "{begun:?}");
}

/// Moves a partition and waits until all nodes know.
async fn move_to(nodes: &[Node], topic: &str, partition: u32, to: ShardId) {
    begin_move(&nodes[0], topic, partition, to).await;
    let place = usize::try_from(partition).expect("small");
    until("the move", || nodes.iter().all(|node| shard_of(node, topic, place) == to)).await;
}

/// All of a partition from `offset` on, as a consumer reads it that goes where it is sent.
async fn read_all(nodes: &[Node], topic: &str, partition: i32, offset: i64) -> Vec<(i64, Bytes)> {
    read_on(nodes, topic, partition, offset, 0).await
}

async fn read_on(nodes: &[Node], topic: &str, partition: i32, mut offset: i64, log_start: i64) -> Vec<(i64, Bytes)> {
    let deadline = now() + 3 * PATIENCE;
    let mut all = Vec::new();
    let mut place = 0;
    let mut client = nodes[place].client().await;
    loop {
        assert!(now() < deadline, "the end of partition {partition} is not reached, only {offset}");
        let found = client.fetch(topic, partition, offset).await;
        if found.error_code != 0 {
            assert!([3, 6, 56, 74, 75].contains(&found.error_code), "{}", found.error_code);
            place = (place + 1) % nodes.len();
            client = nodes[place].client().await;
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        assert_eq!(found.log_start_offset, log_start);
        let records = read(found.records.as_ref());
        for (at, value) in records {
            if at >= offset {
                assert_eq!(at, offset, "dense");
                offset += 1;
                all.push((at, value));
            }
        }
        if offset == found.high_watermark {
            return all;
        }
    }
}

async fn list(client: &mut Client, topic: &str, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let response = client.call(9, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset, partition.timestamp)
}

async fn epoch_end(client: &mut Client, topic: &str, epoch: i32) -> (i16, i32, i64) {
    let asked = OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(epoch);
    let topic = OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked]);
    let response = client.call(4, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic])).await;
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.leader_epoch, answer.end_offset)
}

fn reassignment(topic: &str, partition: i32, nodes: &[NodeId]) -> AlterPartitionReassignmentsRequest {
    let ids = nodes.iter().map(|node| i32::try_from(node.0).expect("small").into()).collect();
    let partition = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(ids));
    let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])
}

async fn reassign(client: &mut Client, topic: &str, partition: i32, nodes: &[NodeId]) -> i16 {
    client.call(0, &reassignment(topic, partition, nodes)).await.responses[0].partitions[0].error_code
}

/// The partitions of a topic of which a node says that it has something.
async fn held(node: &Node, topic: &str) -> Vec<i32> {
    let response = node.client().await.call(4, &DescribeLogDirsRequest::default().with_topics(None)).await;
    let of_topic = response.results[0].topics.iter().filter(|held| &*held.name.0 == topic);
    of_topic.flat_map(|held| held.partitions.iter().map(|partition| partition.partition_index)).collect()
}

fn data_shards(nodes: &Nodes) -> Vec<ShardId> {
    nodes.shards().into_iter().filter(|shard| *shard != METADATA).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_and_behind_a_move_is_one_partition() {
    let nodes = Nodes::start().await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic("t", 1).await;
    let first = shard_of(&nodes.0[0], "t", 0);
    let old = nodes.leader(first);
    let mut client = nodes.0[old].client().await;
    for (time, sequence) in [(1_000, 0), (9_000, 1), (3_000, 2)] {
        assert_eq!(client.produce("t", 0, batch_at(time, &[b"x", b"y"])).await.error_code, 0);
        assert_eq!(client.produce("t", 0, stamped(7, 0, sequence, &[b"s"])).await.error_code, 0);
    }
    let before = described(&mut client, "t").await.partitions[0].leader_epoch;
    let to = data_shards(&nodes).into_iter().find(|shard| *shard != first && nodes.leader(*shard) != old);
    let to = to.expect("another node leads another shard");
    move_to(&nodes.0, "t", 0, to).await;
    assert_eq!(history(&nodes.0[0], "t", 0), [(0, first), (9, to)]);
    // Who led is told where it is now, and does not take anything.
    assert_eq!(client.produce("t", 0, stamped(7, 0, 3, &[b"s"])).await.error_code, 6);
    assert_eq!(client.fetch("t", 0, 0).await.error_code, 6);
    let place = nodes.leader(to);
    let mut client = nodes.0[place].client().await;
    let after = described(&mut client, "t").await.partitions.remove(0);
    assert_eq!(after.leader_id.0, i32::try_from(nodes.0[place].cluster.node_id().0).expect("small"));
    assert!(after.leader_epoch > before, "{} is behind {before}", after.leader_epoch);
    // What was stored on the other shard is known here.
    let again = client.produce("t", 0, stamped(7, 0, 2, &[b"s"])).await;
    assert_eq!((again.error_code, again.base_offset, again.log_start_offset), (0, 8, 0));
    let next = client.produce("t", 0, stamped(7, 0, 3, &[b"s"])).await;
    assert_eq!((next.error_code, next.base_offset, next.log_start_offset), (0, 9, 0));
    assert_eq!(client.produce("t", 0, stamped(7, 0, 5, &[b"s"])).await.error_code, 6, "4 may be on its way");
    let values: Vec<Bytes> = read_all(&nodes.0, "t", 0, 0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [&b"x"[..], b"y", b"s", b"x", b"y", b"s", b"x", b"y", b"s", b"s"]);
    let stamped_at = 1_700_000_000_000;
    for (asked, offset, timestamp) in [
        (-1, 10, -1),
        (-2, 0, -1),
        (0, 0, 1_000),
        (1_001, 1, 1_001),
        (9_001, 2, stamped_at),
        (-3, 2, stamped_at),
        (stamped_at + 1, -1, -1),
    ] {
        assert_eq!(list(&mut client, "t", asked).await, (0, offset, timestamp), "{asked}");
    }
    assert_eq!(epoch_end(&mut client, "t", before).await, (0, before, 9));
    assert_eq!(epoch_end(&mut client, "t", after.leader_epoch).await, (0, after.leader_epoch, 10));
    for outside in [-1, 11] {
        assert_eq!(client.fetch("t", 0, outside).await.error_code, 1);
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_sent_to_where_its_partition_moved() {
    let nodes = Nodes::start().await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic("t", 1).await;
    let first = shard_of(&nodes.0[0], "t", 0);
    let old = nodes.leader(first);
    let others = || data_shards(&nodes).into_iter().filter(|shard| *shard != first);
    let elsewhere = others().find(|shard| nodes.leader(*shard) != old).expect("another node leads another shard");
    let mut reader = nodes.0[old].client().await;
    let request = fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(120_000);
    reader.send(12, &request).await;
    // It waits, or is about to: both are to be answered.
    move_to(&nodes.0, "t", 0, elsewhere).await;
    let answered = timeout(PATIENCE, reader.next::<FetchRequest>(12, 0)).await.expect("at once");
    let partition = &answered.responses[0].partitions[0];
    let leader = i32::try_from(nodes.0[nodes.leader(elsewhere)].cluster.node_id().0).expect("small");
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
    // To a shard that the same node leads: it goes on to wait there, and is given what comes.
    let here = nodes.leader(elsewhere);
    let third = others().find(|shard| *shard != elsewhere).expect("there are six");
    if nodes.leader(third) != here {
        nodes.move_leader_to(third, here).await;
    }
    let mut reader = nodes.0[here].client().await;
    reader.send(12, &request).await;
    move_to(&nodes.0, "t", 0, third).await;
    if nodes.leader(third) == here {
        let mut client = nodes.0[here].client().await;
        assert_eq!(client.produce("t", 0, batch_at(1, &[b"a"])).await.error_code, 0);
        let answered = timeout(PATIENCE, reader.next::<FetchRequest>(12, 0)).await.expect("when something comes");
        let partition = &answered.responses[0].partitions[0];
        assert_eq!((partition.error_code, read(partition.records.as_ref()).len()), (0, 1));
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_has_no_copy_of_it_gets_from_who_has() {
    let nodes = Nodes::start_some(4).await;
    stop_rebalancing(&nodes.0[0]).await;
    nodes.0[0].topic_with("t", 8, &[("max.message.bytes", "6000000")]).await;
    let voters = |shard: ShardId| nodes.0[0].cluster.voters(shard);
    // Eight shards on three of four nodes each: when they are spread evenly they stay.
    let is_even = || {
        nodes.0.iter().all(|node| node.cluster.replicas().len() == 6)
            && data_shards(&nodes).into_iter().all(|shard| {
                nodes.is_whole(shard) && nodes.0[0].cluster.leader(shard) == voters(shard).first().copied()
            })
    };
    // A partition on a shard that one node lacks, and a shard that this node leads.
    let find = || {
        (0..8).filter(|_| is_even()).find_map(|partition| {
            let from = shard_of(&nodes.0[0], "t", partition);
            let lacks = nodes.0.iter().position(|node| node.cluster.replica(from).is_none())?;
            let id = nodes.0[lacks].cluster.node_id();
            let to = data_shards(&nodes).into_iter().find(|shard| voters(*shard).first() == Some(&id))?;
            Some((partition, from, to, lacks))
        })
    };
    until("a node without a copy", || find().is_some()).await;
    let found = find();
    let (partition, from, to, lacks) = found.expect("each shard is on three of four nodes");
    let index = i32::try_from(partition).expect("small");
    let mut client = nodes.0[nodes.leader(from)].client().await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| u8::try_from(at % 251).expect("small")).collect();
    assert_eq!(client.produce("t", index, batch_at(1_000, &[b"a", b"b"])).await.error_code, 0);
    assert_eq!(client.produce("t", index, batch_at(2_000, &[&large])).await.error_code, 0);
    for time in 3_000..3_020 {
        assert_eq!(client.produce("t", index, batch_at(time, &[b"c"])).await.error_code, 0);
    }
    // To a shard on those nodes, the first of which leads it.
    let wanted = voters(to);
    assert_eq!(reassign(&mut client, "t", index, &[wanted[0]]).await, 38, "no shard has one copy");
    let fewer = reassignment("t", index, &wanted[..1]).with_allow_replication_factor_change(false);
    assert_eq!(client.call(1, &fewer).await.responses[0].partitions[0].error_code, 38);
    // What is granted comes to be, also when a move to another place has just begun.
    for other in (0..8).filter(|other| *other != partition) {
        let there = shard_of(&nodes.0[0], "t", other);
        let away = data_shards(&nodes).into_iter().find(|shard| {
            let (one, two) = (voters(*shard), voters(there));
            one.iter().collect::<BTreeSet<_>>() != two.iter().collect()
        });
        begin_move(&nodes.0[0], "t", u32::try_from(other).expect("small"), away.expect("on other nodes")).await;
        let code = reassign(&mut client, "t", i32::try_from(other).expect("small"), &voters(there)).await;
        // It may be too late.
        assert!(matches!(code, 0 | 7 | 39), "{code}");
        until("the end of moves", || nodes.0.iter().all(|node| node.cluster.metadata().stream_moves().is_empty()))
            .await;
        let now = shard_of(&nodes.0[0], "t", other);
        // There may be several shards on these nodes.
        let set = |shard: ShardId| voters(shard).into_iter().collect::<BTreeSet<_>>();
        assert!(code != 0 || set(now) == set(there), "granted, and it is on {now} instead of {there}");
    }
    assert_eq!(reassign(&mut client, "t", index, &voters(from)).await, 0, "there it is");
    assert_eq!(shard_of(&nodes.0[0], "t", partition), from);
    assert_eq!(reassign(&mut client, "t", index, &wanted).await, 0);
    until("the move", || nodes.0.iter().all(|node| history(node, "t", partition).len() == 2)).await;
    let to = shard_of(&nodes.0[0], "t", partition);
    assert_eq!(voters(to).iter().collect::<BTreeSet<_>>(), wanted.iter().collect());
    assert_eq!(nodes.leader(to), lacks);
    assert!(nodes.0[lacks].cluster.replica(from).is_none());
    for node in &nodes.0 {
        let has = |shard: ShardId| node.cluster.replica(shard).is_some();
        assert_eq!(held(node, "t").await.contains(&index), has(from) || has(to));
    }
    let mut client = nodes.0[lacks].client().await;
    assert_eq!(client.produce("t", index, batch_at(9_000, &[b"z"])).await.error_code, 0);
    let all = read_all(&nodes.0[lacks..=lacks], "t", index, 0).await;
    assert_eq!(all.len(), 24);
    assert_eq!(
        (&all[0].1[..], &all[1].1[..], all[2].1.len(), &all[23].1[..]),
        (&b"a"[..], &b"b"[..], large.len(), &b"z"[..])
    );
    assert!(all[2].1 == large, "the large one as it was");
    let partition = ListOffsetsPartition::default().with_partition_index(index).with_current_leader_epoch(-1);
    for (asked, offset) in [(1_001, 1), (2_000, 2), (3_005, 8), (3_020, 23), (-3, 23), (-2, 0), (-1, 24)] {
        let topic = ListOffsetsTopic::default().with_name(topic_name("t"));
        let topic = topic.with_partitions(vec![partition.clone().with_timestamp(asked)]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = client.call(9, &request).await.topics.remove(0).partitions.remove(0);
        assert_eq!((answer.error_code, answer.offset), (0, offset), "{asked}");
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_move_to_the_shards_of_new_nodes_under_load_while_the_metadata_leader_dies() {
    const PARTITIONS: i32 = 4;
    let all = crate::several::free_addresses(3).await;
    let start = |place: usize, join: Vec<std::net::SocketAddr>| {
        let place = Place { listen: all[place], all: join, rack: format!("rack {place}") };
        Box::pin(Node::start_with(move |setup| setup.place = Some(place)))
    };
    let alone = start(0, Vec::new()).await;
    stop_rebalancing(&alone).await;
    alone.topic("t", PARTITIONS).await;
    let mut client = alone.client().await;
    for partition in 0..PARTITIONS {
        // The first numbers of the producers that go on later.
        for sequence in 0..20 {
            let value = sequence.to_string();
            let produced =
                client.produce("t", partition, stamped(1_000 + i64::from(partition), 0, sequence, &[value.as_bytes()]));
            assert_eq!(produced.await.error_code, 0);
        }
    }
    drop(client);
    let mut nodes = Nodes(vec![alone]);
    for place in 1..3 {
        nodes.0.push(start(place, all.clone()).await);
    }
    until("three voters of every shard", || {
        nodes.shards().len() == 7 && nodes.shards().into_iter().all(|shard| nodes.is_whole(shard))
    })
    .await;
    let addresses: Vec<_> = nodes.0.iter().map(|node| node.address).collect();
    let (stop, stop_reading) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| base::task::spawn("test writer", write(addresses.clone(), partition, Arc::clone(&stop))))
        .collect();
    let readers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            base::task::spawn("test reader", follow(addresses.clone(), partition, Arc::clone(&stop_reading)))
        })
        .collect();
    let shards = data_shards(&nodes);
    // Each goes twice to shards where it was not; while the second moves are under way the metadata's leader dies.
    for round in 0..2 {
        for partition in 0..PARTITIONS {
            let place = usize::try_from(partition).expect("small");
            let was: BTreeSet<ShardId> = history(&nodes.0[0], "t", place).into_iter().map(|(_, shard)| shard).collect();
            let free: Vec<ShardId> = shards.iter().copied().filter(|shard| !was.contains(shard)).collect();
            let to = free[place % free.len()];
            begin_move(&nodes.0[0], "t", u32::try_from(partition).expect("small"), to).await;
        }
        if round == 1 {
            let leader = nodes.leader(METADATA);
            let gone = nodes.0.remove(leader);
            gone.stop().await;
        }
        until("the moves", || {
            nodes.0.iter().all(|node| {
                node.cluster.metadata().stream_moves().is_empty()
                    && (0..4).all(|place| history(node, "t", place).len() == 2 + round)
            })
        })
        .await;
        sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Release);
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.expect("it does not fail"));
    }
    stop_reading.store(true, Ordering::Release);
    for (partition, (reader, told)) in readers.into_iter().zip(told).enumerate() {
        let values = timeout(3 * PATIENCE, reader).await.expect("it comes to the end").expect("it does not fail");
        let expected: Vec<Bytes> = (0..values.len()).map(|number| Bytes::from(number.to_string())).collect();
        assert_eq!(values, expected, "every number once and in order, partition {partition}");
        assert!(told.len() > 20 && values.len() >= told.len(), "{} of {}", told.len(), values.len());
        let offsets: Vec<i64> = (0..i64::try_from(told.len()).expect("small")).collect();
        assert_eq!(told, offsets, "each was told where it is");
    }
    nodes.stop().await;
}
