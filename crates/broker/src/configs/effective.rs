//! The few values that every append looks at, parsed once.

use record::TimestampType;

use super::layers::{Layers, Values};
use super::table::topic_key;

/// What holds for the appends to one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    /// Nodes that must have what is acknowledged to a producer that waits for all.
    pub(crate) in_sync_min: u8,
}

impl TopicSettings {
    /// Values were checked when they were set; one that cannot be read any more counts as its default.
    pub(crate) fn of(topic: &Values, layers: Layers<'_>) -> Self {
        let text = |name: &str| topic_key(name).and_then(|key| layers.topic_value(topic, key)).unwrap_or_default();
        let number = |name: &str, default: i64| text(name).parse::<i64>().unwrap_or(default);
        Self {
            message_bytes_max: usize::try_from(number("max.message.bytes", 1_048_588)).unwrap_or(0),
            timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: number("message.timestamp.before.max.ms", i64::MAX),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms", 3_600_000),
            in_sync_min: u8::try_from(number("min.insync.replicas", 1)).unwrap_or(u8::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_keys_has_kafkas_defaults() {
        let none = Values::new();
        let settings = TopicSettings::of(&none, Layers { node: &none, all_nodes: &none, fixed: &none });
        assert_eq!(
            settings,
            TopicSettings {
                message_bytes_max: 1_048_588,
                timestamp_type: TimestampType::CreateTime,
                timestamp_before_max_ms: i64::MAX,
                timestamp_after_max_ms: 3_600_000,
                in_sync_min: 1,
            }
        );
    }
}
