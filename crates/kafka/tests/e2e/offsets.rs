//! E4 committed offsets.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use uuid::Uuid;

use crate::support::{Client, Node, text, topic_name};

pub(crate) fn commit(group: &str, topic: &str, offsets: &[(i32, i64, Option<&str>)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(index, offset, metadata)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(metadata.map(text))
    });
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

pub(crate) async fn commit_codes(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> Vec<i16> {
    let response = client.call(version, request).await;
    response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| partition.error_code)).collect()
}

fn fetch_old(group: &str, topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topics = topics.map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(partitions.to_vec())
        });
        topics.collect()
    });
    OffsetFetchRequest::default().with_group_id(text(group).into()).with_topics(topics)
}

fn fetch_new(group: &str, topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topics = topics.map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| {
            OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(partitions.to_vec())
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(topics);
    OffsetFetchRequest::default().with_groups(vec![group])
}

/// Partition, offset, metadata and error of everything in the response.
fn offsets(response: &OffsetFetchResponse) -> Vec<(i32, i64, String, i16)> {
    let old = response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| {
        let metadata = partition.metadata.as_ref().expect("never null").to_string();
        (partition.partition_index, partition.committed_offset, metadata, partition.error_code)
    });
    let new =
        response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions).map(|partition| {
            let metadata = partition.metadata.as_ref().expect("never null").to_string();
            (partition.partition_index, partition.committed_offset, metadata, partition.error_code)
        });
    old.chain(new).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_was_never_committed_is_offset_minus_one_without_error() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let nothing = |index| (index, -1, String::new(), 0);
    for version in 1..=9 {
        let asked: &[(&str, &[i32])] = &[("t", &[0, 7]), ("missing", &[0])];
        let request = if version < 8 { fetch_old("no-group", Some(asked)) } else { fetch_new("no-group", Some(asked)) };
        let response: OffsetFetchResponse = client.call(version, &request).await;
        assert_eq!(offsets(&response), [nothing(0), nothing(7), nothing(0)], "version {version}");
        if version >= 2 {
            let all = if version < 8 { fetch_old("no-group", None) } else { fetch_new("no-group", None) };
            let response: OffsetFetchResponse = client.call(version, &all).await;
            assert_eq!((offsets(&response).len(), response.error_code), (0, 0), "version {version}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_offsets_and_metadata_come_back_as_they_were_committed() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    for version in 2..=9 {
        let request = commit("g", "t", &[(0, i64::from(version), Some("käse")), (1, 7, None)]);
        assert_eq!(commit_codes(&mut client, version, &request).await, [0, 0], "version {version}");
        let expected = [(0, i64::from(version), "käse".to_owned(), 0), (1, 7, String::new(), 0)];
        for read in 1..=9 {
            let asked: &[(&str, &[i32])] = &[("t", &[0, 1])];
            let request = if read < 8 { fetch_old("g", Some(asked)) } else { fetch_new("g", Some(asked)) };
            assert_eq!(offsets(&client.call(read, &request).await), expected, "version {read}");
            if read >= 2 {
                let all = if read < 8 { fetch_old("g", None) } else { fetch_new("g", None) };
                assert_eq!(offsets(&client.call(read, &all).await), expected, "version {read}");
            }
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_commits_that_are_refused_say_why() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let long = "x".repeat(5_000);
    let request = commit("g", "t", &[(7, 1, None), (0, 1, Some(&long)), (1, 1, None)]);
    assert_eq!(commit_codes(&mut client, 8, &request).await, [3, 12, 0]);
    assert_eq!(commit_codes(&mut client, 8, &commit("g", "missing", &[(0, 1, None)])).await, [3]);
    let mut member = commit("no-group", "t", &[(0, 1, None)]).with_member_id(text("m"));
    member.generation_id_or_member_epoch = 5;
    assert_eq!(commit_codes(&mut client, 8, &member).await, [22]);
    assert_eq!(commit_codes(&mut client, 9, &member).await, [69]);
    member.group_id = text("g").into();
    assert_eq!(commit_codes(&mut client, 8, &member).await, [25]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_offsets_by_topic_id() {
    use bytes::BufMut;
    let node = Node::start().await;
    let id = node.topic("t", 2).await;
    let mut client = node.client().await;
    // OffsetCommit 10, byte by byte: group "g", no generation, no member, no instance.
    let mut request = client.header(8, 10, true);
    request.put_slice(&[2, b'g', 0xff, 0xff, 0xff, 0xff, 1, 0, 3]);
    for (topic, offset) in [(id, 41_i64), (Uuid::from_u128(4), 42)] {
        request.put_u128(topic.as_u128());
        request.put_slice(&[2, 0, 0, 0, 1]);
        request.put_i64(offset);
        request.put_slice(&[0, 0, 0, 3, 3, b'm', b'd', 0, 0]);
    }
    request.put_u8(0);
    client.send_raw(&request).await;
    let response = client.next_raw().await.expect("is answered");
    let mut expected = vec![0, 0, 0, 0, 0, 3];
    for (topic, code) in [(id, 0), (Uuid::from_u128(4), 100)] {
        expected.extend(topic.as_u128().to_be_bytes());
        expected.extend([2, 0, 0, 0, 1, 0, code, 0, 0]);
    }
    expected.push(0);
    assert_eq!(response[4..], expected[..]);
    // OffsetFetch 10: the known and an unknown id, and everything.
    for all in [false, true] {
        let mut request = client.header(9, 10, true);
        request.put_slice(&[2, 2, b'g', 0, 0xff, 0xff, 0xff, 0xff]);
        if all {
            request.put_u8(0);
        } else {
            request.put_u8(3);
            for topic in [id, Uuid::from_u128(4)] {
                request.put_u128(topic.as_u128());
                request.put_slice(&[2, 0, 0, 0, 1, 0]);
            }
        }
        request.put_slice(&[0, 0, 0]);
        client.send_raw(&request).await;
        let response = client.next_raw().await.expect("is answered");
        let mut expected = vec![0, 0, 0, 0, 0, 2, 2, b'g', if all { 2 } else { 3 }];
        expected.extend(id.as_u128().to_be_bytes());
        expected.extend([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 3, 3, b'm', b'd', 0, 0, 0, 0]);
        if !all {
            expected.extend(4_u128.to_be_bytes());
            expected.extend([2, 0, 0, 0, 1]);
            expected.extend([0xff; 12]);
            expected.extend([1, 0, 100, 0, 0]);
        }
        expected.extend([0, 0, 0, 0]);
        assert_eq!(response[4..], expected[..], "all: {all}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_null_list_was_not_known_to_version_1() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut request = client.header(9, 1, false).to_vec();
    request.extend([0, 1, b'g', 0xff, 0xff, 0xff, 0xff]);
    client.send_raw(&request).await;
    assert!(client.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_often_is_told_once() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let metadata = "m".repeat(4_096);
    assert_eq!(commit_codes(&mut client, 7, &commit("g", "t", &[(0, 5, Some(&metadata))])).await, [0]);
    let often = vec![0; 50_000];
    let response = client.call(5, &fetch_old("g", Some(&[("t", &often), ("t", &[0, 1])]))).await;
    assert_eq!(offsets(&response), [(0, 5, metadata.clone(), 0), (1, -1, String::new(), 0)]);
    let mut request = fetch_new("g", None);
    request.groups = vec![request.groups[0].clone(); 1_000];
    let response = client.call(8, &request).await;
    assert_eq!(offsets(&response), [(0, 5, metadata, 0)]);
    node.stop().await;
}
