//! Broker keys of the node itself: listeners, connections, requests.

use super::{Key, keys};
use crate::configs::ValueKind::{Boolean, Class, Int, List, Long, String};
use crate::configs::table::Check::{Any, AtLeast, ListOf};

const PLUG_INS: &str = "Not applied: this broker has no such threads or plug-ins.";
const QUOTAS: &str = "Part of quotas, which this broker does not have yet.";
const PURGATORY: &str = "Not applied: waiting requests are not kept in a structure that must be purged.";
const METRICS: &str = "Not applied: metrics are not collected by plug-ins.";
const UNUSED: &str = "Not applied.";

pub(super) const KEYS: &[Key] = keys! {
    "advertised.listeners", List, None, Any, "What clients are told to dial, per listener. Changed in the configuration file.";
    "alter.config.policy.class.name", Class, None, Any, PLUG_INS;
    "auto.create.topics.enable", Boolean, Some("true"), Any, "Whether a topic is created when a client asks for one that does not exist.";
    "background.threads", Int, Some("10"), AtLeast(1), PLUG_INS;
    "broker.id", Int, Some("-1"), Any, "The number of this node, given to it at its first start.";
    "broker.rack", String, None, Any, "Where this node stands.";
    "client.quota.callback.class", Class, None, Any, QUOTAS;
    "config.providers", List, Some(""), Any, PLUG_INS;
    "connections.max.idle.ms", Long, Some("600000"), Any, "A connection without a request for so long is closed.";
    "create.topic.policy.class.name", Class, None, Any, PLUG_INS;
    "default.replication.factor", Int, Some("1"), Any, "Not applied: a partition has as many copies as there are nodes, up to three.";
    "delete.records.purgatory.purge.interval.requests", Int, Some("1"), Any, PURGATORY;
    "delete.topic.enable", Boolean, Some("true"), Any, "Whether topics can be deleted.";
    "fetch.max.bytes", Int, Some("57671680"), AtLeast(1024), "The most bytes in one answer to a fetch, whatever the client asks for.";
    "fetch.purgatory.purge.interval.requests", Int, Some("1000"), Any, PURGATORY;
    "kafka.metrics.polling.interval.secs", Int, Some("10"), AtLeast(1), METRICS;
    "kafka.metrics.reporters", List, Some(""), Any, METRICS;
    "listener.security.protocol.map", String, Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"), Any, "How each listener is secured: all in plain text so far.";
    "listeners", List, Some("PLAINTEXT://:9092"), Any, "Where this node listens. Changed in the configuration file.";
    "max.connection.creation.rate", Int, Some("2147483647"), AtLeast(0), "Not applied: connections are accepted as fast as they come, up to max.connections.";
    "max.connections", Int, Some("2147483647"), AtLeast(0), "The most client connections that this node keeps open.";
    "max.connections.per.ip", Int, Some("2147483647"), AtLeast(0), "Not applied: connections are limited per node only.";
    "max.connections.per.ip.overrides", String, Some(""), Any, "Not applied: connections are limited per node only.";
    "max.incremental.fetch.session.cache.slots", Int, Some("1000"), AtLeast(0), "How many incremental fetch sessions are kept.";
    "max.request.partition.size.limit", Int, Some("2000"), AtLeast(1), "The most partitions in one answer that describes topics page by page.";
    "metric.reporters", List, Some("org.apache.kafka.common.metrics.JmxReporter"), Any, METRICS;
    "metrics.num.samples", Int, Some("2"), AtLeast(1), METRICS;
    "metrics.recording.level", String, Some("INFO"), Any, METRICS;
    "metrics.sample.window.ms", Long, Some("30000"), AtLeast(1), METRICS;
    "node.id", Int, None, AtLeast(0), "The number of this node, given to it at its first start.";
    "num.io.threads", Int, Some("8"), AtLeast(1), "Not applied: the number of threads follows the machine.";
    "num.network.threads", Int, Some("3"), AtLeast(1), "Not applied: the number of threads follows the machine.";
    "num.partitions", Int, Some("1"), AtLeast(1), "Partitions of a topic that is created without a number.";
    "process.roles", List, None, ListOf(&["broker", "controller"]), "Every node does the work of a broker and takes part in consensus.";
    "producer.id.expiration.ms", Int, Some("86400000"), AtLeast(1), "A producer that is silent for so long is forgotten: its next batch must be its first.";
    "producer.purgatory.purge.interval.requests", Int, Some("1000"), Any, PURGATORY;
    "queued.max.request.bytes", Long, Some("-1"), Any, UNUSED;
    "queued.max.requests", Int, Some("500"), AtLeast(1), UNUSED;
    "quota.window.num", Int, Some("11"), AtLeast(1), QUOTAS;
    "quota.window.size.seconds", Int, Some("1"), AtLeast(1), QUOTAS;
    "socket.listen.backlog.size", Int, Some("50"), AtLeast(1), UNUSED;
    "socket.receive.buffer.bytes", Int, Some("102400"), Any, UNUSED;
    "socket.request.max.bytes", Int, Some("104857600"), AtLeast(1), "The largest request that is read.";
    "socket.send.buffer.bytes", Int, Some("102400"), Any, UNUSED;
    "telemetry.max.bytes", Int, Some("1048576"), AtLeast(1), METRICS;
};
