//! What the operator fixed at start. Fields that Kafka has too have its defaults.

use std::collections::BTreeMap;

use base::time::Duration;
use record::NodeId;

use crate::configs::Limits;

/// Settings of the broker that do not change while it runs, and the static layer of the broker's configuration keys.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's part of the node's memory: one half for requests that are read, one for answers that are sent.
    pub memory_bytes_max: u64,
    /// The largest batch that any topic takes, whatever its `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// `num.partitions`: partitions of a topic created without a number.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `message.max.bytes`: default of a topic's `max.message.bytes`.
    pub message_bytes_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group.
    pub group_size_max: i32,
    /// Groups that this node has in use at once: those with members, and those that gave out ids for some.
    pub groups_max: usize,
    /// Groups that one shard holds, with members or without.
    pub groups_per_shard_max: usize,
    /// What all groups in use together may take: their members with metadata and assignments, and ids given out.
    pub group_memory_bytes_max: usize,
    /// What the committed offsets of all groups together may take, with their metadata.
    pub group_offset_bytes_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: i32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i32,
    /// `fetch.max.bytes`: most bytes in one answer to a fetch, whatever the client asks.
    pub fetch_bytes_max: i32,
    /// How long after its own wait a fetch waits for the memory of one batch to answer with.
    pub answer_memory_wait_max: Duration,
    /// `max.connections`.
    pub connections_max: u32,
    /// `connections.max.idle.ms`.
    pub connections_idle_ms_max: i64,
    /// `log.retention.ms`: default of a topic's `retention.ms`; without limit where there is none.
    pub retention_ms: Option<u64>,
    /// `log.retention.bytes`: default of a topic's `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.cleaner.backoff.ms`: how often replicas are told what is to be compacted.
    pub compaction_interval: Duration,
    /// `log.cleaner.dedupe.buffer.size`, which the layers below keep to.
    pub compaction_memory_bytes: u64,
    /// Partitions that one topic can have.
    pub partitions_per_topic_max: i32,
    /// Further broker keys under Kafka's names that the operator set: shown as static configuration.
    pub static_keys: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes_max: 128 << 20,
            batch_bytes_max: 16 << 20,
            num_partitions: 1,
            auto_create_topics: true,
            delete_topics: true,
            message_bytes_max: 1_048_588,
            group_initial_rebalance_delay_ms: 3_000,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_size_max: i32::MAX,
            groups_max: 100_000,
            groups_per_shard_max: 100_000,
            group_memory_bytes_max: 64 << 20,
            group_offset_bytes_max: 64 << 20,
            offset_metadata_bytes_max: 4_096,
            producer_id_expiration_ms: 86_400_000,
            fetch_bytes_max: 57_671_680,
            answer_memory_wait_max: Duration::from_secs(10),
            connections_max: 100_000,
            connections_idle_ms_max: 600_000,
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            retention_check_interval: Duration::from_mins(5),
            compaction_interval: Duration::from_secs(15),
            compaction_memory_bytes: 128 << 20,
            partitions_per_topic_max: 10_000,
            static_keys: BTreeMap::new(),
        }
    }
}

impl Config {
    pub(crate) fn limits(&self, copies_max: usize) -> Limits {
        Limits { batch_bytes_max: self.batch_bytes_max, copies_max }
    }

    /// The keys under Kafka's names that hold from the start: those that differ from Kafka's defaults, those whose
    /// value only this node knows, and those that the operator set besides.
    pub(crate) fn fixed_keys(&self, node: NodeId) -> BTreeMap<String, String> {
        let mut keys = self.static_keys.clone();
        let mut set = |name: &str, value: String| {
            keys.insert(name.to_owned(), value);
        };
        set("node.id", node.to_string());
        set("broker.id", node.to_string());
        set("process.roles", "broker,controller".to_owned());
        set("group.coordinator.rebalance.protocols", "classic".to_owned());
        set("max.connections", self.connections_max.to_string());
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
        let given = [
            ("num.partitions", self.num_partitions.to_string(), "1"),
            ("auto.create.topics.enable", self.auto_create_topics.to_string(), "true"),
            ("delete.topic.enable", self.delete_topics.to_string(), "true"),
            ("message.max.bytes", self.message_bytes_max.to_string(), "1048588"),
            ("group.initial.rebalance.delay.ms", self.group_initial_rebalance_delay_ms.to_string(), "3000"),
            ("group.min.session.timeout.ms", self.group_min_session_timeout_ms.to_string(), "6000"),
            ("group.max.session.timeout.ms", self.group_max_session_timeout_ms.to_string(), "1800000"),
            ("group.max.size", self.group_size_max.to_string(), "2147483647"),
            ("offset.metadata.max.bytes", self.offset_metadata_bytes_max.to_string(), "4096"),
            ("producer.id.expiration.ms", self.producer_id_expiration_ms.to_string(), "86400000"),
            ("fetch.max.bytes", self.fetch_bytes_max.to_string(), "57671680"),
            ("connections.max.idle.ms", self.connections_idle_ms_max.to_string(), "600000"),
            ("log.retention.ms", limit(self.retention_ms), "604800000"),
            ("log.retention.bytes", limit(self.retention_bytes), "-1"),
            ("log.cleaner.backoff.ms", self.compaction_interval.as_millis().to_string(), "15000"),
            ("log.cleaner.dedupe.buffer.size", self.compaction_memory_bytes.to_string(), "134217728"),
            ("log.retention.check.interval.ms", self.retention_check_interval.as_millis().to_string(), "300000"),
        ];
        for (name, value, default) in given {
            if value != default {
                set(name, value);
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_kafkas_defaults_is_static() {
        let keys = Config { num_partitions: 4, ..Config::default() }.fixed_keys(NodeId(1));
        assert_eq!(keys.get("num.partitions").map(String::as_str), Some("4"));
        assert_eq!(keys.get("node.id").map(String::as_str), Some("1"));
        assert_eq!(keys.get("group.max.size"), None);
    }
}
