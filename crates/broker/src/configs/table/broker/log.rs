//! Broker keys of the log, most of them defaults of topic keys.

use super::{Key, keys};
use crate::configs::ValueKind::{Boolean, Double, Int, List, Long, String};
use crate::configs::table::Check::{Any, AtLeast, Between, BetweenOr, ListOf, OneOf, Ratio};

const COMPACTION: &str = "Not applied: objects are read and written in pieces of their own sizes, by one task.";
const FLUSH: &str = "Not applied: a batch is always on disk before it is acknowledged.";
const ONE_LOG: &str = "Not applied: all partitions of a node share one log with its own segments.";

pub(super) const KEYS: &[Key] = keys! {
    "compression.gzip.level", Int, Some("-1"), BetweenOr(1, 9, -1), "Not applied: the broker does not compress anew.";
    "compression.lz4.level", Int, Some("9"), Between(1, 17), "Not applied: the broker does not compress anew.";
    "compression.type", String, Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), "Batches are stored as their producer compressed them; any other value is kept but not applied.";
    "compression.zstd.level", Int, Some("3"), Between(-131_072, 22), "Not applied: the broker does not compress anew.";
    "log.cleaner.backoff.ms", Long, Some("15000"), AtLeast(0), "How often is looked for partitions that are to be compacted.";
    "log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Any, "Memory for the keys of the partition that is being compacted, at 32 bytes each: compaction_memory_bytes.";
    "log.cleaner.delete.retention.ms", Long, Some("86400000"), AtLeast(0), "Default of delete.retention.ms: how long a record without a value is kept.";
    "log.cleaner.enable", Boolean, Some("true"), Any, "Not applied: what is to be compacted is.";
    "log.cleaner.io.buffer.load.factor", Double, Some("0.9"), Any, COMPACTION;
    "log.cleaner.io.buffer.size", Int, Some("524288"), AtLeast(0), COMPACTION;
    "log.cleaner.io.max.bytes.per.second", Double, Some("1.7976931348623157E308"), Any, "Not applied: compaction_bytes_per_second holds.";
    "log.cleaner.max.compaction.lag.ms", Long, Some("9223372036854775807"), AtLeast(1), "Default of max.compaction.lag.ms: the age from which on records are compacted whatever part they are.";
    "log.cleaner.min.cleanable.ratio", Double, Some("0.5"), Ratio, "Default of min.cleanable.dirty.ratio: the part of a partition from which on it is compacted.";
    "log.cleaner.min.compaction.lag.ms", Long, Some("0"), AtLeast(0), "Default of min.compaction.lag.ms: the age below which records are not compacted.";
    "log.cleaner.threads", Int, Some("1"), AtLeast(0), COMPACTION;
    "log.cleanup.policy", List, Some("delete"), ListOf(&["compact", "delete"]), "Default of cleanup.policy: what happens to old records.";
    "log.dir", List, Some("/tmp/kafka-logs"), Any, "Where data is kept, if log.dirs is not set.";
    "log.dirs", List, None, Any, "The directory in which this node keeps its data.";
    "log.flush.interval.messages", Long, Some("9223372036854775807"), AtLeast(1), FLUSH;
    "log.flush.interval.ms", Long, None, Any, FLUSH;
    "log.flush.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(0), FLUSH;
    "log.flush.scheduler.interval.ms", Long, Some("9223372036854775807"), Any, FLUSH;
    "log.flush.start.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(0), FLUSH;
    "log.index.interval.bytes", Int, Some("4096"), AtLeast(0), ONE_LOG;
    "log.index.size.max.bytes", Int, Some("10485760"), AtLeast(4), ONE_LOG;
    "log.local.retention.bytes", Long, Some("-2"), AtLeast(-2), ONE_LOG;
    "log.local.retention.ms", Long, Some("-2"), AtLeast(-2), ONE_LOG;
    "log.message.timestamp.after.max.ms", Long, Some("3600000"), AtLeast(0), "Default of message.timestamp.after.max.ms: how far ahead of the broker a timestamp may be.";
    "log.message.timestamp.before.max.ms", Long, Some("9223372036854775807"), AtLeast(0), "Default of message.timestamp.before.max.ms: how far behind the broker a timestamp may be.";
    "log.message.timestamp.type", String, Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), "Default of message.timestamp.type: whose clock a record carries.";
    "log.preallocate", Boolean, Some("false"), Any, ONE_LOG;
    "log.retention.bytes", Long, Some("-1"), Any, "Default of retention.bytes: the size from which on a partition's oldest records go.";
    "log.retention.check.interval.ms", Long, Some("300000"), AtLeast(1), "How often is looked for records that are too old, or too many.";
    "log.retention.hours", Int, Some("168"), Any, "Used if neither log.retention.ms nor log.retention.minutes is set.";
    "log.retention.minutes", Int, None, Any, "Used if log.retention.ms is not set.";
    "log.retention.ms", Long, None, Any, "Default of retention.ms: the age from which on records go.";
    "log.roll.hours", Int, Some("168"), AtLeast(1), ONE_LOG;
    "log.roll.jitter.hours", Int, Some("0"), AtLeast(0), ONE_LOG;
    "log.roll.jitter.ms", Long, None, Any, ONE_LOG;
    "log.roll.ms", Long, None, Any, ONE_LOG;
    "log.segment.bytes", Int, Some("1073741824"), AtLeast(1_048_576), ONE_LOG;
    "log.segment.delete.delay.ms", Long, Some("60000"), AtLeast(0), ONE_LOG;
    "message.max.bytes", Int, Some("1048588"), AtLeast(0), "Default of max.message.bytes: the largest batch that a producer may send.";
    "min.insync.replicas", Int, Some("1"), AtLeast(1), "Default of min.insync.replicas: copies that must have a batch before it is acknowledged with acks=all.";
    "num.recovery.threads.per.data.dir", Int, Some("2"), AtLeast(1), ONE_LOG;
};
