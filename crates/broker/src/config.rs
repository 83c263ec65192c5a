//! What the operator fixed at start. Every field has Kafka's default; the bounds are checked by [`Config::check`].

use std::collections::BTreeMap;

/// Settings of the broker that do not change while it runs, and the static layer of the broker's configuration keys.
#[derive(Debug, Clone)]
pub struct Config {
    /// One budget for everything the broker holds in memory.
    pub memory_bytes_max: u64,
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
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: i32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i32,
    /// Producers remembered per shard; the longest idle ones make room.
    pub producers_per_shard_max: u32,
    /// `fetch.max.bytes`: most bytes in one answer to a fetch, whatever the client asks.
    pub fetch_bytes_max: i32,
    /// `max.connections`.
    pub connections_max: u32,
    /// `connections.max.idle.ms`.
    pub connections_idle_ms_max: i64,
    /// Partitions that one topic can have.
    pub partitions_per_topic_max: i32,
    /// Further broker keys under Kafka's names that the operator set: shown as static configuration.
    pub static_keys: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            num_partitions: 1,
            auto_create_topics: true,
            delete_topics: true,
            message_bytes_max: 1_048_588,
            group_initial_rebalance_delay_ms: 3_000,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_size_max: i32::MAX,
            offset_metadata_bytes_max: 4_096,
            producer_id_expiration_ms: 86_400_000,
            producers_per_shard_max: 10_000,
            fetch_bytes_max: 57_671_680,
            connections_max: 100_000,
            connections_idle_ms_max: 600_000,
            partitions_per_topic_max: 10_000,
            static_keys: BTreeMap::new(),
        }
    }
}
