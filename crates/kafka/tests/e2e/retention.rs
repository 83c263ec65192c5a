//! Records go from the front: because somebody asks, by time and by size.

use std::collections::BTreeMap;
use std::time::Duration;

use base::time::sleep;
use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, DescribeLogDirsRequest, ListOffsetsRequest, ListOffsetsResponse};

use crate::configs::{SET, TOPIC, alter};
use crate::support::{Client, Node, PATIENCE, Setup, batch, batch_at, topic_name};

/// A time that is long ago by any limit.
const OLD: i64 = 1_000;

pub(crate) async fn delete(client: &mut Client, version: i16, topic: &str, asked: &[(i32, i64)]) -> Vec<(i16, i64)> {
    let partitions = asked
        .iter()
        .map(|(index, offset)| DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset));
    let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect());
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = client.call(version, &request).await;
    response.topics[0].partitions.iter().map(|partition| (partition.error_code, partition.low_watermark)).collect()
}

async fn list(client: &mut Client, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let mut response: ListOffsetsResponse = client.call(7, &request).await;
    let found = response.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, 0);
    (found.offset, found.timestamp)
}

pub(crate) fn often(setup: &mut Setup) {
    setup.broker.retention_check_interval = Duration::from_millis(20);
}

/// Waits until the partition begins with that offset.
async fn begins_with(client: &mut Client, offset: i64) {
    let begun = async {
        while list(client, -2).await.0 != offset {
            sleep(Duration::from_millis(20)).await;
        }
    };
    base::time::timeout(PATIENCE, begun).await.expect("what is too much goes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_deleted_before_an_offset() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    for time in [1_000, 5_000, 3_000] {
        client.produce("t", 0, batch_at(time, &[b"a", b"b", b"c"])).await;
    }
    for (version, offset) in [(0, 1), (1, 2), (2, 4)] {
        assert_eq!(delete(&mut client, version, "t", &[(0, offset)]).await, [(0, offset)], "version {version}");
        assert_eq!(list(&mut client, -2).await.0, offset);
    }
    // What is gone stays gone.
    assert_eq!(delete(&mut client, 2, "t", &[(0, 3), (1, 0), (1, -1)]).await, [(0, 4), (0, 0), (0, 0)]);
    let gone = client.fetch("t", 0, 3).await;
    assert_eq!((gone.error_code, gone.high_watermark), (1, -1));
    // The batch of the first record is sent whole; clients leave out what is before.
    let left = client.fetch("t", 0, 4).await;
    assert_eq!((left.error_code, left.log_start_offset, left.high_watermark), (0, 4, 9));
    assert_eq!(left.records.expect("two batches")[..8], 3_i64.to_be_bytes());
    assert_eq!(list(&mut client, 1_000).await, (4, 5_001), "no record before the first");
    assert_eq!(client.produce("t", 0, batch(&[b"d"])).await.log_start_offset, 4);
    let refused = delete(&mut client, 2, "t", &[(0, 11), (0, -2), (7, 0)]).await;
    assert_eq!(refused, [(1, -1), (1, -1), (3, -1)]);
    assert_eq!(delete(&mut client, 2, "missing", &[(0, 0)]).await, [(3, -1)]);
    assert_eq!(delete(&mut client, 2, "t", &[(0, -1)]).await, [(0, 10)], "all that there is");
    let empty = client.fetch("t", 0, 10).await;
    assert_eq!((empty.error_code, empty.log_start_offset, empty.high_watermark), (0, 10, 10));
    assert_eq!((list(&mut client, -3).await, list(&mut client, 0).await), ((-1, -1), (-1, -1)));
    assert_eq!(client.produce("t", 0, batch(&[b"e"])).await.base_offset, 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_from_the_front_only() {
    let node = Node::start_with(often).await;
    node.topic_with("t", 1, &[("retention.ms", "-1")]).await;
    let mut client = node.client().await;
    let now = node.env.wall_clock.now_ms();
    for time in [OLD, OLD, now, OLD] {
        client.produce("t", 0, batch_at(time, &[b"a", b"b"])).await;
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(list(&mut client, -2).await.0, 0, "nothing is too old");
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("retention.ms", SET, Some("3600000"))]).await, 0);
    begins_with(&mut client, 4).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(list(&mut client, -2).await.0, 4, "what is young keeps what is behind it");
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("retention.ms", SET, Some("0"))]).await, 0);
    begins_with(&mut client, 8).await;
    assert_eq!(client.produce("t", 0, batch(&[b"c"])).await.base_offset, 8);
    begins_with(&mut client, 9).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_goes_and_its_space_comes_back() {
    let node = Node::start_with(often).await;
    let keep = 2 << 20;
    node.topic_with("t", 1, &[("retention.bytes", &keep.to_string())]).await;
    let mut client = node.client().await;
    let value = vec![7; 100 << 10];
    let records = batch_at(node.env.wall_clock.now_ms(), &[&value]);
    let (bytes, count) = (i64::try_from(records.len()).expect("small"), 600);
    let mut segments_max = 0;
    for number in 0..count {
        // What is not in a checkpoint stays, for the next start.
        if number % 60 == 0 {
            for replica in node.cluster.replicas() {
                replica.checkpoint().await;
            }
        }
        assert_eq!(client.produce("t", 0, records.clone()).await.error_code, 0);
        segments_max = segments_max.max(node.cluster.log_stats().segments);
    }
    // As much as is to be kept, and no batch more than that needs.
    let left = i64::from(keep).div_euclid(bytes) + 1;
    begins_with(&mut client, count - left).await;
    assert!(segments_max <= 8, "60 MB went through {segments_max} segments of 4 MiB");
    let first = client.fetch("t", 0, count - left).await;
    assert_eq!((first.error_code, first.log_start_offset), (0, count - left));
    assert_eq!(first.records.expect("a batch")[..8], (count - left).to_be_bytes());
    node.stop().await;
}

