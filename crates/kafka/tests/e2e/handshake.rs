//! E1 ApiVersions, E2 advertised ranges, E15 transactions, E19 cluster identity, E20 tagged fields, and SASL.

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, InitProducerIdRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};

use crate::support::{Node, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_an_unknown_version_of_api_versions_is_answered_in_the_oldest_shape() {
    let node = Node::start().await;
    for version in [5, 99, -1] {
        let mut client = node.client().await;
        let mut request = client.header(18, version, version > 0);
        request.put_slice(b"whatever comes with it");
        client.send_raw(&request).await;
        let response = client.next_raw().await.expect("is answered");
        assert_eq!(&response[4..], [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4], "version {version}");
        // The connection goes on with a version that is known.
        let known = ApiVersionsRequest::default();
        assert_eq!(client.call(0, &known).await.error_code, 0);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_every_advertised_range_is_that_of_kafka_and_produce_begins_at_zero() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let request =
        ApiVersionsRequest::default().with_client_software_name(text("e2e")).with_client_software_version(text("1.0"));
    for version in 0..=4 {
        let plain = ApiVersionsRequest::default();
        let response = client.call(version, if version >= 3 { &request } else { &plain }).await;
        assert_eq!(response.error_code, 0);
        let ranges: Vec<_> =
            response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        let expected = [
            (0, 0, 13),
            (1, 4, 18),
            (2, 1, 11),
            (3, 0, 13),
            (8, 2, 10),
            (9, 1, 10),
            (10, 0, 6),
            (11, 0, 9),
            (12, 0, 4),
            (13, 0, 5),
            (14, 0, 5),
            (15, 0, 6),
            (16, 0, 5),
            (17, 0, 1),
            (18, 0, 4),
            (19, 2, 7),
            (20, 1, 6),
            (21, 0, 2),
            (22, 0, 5),
            (23, 2, 4),
            (32, 1, 4),
            (35, 1, 5),
            (36, 0, 2),
            (37, 0, 3),
            (42, 0, 2),
            (43, 0, 2),
            (44, 0, 1),
            (45, 0, 1),
            (46, 0, 0),
            (47, 0, 0),
            (55, 0, 2),
            (60, 0, 2),
            (64, 0, 0),
            (75, 0, 0),
        ];
        assert_eq!(ranges, expected);
        assert!(response.finalized_features.is_empty() && response.supported_features.is_empty());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_what_is_not_served_closes_the_connection() {
    let node = Node::start().await;
    for (key, version) in
        [(0, 0), (0, 1), (0, 2), (0, 14), (1, 3), (2, 0), (3, 99), (4, 0), (22, 6), (33, 0), (999, 0), (-1, 0)]
    {
        let mut client = node.client().await;
        let mut request = client.header(key, version, false);
        request.put_bytes(0, 40);
        client.send_raw(&request).await;
        assert!(client.is_closed().await, "key {key} version {version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_of_topics_is_all_of_them_but_for_the_oldest_metadata() {
    let node = Node::start().await;
    for (version, closes) in [(0, true), (1, false)] {
        let mut client = node.client().await;
        let mut request = client.header(3, version, false);
        request.put_i32(-1);
        client.send_raw(&request).await;
        assert_eq!(client.is_closed().await, closes, "version {version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_name_for_its_software_is_refused_as_in_kafka() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for name in ["", "-a", "a b"] {
        let request =
            ApiVersionsRequest::default().with_client_software_name(text(name)).with_client_software_version(text("1"));
        let response = client.call(3, &request).await;
        assert_eq!((response.error_code, response.api_keys.len()), (42, 0), "{name:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sasl_is_not_configured() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=1 {
        let response = client.call(version, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await;
        assert_eq!((response.error_code, response.mechanisms.len()), (34, 0));
    }
    for version in 0..=2 {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"secret"));
        let response = client.call(version, &request).await;
        let message = "SaslAuthenticate request received after successful authentication";
        assert_eq!((response.error_code, response.error_message.as_deref()), (34, Some(message)));
        assert!(response.auth_bytes.is_empty());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e15_transactional_ids_are_refused_with_an_error_that_stops_clients() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=5 {
        let request = InitProducerIdRequest::default().with_transactional_id(Some(text("t").into()));
        assert_eq!(client.call(version, &request).await.error_code, 53, "version {version}");
    }
    for version in 1..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("t")).with_key_type(1);
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.node_id.0), (53, -1), "version {version}");
    }
    for version in 4..=6 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("t")]).with_key_type(1);
        let response = client.call(version, &request).await;
        assert_eq!(response.coordinators[0].error_code, 53, "version {version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_never_given_twice() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut seen = Vec::new();
    for version in 0..=5 {
        let response = client.call(version, &InitProducerIdRequest::default().with_transactional_id(None)).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(!seen.contains(&response.producer_id.0));
        seen.push(response.producer_id.0);
    }
    // Without a transactional id a producer that names its old id gets a new one, as in Kafka.
    let old = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(seen[0].into())
        .with_producer_epoch(0);
    let response = client.call(4, &old).await;
    assert!(!seen.contains(&response.producer_id.0) && response.producer_epoch == 0);
    let half =
        InitProducerIdRequest::default().with_transactional_id(None).with_producer_id(5.into()).with_producer_epoch(-1);
    assert_eq!(client.call(4, &half).await.error_code, 42);
    let empty = InitProducerIdRequest::default().with_transactional_id(Some(text("").into()));
    assert_eq!(client.call(4, &empty).await.error_code, 42);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e19_the_controller_is_a_listed_broker_and_the_cluster_has_an_id() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let metadata = client.metadata(Some(&[]), false).await;
    assert!(metadata.brokers.iter().any(|broker| broker.node_id == metadata.controller_id));
    assert!(metadata.brokers.iter().all(|broker| broker.rack.is_none()));
    let cluster_id = metadata.cluster_id.expect("never null");
    assert_eq!(cluster_id.len(), 22);
    for version in 0..=2 {
        let described = client
            .call(version, &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true))
            .await;
        assert_eq!(described.cluster_id, cluster_id);
        assert_eq!(described.controller_id, metadata.controller_id);
        assert_eq!(described.cluster_authorized_operations, 8_096);
        let plain = client.call(version, &DescribeClusterRequest::default()).await;
        assert_eq!(plain.cluster_authorized_operations, i32::MIN);
    }
    let controllers = client.call(1, &DescribeClusterRequest::default().with_endpoint_type(2)).await;
    assert_eq!(controllers.error_code, 114);
    let unknown = client.call(1, &DescribeClusterRequest::default().with_endpoint_type(9)).await;
    assert_eq!(unknown.error_code, 115);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e20_unknown_tagged_fields_are_skipped() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut request = client.header(18, 3, false);
    // In the header: tag 77 of two bytes. In the body: name, version, tag 9 of one byte.
    request.put_slice(&[1, 77, 2, 1, 2]);
    request.put_slice(&[4, b'e', b'2', b'e', 2, b'1', 1, 9, 1, 0]);
    client.send_raw(&request).await;
    assert!(client.next_raw().await.expect("is answered").len() > 100);
    node.stop().await;
}
