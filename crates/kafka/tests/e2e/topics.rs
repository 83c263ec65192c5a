//! E3 null against empty, E10 automatic creation, E11 advertised addresses, E17 one answer per item.

use base::time::{Duration, sleep};
use kafka::Advertised;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, FindCoordinatorRequest, MetadataRequest,
};
use uuid::Uuid;

use crate::support::{Client, Node, text, topic_name};

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(1)
}

async fn create(client: &mut Client, topic: CreatableTopic) -> (i16, Option<String>) {
    let response = client.call(5, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
    let result = &response.topics[0];
    (result.error_code, result.error_message.as_ref().map(ToString::to_string))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_create_topics_answers_the_topic_and_all_its_configuration() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let topic = creatable(&name).with_num_partitions(3);
        let response = client.call(version, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
        let result = &response.topics[0];
        assert_eq!((result.error_code, &*result.name.0), (0, &*name));
        assert_eq!(result.topic_id.is_nil(), version < 7);
        if version >= 5 {
            assert_eq!((result.num_partitions, result.replication_factor), (3, 1));
            let configs = result.configs.as_ref().expect("never null");
            let retention = configs.iter().find(|config| &*config.name == "retention.ms").expect("every key");
            assert_eq!(
                (retention.value.as_deref(), retention.config_source, retention.read_only),
                (Some("604800000"), 5, false)
            );
        }
    }
    let defaults = creatable("defaults").with_num_partitions(-1).with_replication_factor(-1);
    let response = client.call(7, &CreateTopicsRequest::default().with_topics(vec![defaults])).await;
    assert_eq!(response.topics[0].num_partitions, 2, "num.partitions of this node");
    let dry = CreateTopicsRequest::default().with_topics(vec![creatable("dry")]).with_validate_only(true);
    assert_eq!(client.call(7, &dry).await.topics[0].error_code, 0);
    assert_eq!(client.metadata(Some(&["dry"]), false).await.topics[0].error_code, 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_topics_refuses_with_kafkas_codes() {
    let node = Node::start().await;
    node.topic("exists", 1).await;
    node.topic("with.dot", 1).await;
    let mut client = node.client().await;
    let config = |name: &str, value: Option<&str>| {
        creatable("c")
            .with_configs(vec![CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))])
    };
    let assigned = |indexes: &[i32], broker: i32| {
        let assignment = |index: &i32| {
            CreatableReplicaAssignment::default().with_partition_index(*index).with_broker_ids(vec![broker.into()])
        };
        let assignments = indexes.iter().map(assignment).collect();
        creatable("a").with_num_partitions(-1).with_replication_factor(-1).with_assignments(assignments)
    };
    let cases = [
        (36, creatable("exists")),
        (17, creatable("with_dot")),
        (17, creatable("")),
        (17, creatable("..")),
        (17, creatable("bad name!")),
        (17, creatable(&"a".repeat(250))),
        (37, creatable("p").with_num_partitions(0)),
        (37, creatable("p").with_num_partitions(-2)),
        (38, creatable("r").with_replication_factor(0)),
        (38, creatable("r").with_replication_factor(3)),
        (39, assigned(&[1], 1)),
        (39, assigned(&[0], 9)),
        (42, assigned(&[0], 1).with_replication_factor(1)),
        (40, config("no.such.key", Some("1"))),
        (40, config("retention.ms", Some("x"))),
        (40, config("retention.ms", None)),
        (40, config("cleanup.policy", Some("shred"))),
    ];
    for (code, topic) in cases {
        let what = format!("{topic:?}");
        let (actual, message) = create(&mut client, topic).await;
        assert_eq!(actual, code, "{what}");
        assert!(message.is_some_and(|message| !message.is_empty()), "{what}");
    }
    let twice = CreateTopicsRequest::default().with_topics(vec![creatable("x"), creatable("ok"), creatable("x")]);
    let response = client.call(5, &twice).await;
    let mut results: Vec<_> = response.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    results.sort();
    assert_eq!(results, [("ok".to_owned(), 0), ("x".to_owned(), 42)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_metadata_names_the_topic() {
    let node = Node::start().await;
    let id = node.topic("t", 2).await;
    let mut client = node.client().await;
    for version in 0..=13 {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name("t")))];
        let mut request = MetadataRequest::default().with_topics(Some(topics));
        if version >= 8 {
            request.include_topic_authorized_operations = true;
        }
        let response = client.call(version, &request).await;
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 2));
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::nil() });
        assert_eq!(topic.topic_authorized_operations, if version >= 8 { 3_576 } else { i32::MIN });
        let broker = response.brokers[0].node_id;
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!((partition.error_code, partition.partition_index, partition.leader_id), (0, index, broker));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![broker], &vec![broker]));
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_null_is_all_topics_and_empty_is_none_but_not_in_version_0() {
    let node = Node::start().await;
    node.topic("a", 1).await;
    node.topic("b", 1).await;
    let mut client = node.client().await;
    let count = async |client: &mut Client, version, topics| {
        client.call(version, &MetadataRequest::default().with_topics(topics)).await.topics.len()
    };
    assert_eq!(count(&mut client, 0, Some(Vec::new())).await, 2);
    for version in [1, 8, 12, 13] {
        assert_eq!(count(&mut client, version, Some(Vec::new())).await, 0);
        assert_eq!(count(&mut client, version, None).await, 2);
    }
    let twice = client.metadata(Some(&["a", "a"]), false).await;
    assert_eq!(twice.topics.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_a_missing_topic_is_unknown_at_first_and_made_behind_the_answer() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let bad = client.metadata(Some(&["bad name!", "", "."]), true).await;
    assert!(bad.topics.iter().all(|topic| topic.error_code == 17));
    let refused = client.metadata(Some(&["new"]), false).await;
    assert_eq!(refused.topics[0].error_code, 3);
    let first = client.metadata(Some(&["new"]), true).await;
    assert_eq!((first.topics[0].error_code, first.topics[0].partitions.len()), (3, 0));
    let mut answered = 3;
    for _ in 0..200 {
        let topic = client.metadata(Some(&["new"]), false).await.topics.remove(0);
        answered = topic.error_code;
        if answered == 0 {
            assert_eq!(topic.partitions.len(), 2);
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(answered, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_nothing_is_made_when_automatic_creation_is_off() {
    let node = Node::start_with(|setup| setup.broker.auto_create_topics = false).await;
    let mut client = node.client().await;
    for _ in 0..3 {
        assert_eq!(client.metadata(Some(&["new"]), true).await.topics[0].error_code, 3);
        sleep(Duration::from_millis(50)).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e9_metadata_by_id() {
    let node = Node::start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let by_id = |id| {
        MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(None).with_topic_id(id)]))
    };
    let found = client.call(12, &by_id(id)).await;
    assert_eq!(
        (found.topics[0].error_code, found.topics[0].name.as_ref().map(|name| name.to_string())),
        (0, Some("t".to_owned()))
    );
    let unknown = client.call(12, &by_id(Uuid::from_u128(77))).await;
    assert_eq!(
        (unknown.topics[0].error_code, &unknown.topics[0].name, unknown.topics[0].topic_id),
        (100, &None, Uuid::from_u128(77))
    );
    assert_eq!(unknown.topics[0].topic_authorized_operations, i32::MIN);
    // Versions 10 and 11 have the field but never looked at it.
    let early = client.call(10, &by_id(id)).await;
    assert_eq!(early.topics[0].error_code, 42);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e11_every_answer_names_the_address_of_the_listener_that_was_asked() {
    let inside = Advertised { host: "inside.example".to_owned(), port: 9_000 };
    let node = Node::start_with(|setup| setup.advertised = Some(inside)).await;
    let outside = node.listen("outside", Advertised { host: "outside.example".to_owned(), port: 0 }).await;
    let expected = [(node.address, "inside.example", 9_000), (outside, "outside.example", i32::from(outside.port()))];
    for (address, host, port) in expected {
        let mut client = Client::connect(&node.env, address).await;
        let metadata = client.metadata(Some(&[]), false).await;
        let listed = &metadata.brokers[0];
        assert_eq!((&*listed.host, listed.port), (host, port));
        let described = client.call(1, &DescribeClusterRequest::default()).await;
        assert_eq!((&*described.brokers[0].host, described.brokers[0].port), (host, port));
        for version in 0..=3 {
            let found = client.call(version, &FindCoordinatorRequest::default().with_key(text("g"))).await;
            assert_eq!((found.error_code, found.node_id, &*found.host, found.port), (0, listed.node_id, host, port));
        }
        for version in 4..=6 {
            let keys = vec![text("g"), text("h")];
            let found = client.call(version, &FindCoordinatorRequest::default().with_coordinator_keys(keys)).await;
            assert_eq!(found.coordinators.len(), 2);
            for coordinator in found.coordinators {
                assert_eq!((coordinator.error_code, coordinator.node_id), (0, listed.node_id));
                assert_eq!((&*coordinator.host, coordinator.port), (host, port));
            }
        }
        let strange = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]).with_key_type(7);
        assert_eq!(client.call(4, &strange).await.coordinators[0].error_code, 42);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e17_delete_topics_answers_each() {
    let node = Node::start().await;
    let id = node.topic("by-id", 1).await;
    node.topic("by-name", 1).await;
    node.topic("twice", 1).await;
    let mut client = node.client().await;
    let names = |names: &[&str]| {
        let names = names.iter().map(|name| topic_name(name)).collect();
        DeleteTopicsRequest::default().with_topic_names(names)
    };
    let response = client.call(5, &names(&["missing", "twice", "twice"])).await;
    let mut codes: Vec<_> = response
        .responses
        .iter()
        .map(|result| (result.name.clone().map(|name| name.to_string()), result.error_code))
        .collect();
    codes.sort();
    assert_eq!(codes, [(Some("missing".to_owned()), 3), (Some("twice".to_owned()), 42)]);
    let state = |name: Option<&str>, id| DeleteTopicState::default().with_name(name.map(topic_name)).with_topic_id(id);
    let topics = vec![
        state(None, id),
        state(None, Uuid::from_u128(4)),
        state(Some("by-name"), Uuid::nil()),
        state(Some("both"), Uuid::from_u128(5)),
        state(None, Uuid::nil()),
    ];
    let response = client.call(6, &DeleteTopicsRequest::default().with_topics(topics)).await;
    let mut codes: Vec<_> = response.responses.iter().map(|result| result.error_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 42, 42, 100]);
    let deleted = response.responses.iter().find(|result| result.topic_id == id).expect("answered");
    assert_eq!(deleted.name.as_ref().map(|name| name.to_string()), Some("by-id".to_owned()));
    for version in 1..=4 {
        assert_eq!(client.call(version, &names(&["missing"])).await.responses[0].error_code, 3);
    }
    assert_eq!(client.metadata(None, false).await.topics.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e17_create_partitions_answers_each() {
    let node = Node::start().await;
    for name in ["grows", "same", "shrinks", "twice"] {
        node.topic(name, 2).await;
    }
    let mut client = node.client().await;
    let topic = |name, count| {
        CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None)
    };
    let topics = vec![
        topic("grows", 5),
        topic("same", 2),
        topic("shrinks", 1),
        topic("missing", 3),
        topic("twice", 3),
        topic("twice", 4),
    ];
    let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(5_000);
    let response = client.call(3, &request).await;
    let mut codes: Vec<_> =
        response.results.iter().map(|result| (result.name.to_string(), result.error_code)).collect();
    codes.sort();
    let expected = [("grows", 0), ("missing", 3), ("same", 37), ("shrinks", 37), ("twice", 42)];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
    assert_eq!(client.metadata(Some(&["grows"]), false).await.topics[0].partitions.len(), 5);
    for version in 0..=2 {
        let request = CreatePartitionsRequest::default().with_topics(vec![topic("grows", 9)]).with_validate_only(true);
        assert_eq!(client.call(version, &request).await.results[0].error_code, 0);
    }
    assert_eq!(client.metadata(Some(&["grows"]), false).await.topics[0].partitions.len(), 5);
    node.stop().await;
}

async fn describe(
    client: &mut Client,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let topics = topics.iter().map(|name| TopicRequest::default().with_name(topic_name(name))).collect();
    let cursor =
        cursor.map(|(name, index)| Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(topics)
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    client.call(0, &request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_topics_are_described_page_by_page_without_nulls() {
    let node = Node::start().await;
    node.topic("a", 3).await;
    node.topic("b", 3).await;
    let mut client = node.client().await;
    let mut seen = Vec::new();
    let mut cursor: Option<(String, i32)> = None;
    for _ in 0..10 {
        let from = cursor.as_ref().map(|(name, index)| (name.as_str(), *index));
        let page = describe(&mut client, &[], 2, from).await;
        for topic in &page.topics {
            let name = topic.name.as_ref().expect("never null").to_string();
            for partition in &topic.partitions {
                assert!(partition.eligible_leader_replicas.is_some() && partition.last_known_elr.is_some());
                seen.push((name.clone(), partition.partition_index));
            }
        }
        assert!(page.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() <= 2);
        cursor = page.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        if cursor.is_none() {
            break;
        }
    }
    assert!(cursor.is_none());
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn described_topics_are_named_once_and_cursors_are_checked() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let response = describe(&mut client, &["t", "bad name!", "missing", "t"], 2_000, None).await;
    let codes: Vec<_> = response
        .topics
        .iter()
        .map(|topic| {
            (
                topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
                topic.error_code,
                topic.partitions.len(),
            )
        })
        .collect();
    let expected = [("bad name!", 17, 0), ("missing", 3, 0), ("t", 0, 2)];
    assert_eq!(codes, expected.map(|(name, code, count)| (name.to_owned(), code, count)));
    for limit in [0, -1, 1] {
        let page = describe(&mut client, &["t"], limit, None).await;
        assert_eq!(page.topics[0].partitions.len(), 1);
        assert_eq!(page.next_cursor.map(|cursor| cursor.partition_index), Some(1));
    }
    let past = describe(&mut client, &["t"], 10, Some(("t", 9))).await;
    assert_eq!((past.topics[0].error_code, past.topics[0].partitions.len()), (0, 0));
    for cursor in [("zz", 0), ("t", -1)] {
        assert_eq!(describe(&mut client, &["t"], 10, Some(cursor)).await.topics[0].error_code, 42);
    }
    node.stop().await;
}
