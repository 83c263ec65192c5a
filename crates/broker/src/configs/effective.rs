//! The few values of a topic that are looked at often, parsed once.

use record::{TimestampMs, TimestampType};

use super::layers::{Layers, Values};
use super::table::topic_key;
use super::value::elements;

/// What holds for one topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopicSettings {
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    /// Nodes that must have what is acknowledged to a producer that waits for all.
    pub(crate) in_sync_min: u8,
    pub(crate) retention: Retention,
    pub(crate) compaction: Compaction,
}

/// How records that newer ones of the same key supersede go, where the cleanup policy says so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compaction {
    pub(crate) dirty_ratio_min: f64,
    pub(crate) lag_ms_min: i64,
    pub(crate) lag_ms_max: i64,
    pub(crate) delete_retention_ms: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
}

/// How long records stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Whether the cleanup policy deletes at all.
    pub(crate) deletes: bool,
    pub(crate) compacts: bool,
    /// No limit if there is none.
    pub(crate) ms: Option<i64>,
    /// Of each partition.
    pub(crate) bytes_max: Option<u64>,
}

impl Retention {
    /// Whether nothing goes by itself.
    pub(crate) fn keeps_all(self) -> bool {
        !self.deletes || (self.ms.is_none() && self.bytes_max.is_none())
    }

    /// The largest timestamp that is too old: what is exactly as old as the limit stays, as in Kafka.
    pub(crate) fn newest_expired(self, now: TimestampMs) -> Option<TimestampMs> {
        self.ms.map(|ms| TimestampMs(now.0.saturating_sub(ms).saturating_sub(1)))
    }
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
            retention: Retention {
                deletes: elements(&text("cleanup.policy")).any(|policy| policy == "delete"),
                compacts: elements(&text("cleanup.policy")).any(|policy| policy == "compact"),
                ms: Some(number("retention.ms", 604_800_000)).filter(|ms| *ms >= 0),
                bytes_max: u64::try_from(number("retention.bytes", -1)).ok(),
            },
            compaction: Compaction {
                dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
                lag_ms_min: number("min.compaction.lag.ms", 0),
                lag_ms_max: number("max.compaction.lag.ms", i64::MAX),
                delete_retention_ms: number("delete.retention.ms", 86_400_000),
                segment_bytes: number("segment.bytes", 1 << 30).unsigned_abs(),
                segment_ms: number("segment.ms", 604_800_000),
            },
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
                retention: Retention { deletes: true, compacts: false, ms: Some(604_800_000), bytes_max: None },
                compaction: Compaction {
                    dirty_ratio_min: 0.5,
                    lag_ms_min: 0,
                    lag_ms_max: i64::MAX,
                    delete_retention_ms: 86_400_000,
                    segment_bytes: 1 << 30,
                    segment_ms: 604_800_000,
                },
            }
        );
    }
}
