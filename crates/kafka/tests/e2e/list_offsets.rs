//! E7 ListOffsets.

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::support::{Client, Node, batch_at, topic_name};

fn request(topic: &str, asked: &[(i32, i64)]) -> ListOffsetsRequest {
    let partitions = asked.iter().map(|(index, timestamp)| {
        ListOffsetsPartition::default().with_partition_index(*index).with_timestamp(*timestamp)
    });
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect());
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}

async fn list(client: &mut Client, version: i16, partition: i32, timestamp: i64) -> ListOffsetsPartitionResponse {
    let request = request("t", &[(partition, timestamp)]);
    let mut response: ListOffsetsResponse = client.call_as(version, version.min(10), &request).await;
    response.topics.remove(0).partitions.remove(0)
}

async fn node_with_three_batches() -> Node {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    for time in [1_000, 5_000, 3_000] {
        client.produce("t", 0, batch_at(time, &[b"a", b"b", b"c"])).await;
    }
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_special_timestamps_and_times() {
    let node = node_with_three_batches().await;
    let mut client = node.client().await;
    let cases = [
        (-1, -1, 9),
        (-2, -1, 0),
        (-3, 5_002, 5),
        (-4, -1, 0),
        (-5, -1, -1),
        (-6, -1, -1),
        (0, 1_000, 0),
        (1_001, 1_001, 1),
        (3_000, 5_000, 3),
        (4_000, 5_000, 3),
        (5_001, 5_001, 4),
        (5_002, 5_002, 5),
        (5_003, -1, -1),
    ];
    for (asked, timestamp, offset) in cases {
        let answer = list(&mut client, 11, 0, asked).await;
        assert_eq!((answer.error_code, answer.timestamp, answer.offset), (0, timestamp, offset), "{asked}");
        assert_eq!(answer.leader_epoch >= 0, offset >= 0, "{asked}");
    }
    assert_eq!(list(&mut client, 11, 0, -7).await.error_code, 35);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_an_empty_partition_has_a_beginning_and_an_end_but_no_times() {
    let node = node_with_three_batches().await;
    let mut client = node.client().await;
    for (asked, offset) in [(-1, 0), (-2, 0), (-3, -1), (-4, 0), (-5, -1), (0, -1)] {
        let answer = list(&mut client, 11, 1, asked).await;
        assert_eq!((answer.error_code, answer.timestamp, answer.offset), (0, -1, offset), "{asked}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_every_version_and_what_it_does_not_know() {
    let node = node_with_three_batches().await;
    let mut client = node.client().await;
    for version in 1..=11 {
        let latest = list(&mut client, version, 0, -1).await;
        assert_eq!((latest.error_code, latest.offset), (0, 9), "version {version}");
        for (special, since) in [(-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            let answer = list(&mut client, version, 0, special).await;
            assert_eq!(answer.error_code, if version < since { 35 } else { 0 }, "{special} in {version}");
        }
    }
    assert_eq!(list(&mut client, 11, 9, -1).await.error_code, 3);
    let missing: ListOffsetsResponse = client.call(7, &request("missing", &[(0, -1)])).await;
    assert_eq!(missing.topics[0].partitions[0].error_code, 3);
    let twice: ListOffsetsResponse = client.call(7, &request("t", &[(0, -1), (0, -2)])).await;
    assert_eq!(twice.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [42]);
    let mut newer = request("t", &[(0, -1)]);
    newer.topics[0].partitions[0].current_leader_epoch = 1_000;
    assert_eq!(client.call(7, &newer).await.topics[0].partitions[0].error_code, 75);
    node.stop().await;
}
