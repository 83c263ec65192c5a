//! Small things that several handlers say in the same way.

use std::sync::Arc;

use broker::Broker;
use broker::topics::Topic;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use record::TopicId;
use uuid::Uuid;

/// What a client may do with a topic, as bits by Kafka's AclOperation: nothing is forbidden, so all that a topic has
/// (read, write, create, delete, alter, describe, describe configs, alter configs).
pub(super) const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Read, delete, describe, describe configs, alter configs.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// What stands there when nobody asked.
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

pub(super) fn operations(asked: bool, all: i32) -> i32 {
    if asked { all } else { OPERATIONS_NOT_ASKED }
}

/// Text of ours for a message of the crate.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(super) const fn topic_id(id: Uuid) -> TopicId {
    TopicId(id.as_u128())
}

pub(super) const fn uuid(id: TopicId) -> Uuid {
    Uuid::from_u128(id.0)
}

/// The topic by id where the request names one, else by name.
pub(super) fn find(broker: &Broker, name: &str, id: Uuid) -> Option<Arc<Topic>> {
    if id.is_nil() { broker.topics().resolve(name) } else { broker.topics().resolve_id(topic_id(id)) }
}
