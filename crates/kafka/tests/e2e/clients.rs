//! E13 and E22 groups of newer kinds, E18 throttling, E23 what clients themselves do wrong.

use base::time::{Duration, now, sleep};
use bytes::BufMut;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    UnregisterBrokerRequest,
};

use crate::support::{Node, PATIENCE, batch, produce_request, topic_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_e22_groups_of_newer_kinds_are_not_advertised_so_that_clients_use_classic_ones() {
    let node = Node::start().await;
    let response = node.client().await.call(0, &ApiVersionsRequest::default()).await;
    let newer = (68..=69).chain(76..=79).chain(83..=92);
    for key in newer {
        assert!(response.api_keys.iter().all(|api| api.api_key != key), "key {key}");
        let mut client = node.client().await;
        let mut request = client.header(key, 1, true);
        request.put_bytes(0, 40);
        client.send_raw(&request).await;
        assert!(client.is_closed().await, "key {key}");
    }
    node.stop().await;
}

/// There are no quotas: whoever is told to wait by mistake waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e18_no_response_tells_a_client_to_wait() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    macro_rules! not_throttled {
        ($($request:ty: $versions:expr,)*) => {$(
            for version in $versions {
                let response = client.call(version, &<$request>::default()).await;
                assert_eq!(response.throttle_time_ms, 0, "{} {version}", stringify!($request));
            }
        )*};
    }
    not_throttled!(
        ApiVersionsRequest: 1..=2,
        MetadataRequest: 3..=13,
        ListOffsetsRequest: 2..=10,
        OffsetCommitRequest: 3..=9,
        OffsetFetchRequest: 3..=7,
        FindCoordinatorRequest: 1..=6,
        JoinGroupRequest: 2..=9,
        HeartbeatRequest: 1..=4,
        LeaveGroupRequest: 1..=5,
        SyncGroupRequest: 1..=5,
        DescribeGroupsRequest: 1..=6,
        ListGroupsRequest: 1..=5,
        CreateTopicsRequest: 2..=7,
        DeleteTopicsRequest: 1..=6,
        InitProducerIdRequest: 0..=5,
        OffsetForLeaderEpochRequest: 2..=4,
        DescribeConfigsRequest: 1..=4,
        CreatePartitionsRequest: 0..=3,
        DeleteGroupsRequest: 0..=2,
        IncrementalAlterConfigsRequest: 0..=1,
        OffsetDeleteRequest: 0..=0,
        DescribeClusterRequest: 0..=2,
        DescribeTopicPartitionsRequest: 0..=0,
        DescribeLogDirsRequest: 1..=4,
        ElectLeadersRequest: 0..=2,
        AlterPartitionReassignmentsRequest: 0..=1,
        ListPartitionReassignmentsRequest: 0..=0,
        UnregisterBrokerRequest: 0..=0,
        FetchRequest: 4..=18,
    );
    // Many large batches as fast as they are taken.
    let large = batch(&[&[b'x'; 500_000][..]]);
    for _ in 0..40 {
        let response = client.call(9, &produce_request(-1, "t", 0, Some(large.clone()))).await;
        assert_eq!((response.responses[0].partition_responses[0].error_code, response.throttle_time_ms), (0, 0));
    }
    for version in 3..=13 {
        assert_eq!(client.call(version, &ProduceRequest::default().with_acks(-1)).await.throttle_time_ms, 0);
    }
    node.stop().await;
}

/// A producer that mixes up the buffers of its topics (KAFKA-19012) names a topic that is gone: what it sends does not
/// go to the topic that has taken its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e23_records_for_a_topic_of_the_past_do_not_reach_the_one_that_has_its_name() {
    let node = Node::start().await;
    let old = node.topic("t", 1).await;
    let mut client = node.client().await;
    let deletion = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]).with_timeout_ms(10_000);
    assert_eq!(client.call(5, &deletion).await.responses[0].error_code, 0);
    let started = now();
    while client.metadata(Some(&["t"]), false).await.topics[0].error_code == 0 {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    let new = node.topic("t", 1).await;
    assert_ne!(old, new);
    for (id, code) in [(old, 100), (new, 0)] {
        let mut request = produce_request(-1, "", 0, Some(batch(&[b"a"])));
        request.topic_data[0].topic_id = id;
        let response = client.call(13, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, code);
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 1);
    node.stop().await;
}

/// librdkafka sends nothing compressed to a broker whose Produce does not begin at version 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e23_librdkafka_finds_the_version_of_produce_without_which_it_does_not_compress() {
    let node = Node::start().await;
    let response = node.client().await.call(3, &named()).await;
    let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("Produce is served");
    assert_eq!(produce.min_version, 0);
    node.stop().await;
}

fn named() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(crate::support::text("e2e"))
        .with_client_software_version(crate::support::text("1.0"))
}
