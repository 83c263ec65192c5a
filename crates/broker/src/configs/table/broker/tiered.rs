//! Broker keys of tiered storage.

use super::{Key, keys};
use crate::configs::ValueKind::{Boolean, Int, Long, String};
use crate::configs::table::Check::{Any, AtLeast};

const TIERED: &str = "Part of tiered storage, which this broker does not have yet.";

pub(super) const KEYS: &[Key] = keys! {
    "follower.fetch.last.tiered.offset.enable", Boolean, Some("false"), Any, TIERED;
    "remote.fetch.max.wait.ms", Int, Some("500"), AtLeast(1), TIERED;
    "remote.list.offsets.request.timeout.ms", Long, Some("30000"), AtLeast(1), TIERED;
    "remote.log.index.file.cache.total.size.bytes", Long, Some("1073741824"), AtLeast(1), TIERED;
    "remote.log.manager.copier.thread.pool.size", Int, Some("10"), AtLeast(1), TIERED;
    "remote.log.manager.copy.max.bytes.per.second", Long, Some("9223372036854775807"), AtLeast(1), TIERED;
    "remote.log.manager.copy.quota.window.num", Int, Some("11"), AtLeast(1), TIERED;
    "remote.log.manager.copy.quota.window.size.seconds", Int, Some("1"), AtLeast(1), TIERED;
    "remote.log.manager.expiration.thread.pool.size", Int, Some("10"), AtLeast(1), TIERED;
    "remote.log.manager.fetch.max.bytes.per.second", Long, Some("9223372036854775807"), AtLeast(1), TIERED;
    "remote.log.manager.fetch.quota.window.num", Int, Some("11"), AtLeast(1), TIERED;
    "remote.log.manager.fetch.quota.window.size.seconds", Int, Some("1"), AtLeast(1), TIERED;
    "remote.log.manager.follower.thread.pool.size", Int, Some("2"), AtLeast(1), TIERED;
    "remote.log.manager.task.interval.ms", Long, Some("30000"), AtLeast(1), TIERED;
    "remote.log.manager.thread.pool.size", Int, Some("2"), AtLeast(1), TIERED;
    "remote.log.metadata.custom.metadata.max.bytes", Int, Some("128"), AtLeast(0), TIERED;
    "remote.log.metadata.manager.class.name", String, Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"), Any, TIERED;
    "remote.log.metadata.manager.class.path", String, None, Any, TIERED;
    "remote.log.metadata.manager.impl.prefix", String, Some("rlmm.config."), Any, TIERED;
    "remote.log.metadata.manager.listener.name", String, None, Any, TIERED;
    "remote.log.reader.max.pending.tasks", Int, Some("100"), AtLeast(1), TIERED;
    "remote.log.reader.threads", Int, Some("10"), AtLeast(1), TIERED;
    "remote.log.storage.manager.class.name", String, None, Any, TIERED;
    "remote.log.storage.manager.class.path", String, None, Any, TIERED;
    "remote.log.storage.manager.impl.prefix", String, Some("rsm.config."), Any, TIERED;
    "remote.log.storage.system.enable", Boolean, Some("false"), Any, TIERED;
};
