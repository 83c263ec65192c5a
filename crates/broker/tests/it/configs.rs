//! Configurations: shown with their sources, changed while the broker runs, in force at once.

use broker::Config;
use broker::configs::{
    AlterConfigsError, Alteration, DescribeConfigsError, Entry, Operation, OperationKind, Resource, Source,
};
use broker::produce::ProduceError;
use record::NodeId;

use crate::harness::Node;

fn set(name: &str, value: &str) -> Alteration {
    Alteration::Incremental(vec![Operation {
        name: name.to_owned(),
        kind: OperationKind::Set,
        value: Some(value.to_owned()),
    }])
}

fn shown(node: &Node, resource: &Resource, key: &str) -> Entry {
    let mut entries = node.broker.configs().describe(resource, Some(&[key.to_owned()])).expect("it is described");
    assert_eq!(entries.len(), 1, "{key}");
    entries.remove(0)
}

#[tokio::test]
async fn a_changed_limit_holds_for_the_next_batch_and_after_a_restart() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let topic = Resource::Topic("a".to_owned());
    node.produce(&node.partition("a", 0), &[&[0; 100]]).await.expect("it fits");
    node.broker.configs().alter(&topic, set("max.message.bytes", "120"), false).await.expect("it is changed");
    let entry = shown(&node, &topic, "max.message.bytes");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("120"), Source::DynamicTopic));
    let node = node.restart().await;
    let large = node.produce(&node.partition("a", 0), &[&[0; 100]]).await.expect_err("it is too large now");
    assert!(matches!(large, ProduceError::MessageTooLarge { limit: 120, .. }));
}

#[tokio::test]
async fn a_brokers_default_holds_for_topics_without_their_own() {
    let node = Node::start().await;
    node.create("a", 1).await;
    node.create_with("own", 1, &[("max.message.bytes", "5000")]).await;
    let value = [0; 200];
    node.produce(&node.partition("a", 0), &[&value]).await.expect("it fits");
    node.broker.configs().alter(&Resource::BrokerDefault, set("message.max.bytes", "100"), false).await.expect("set");
    assert!(node.produce(&node.partition("a", 0), &[&value]).await.is_err());
    node.produce(&node.partition("own", 0), &[&value]).await.expect("it has its own limit");
    let own = Resource::Broker(node.broker.cluster().node_id());
    node.broker.configs().alter(&own, set("message.max.bytes", "1000"), false).await.expect("set");
    node.produce(&node.partition("a", 0), &[&value]).await.expect("the node's own value is stronger");
    let entry = shown(&node, &Resource::Topic("a".to_owned()), "max.message.bytes");
    assert_eq!(entry.source, Source::DynamicBroker);
    assert_eq!(entry.synonyms.len(), 3);
}

#[tokio::test]
async fn validating_changes_nothing() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let topic = Resource::Topic("a".to_owned());
    node.broker.configs().alter(&topic, set("retention.ms", "5"), true).await.expect("it is valid");
    assert_eq!(shown(&node, &topic, "retention.ms").source, Source::Default);
    let shred = node.broker.configs().alter(&topic, set("cleanup.policy", "shred"), true).await;
    assert!(matches!(shred, Err(AlterConfigsError::InvalidConfig(_))));
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() {
    let node = Node::start().await;
    let nope = Resource::Topic("nope".to_owned());
    let described = node.broker.configs().describe(&nope, None);
    assert!(matches!(described, Err(DescribeConfigsError::UnknownTopicOrPartition(_))));
    let altered = node.broker.configs().alter(&nope, set("retention.ms", "1"), false).await;
    let why = "The topic 'nope' does not exist.".to_owned();
    assert_eq!(altered, Err(AlterConfigsError::UnknownTopicOrPartition(why)));
    let other = Resource::Broker(NodeId(99));
    assert!(matches!(node.broker.configs().describe(&other, None), Err(DescribeConfigsError::InvalidRequest(_))));
}

#[tokio::test]
async fn the_broker_shows_every_key_and_what_the_operator_set() {
    let node = Node::with(Config { num_partitions: 4, ..Config::default() }).await;
    let own = Resource::Broker(node.broker.cluster().node_id());
    assert_eq!(node.broker.configs().describe(&own, None).expect("it is described").len(), 340);
    let partitions = shown(&node, &own, "num.partitions");
    assert_eq!((partitions.value.as_deref(), partitions.source), (Some("4"), Source::StaticBroker));
    assert!(partitions.read_only);
    assert!(!shown(&node, &own, "log.retention.ms").read_only);
}
