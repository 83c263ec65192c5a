//! The keys of a topic, by name.

use super::key::Check::{Any, AtLeast, Between, BetweenOr, ListOf, OneOf, Ratio, ThrottledReplicas};
use super::key::Key;
use crate::configs::ValueKind::{Boolean, Double, Int, List, Long, String};

/// Rows: name, type, default, check, broker's key, whether it is applied, documentation.
macro_rules! topic_keys {
    ($($name:literal, $kind:ident, $default:expr, $check:expr, $broker:expr, $applied:expr, $documentation:expr;)*) => {
        &[$(Key {
            name: $name,
            kind: $kind,
            default: Some($default),
            check: $check,
            documentation: $documentation,
            broker_key: $broker,
            fallbacks: fallbacks($name),
            applied: $applied,
        }),*]
    };
}

const APPLIED: bool = true;
/// Stored and shown, and said so in the log when it is set.
const KEPT: bool = false;

const FLUSH: &str = "Kept, not applied: a batch is always on disk before it is acknowledged.";
const SEALED: &str = "All partitions of a node share one log with its own segments. Of a partition that is compacted so much, or so old, is sealed, at the latest, so that it can be.";
const ONE_LOG: &str = "Kept, not applied: all partitions of a node share one log with its own segments.";
const TIERED: &str = "Kept, not applied: part of tiered storage, which this broker does not have yet.";
const LEVEL: &str = "Kept, not applied: the broker does not compress anew.";
const THROTTLE: &str = "Kept, not applied: copies are made by consensus, which is not throttled per partition.";

pub(super) const KEYS: &[Key] = topic_keys! {
    "cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), Some("log.cleanup.policy"), APPLIED,
        "What happens to old records: delete by age and size, compact to the newest of each key, both, or, empty, neither.";
    "compression.gzip.level", Int, "-1", BetweenOr(1, 9, -1), Some("compression.gzip.level"), KEPT, LEVEL;
    "compression.lz4.level", Int, "9", Between(1, 17), Some("compression.lz4.level"), KEPT, LEVEL;
    "compression.type", String, "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Some("compression.type"), KEPT,
        "Batches are stored as their producer compressed them; any other value is kept but not applied.";
    "compression.zstd.level", Int, "3", Between(-131_072, 22), Some("compression.zstd.level"), KEPT, LEVEL;
    "delete.retention.ms", Long, "86400000", AtLeast(0), Some("log.cleaner.delete.retention.ms"), APPLIED,
        "How long a record without a value is kept after the first pass of compaction over it.";
    "file.delete.delay.ms", Long, "60000", AtLeast(0), Some("log.segment.delete.delay.ms"), KEPT, ONE_LOG;
    "flush.messages", Long, "9223372036854775807", AtLeast(1), Some("log.flush.interval.messages"), KEPT, FLUSH;
    "flush.ms", Long, "9223372036854775807", AtLeast(0), Some("log.flush.interval.ms"), KEPT, FLUSH;
    "follower.replication.throttled.replicas", List, "", ThrottledReplicas, None, KEPT, THROTTLE;
    "index.interval.bytes", Int, "4096", AtLeast(0), Some("log.index.interval.bytes"), KEPT, ONE_LOG;
    "leader.replication.throttled.replicas", List, "", ThrottledReplicas, None, KEPT, THROTTLE;
    "local.retention.bytes", Long, "-2", AtLeast(-2), Some("log.local.retention.bytes"), KEPT, TIERED;
    "local.retention.ms", Long, "-2", AtLeast(-2), Some("log.local.retention.ms"), KEPT, TIERED;
    "max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Some("log.cleaner.max.compaction.lag.ms"), APPLIED,
        "Compacted is what has older records that were not, whatever part they are; and as old they are sealed.";
    "max.message.bytes", Int, "1048588", AtLeast(0), Some("message.max.bytes"), APPLIED,
        "The largest batch that a producer may send, as compressed by it.";
    "message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Some("log.message.timestamp.after.max.ms"), APPLIED,
        "How far ahead of the broker's clock a record's timestamp may be, if timestamps are the producer's.";
    "message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0),
        Some("log.message.timestamp.before.max.ms"), APPLIED,
        "How far behind the broker's clock a record's timestamp may be, if timestamps are the producer's.";
    "message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]),
        Some("log.message.timestamp.type"), APPLIED,
        "Whose clock a record carries: its producer's (CreateTime) or the broker's at the append (LogAppendTime).";
    "min.cleanable.dirty.ratio", Double, "0.5", Ratio, Some("log.cleaner.min.cleanable.ratio"), APPLIED,
        "Compacted is what has a larger part of bytes that were not.";
    "min.compaction.lag.ms", Long, "0", AtLeast(0), Some("log.cleaner.min.compaction.lag.ms"), APPLIED,
        "Younger records, and all behind the first of them, are not compacted.";
    "min.insync.replicas", Int, "1", AtLeast(1), Some("min.insync.replicas"), APPLIED,
        "Copies that must have a batch before it is acknowledged with acks=all: no more than a majority of as many as `rosettamq cluster copies` says, so 1 or 2 of three. Where a majority of a partition's copies is fewer, as on one node, such batches are refused (NOT_ENOUGH_REPLICAS).";
    "preallocate", Boolean, "false", Any, Some("log.preallocate"), KEPT, ONE_LOG;
    "remote.log.copy.disable", Boolean, "false", Any, None, KEPT, TIERED;
    "remote.log.delete.on.disable", Boolean, "false", Any, None, KEPT, TIERED;
    "remote.storage.enable", Boolean, "false", Any, None, APPLIED,
        "Whether old records move to tiered storage, which this broker does not have yet: true is refused.";
    "retention.bytes", Long, "-1", Any, Some("log.retention.bytes"), APPLIED,
        "The oldest records of a partition go while what is left has at least so many bytes; -1: its size does not matter.";
    "retention.ms", Long, "604800000", AtLeast(-1), Some("log.retention.ms"), APPLIED,
        "The oldest records of a partition go when they are older, by their timestamps; -1: their age does not matter.";
    "segment.bytes", Int, "1073741824", AtLeast(1_048_576), Some("log.segment.bytes"), APPLIED, SEALED;
    "segment.index.bytes", Int, "10485760", AtLeast(4), Some("log.index.size.max.bytes"), KEPT, ONE_LOG;
    "segment.jitter.ms", Long, "0", AtLeast(0), Some("log.roll.jitter.ms"), KEPT, ONE_LOG;
    "segment.ms", Long, "604800000", AtLeast(1), Some("log.roll.ms"), APPLIED, SEALED;
    "unclean.leader.election.enable", Boolean, "false", Any, Some("unclean.leader.election.enable"), KEPT,
        "Kept, not applied: only a node that has every acknowledged record can lead.";
};

/// Older broker keys in larger units.
const fn fallbacks(name: &'static str) -> &'static [(&'static str, i64)] {
    const HOUR_MS: i64 = 3_600_000;
    match name.as_bytes() {
        b"retention.ms" => &[("log.retention.minutes", 60_000), ("log.retention.hours", HOUR_MS)],
        b"segment.ms" => &[("log.roll.hours", HOUR_MS)],
        b"segment.jitter.ms" => &[("log.roll.jitter.hours", HOUR_MS)],
        b"flush.ms" => &[("log.flush.scheduler.interval.ms", 1)],
        _ => &[],
    }
}
