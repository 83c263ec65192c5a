//! E16 configurations.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use crate::support::{Client, Node, text};

pub(crate) const TOPIC: i8 = 2;
const BROKER: i8 = 4;
pub(crate) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

async fn describe(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let mut request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    if version >= 3 {
        request.include_documentation = true;
    }
    client.call(version, &request).await.results.remove(0)
}

pub(crate) async fn alter(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> i16 {
    let configs = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(*operation).with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(version, &request).await.responses.remove(0).error_code
}

fn value<'a>(result: &'a DescribeConfigsResult, key: &str) -> Option<(&'a str, i8)> {
    let config = result.configs.iter().find(|config| &*config.name == key)?;
    Some((config.value.as_deref()?, config.config_source))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e16_every_known_key_is_returned_with_default_source_and_type() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for version in 1..=4 {
        for keys in [None, Some(&[][..])] {
            let result = describe(&mut client, version, TOPIC, "t", keys).await;
            assert_eq!(result.error_code, 0);
            assert!(result.configs.len() >= 30, "{}", result.configs.len());
            assert_eq!(value(&result, "cleanup.policy"), Some(("delete", 5)));
            assert_eq!(value(&result, "retention.ms"), Some(("604800000", 5)));
            assert_eq!(value(&result, "max.message.bytes").map(|(value, _)| value), Some("1048588"));
            if version >= 3 {
                assert!(result.configs.iter().all(|config| config.config_type != 0 && config.documentation.is_some()));
            }
        }
        let named = describe(&mut client, version, TOPIC, "t", Some(&["retention.ms", "no.such.key"])).await;
        assert_eq!(named.configs.len(), 1);
    }
    let broker_id = node.cluster.node_id().to_string();
    let broker = describe(&mut client, 4, BROKER, &broker_id, None).await;
    assert_eq!(value(&broker, "num.partitions").map(|(value, _)| value), Some("2"));
    for key in ["log.retention.hours", "default.replication.factor", "auto.create.topics.enable"] {
        assert!(value(&broker, key).is_some(), "{key}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e16_resources_that_are_not_there() {
    let node = Node::start().await;
    let mut client = node.client().await;
    assert_eq!(describe(&mut client, 4, TOPIC, "missing", None).await.error_code, 3);
    assert_eq!(describe(&mut client, 4, TOPIC, "bad name!", None).await.error_code, 17);
    assert_eq!(describe(&mut client, 4, BROKER, "77", None).await.error_code, 42);
    assert_eq!(describe(&mut client, 4, BROKER, "x", None).await.error_code, 42);
    assert_eq!(describe(&mut client, 4, BROKER, "", None).await.error_code, 0);
    assert_eq!(describe(&mut client, 4, 9, "x", None).await.error_code, 42);
    assert_eq!(describe(&mut client, 4, 32, "group", None).await.error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e16_keys_are_set_deleted_and_appended_to() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for version in 0..=1 {
        assert_eq!(alter(&mut client, version, TOPIC, "t", &[("retention.ms", SET, Some("1000"))]).await, 0);
        let set = describe(&mut client, 4, TOPIC, "t", Some(&["retention.ms"])).await;
        assert_eq!(value(&set, "retention.ms"), Some(("1000", 1)));
        assert_eq!(alter(&mut client, version, TOPIC, "t", &[("retention.ms", DELETE, None)]).await, 0);
        let deleted = describe(&mut client, 4, TOPIC, "t", Some(&["retention.ms"])).await;
        assert_eq!(value(&deleted, "retention.ms"), Some(("604800000", 5)), "version {version}");
    }
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("segment.ms", DELETE, None)]).await, 0, "a key that is not set");
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("segment.bytes", SET, Some("2000000"))]).await, 0);
    let set = describe(&mut client, 4, TOPIC, "t", Some(&["segment.bytes"])).await;
    let synonyms: Vec<_> = set.configs[0].synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
    assert_eq!(synonyms, [("segment.bytes", 1), ("log.segment.bytes", 5)], "the value and the default it hides");
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("cleanup.policy", APPEND, Some("compact"))]).await, 0);
    let both = describe(&mut client, 4, TOPIC, "t", Some(&["cleanup.policy"])).await;
    assert_eq!(value(&both, "cleanup.policy"), Some(("delete,compact", 1)));
    let refused = [
        (40, ("no.such.key", SET, Some("1"))),
        (40, ("retention.ms", SET, Some("x"))),
        (40, ("retention.ms", APPEND, Some("5"))),
        (40, ("cleanup.policy", SET, Some("compacted"))),
        (42, ("segment.ms", SET, None)),
        (42, ("segment.ms", 9, Some("1"))),
    ];
    for (code, change) in refused {
        assert_eq!(alter(&mut client, 1, TOPIC, "t", &[change]).await, code, "{change:?}");
    }
    let twice = [("segment.ms", SET, Some("60000")), ("segment.ms", DELETE, None)];
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &twice).await, 42);
    assert_eq!(alter(&mut client, 1, TOPIC, "missing", &[("segment.ms", SET, Some("60000"))]).await, 3);
    assert_eq!(alter(&mut client, 1, 9, "x", &[("a", SET, Some("b"))]).await, 42);
    assert_eq!(alter(&mut client, 1, BROKER, "77", &[("num.partitions", SET, Some("5"))]).await, 42);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_is_named_twice_is_refused_both_times() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let resource = AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text("t"));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone(), resource]);
    let response = client.call(1, &request).await;
    assert_eq!(response.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42, 42]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_is_asked_for_often_is_told_once() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let names = ["1", "01", "001", "+1", "", "", "1"];
    let resources = names.iter().cycle().take(10_000).map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect()).with_include_synonyms(true);
    let response = client.call(4, &request).await;
    assert_eq!(response.results.len(), 2);
    assert!(response.results[0].configs.len() > 100);
    node.stop().await;
}