/// Bytes of a topic's first partition, as log directories are described.
async fn size(client: &mut Client) -> i64 {
    let response = client.call(4, &DescribeLogDirsRequest::default().with_topics(None)).await;
    response.results[0].topics[0].partitions[0].partition_size
}

/// The numbers of a tagged field of ours.
fn numbers(fields: &BTreeMap<i32, Bytes>, tag: i32) -> Vec<i64> {
    fields[&tag].chunks_exact(8).map(|number| i64::from_be_bytes(number.try_into().expect("eight bytes"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_it_is_told_what_lives_and_what_does_not() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let records = batch(&[b"a", b"b"]);
    let bytes = i64::try_from(records.len()).expect("small");
    for _ in 0..3 {
        client.produce("t", 0, records.clone()).await;
    }
    delete(&mut client, 2, "t", &[(0, 2)]).await;
    let plain = DescribeLogDirsRequest::default().with_topics(None);
    let asks = plain.clone().with_unknown_tagged_field(10_000, Bytes::from_static(&[1]));
    for version in [2, 4] {
        let response = client.call(version, &asks).await;
        let dir = &response.results[0];
        let partition = &dir.topics[0].partitions[0];
        assert_eq!(partition.partition_size, 2 * bytes);
        assert_eq!(numbers(&partition.unknown_tagged_fields, 10_000), [2 * bytes, 0, bytes, 0]);
        let rest = numbers(&dir.unknown_tagged_fields, 10_000);
        assert!(rest.len() == 7 && rest[..2] == [0, 0] && rest[2] > 0 && rest[6] == 0, "{rest:?}");
        // Nothing is under way: an empty compact array.
        assert_eq!(dir.unknown_tagged_fields[&10_001][..], [1]);
    }
    for (version, request) in [(4, plain), (1, DescribeLogDirsRequest::default().with_topics(None))] {
        let dir = &client.call(version, &request).await.results[0];
        assert!(dir.unknown_tagged_fields.is_empty(), "nobody else pays for it");
        assert!(dir.topics[0].partitions[0].unknown_tagged_fields.is_empty());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_as_large_as_the_batches_that_it_still_has() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    assert_eq!(size(&mut client).await, 0);
    let records = batch(&[b"a", b"b", b"c"]);
    let bytes = i64::try_from(records.len()).expect("small");
    for count in 1..=5 {
        client.produce("t", 0, records.clone()).await;
        assert_eq!(size(&mut client).await, count * bytes);
    }
    for (before, left) in [(4, 4), (6, 3), (-1, 0)] {
        delete(&mut client, 2, "t", &[(0, before)]).await;
        assert_eq!(size(&mut client).await, left * bytes);
    }
    client.produce("t", 0, records).await;
    assert_eq!(size(&mut client).await, bytes);
    node.stop().await;
}
