//! The table of configuration keys: each key is defined here and nowhere else.
//!
//! Flags, environment variables, the settings that the program reads, the reference page and the texts of errors
//! all come from this table, so that they cannot disagree.

use std::path::PathBuf;
use std::time::Duration;

use super::listener::ListenerSpec;
use super::value::{FromValue as _, Kind, Values};
use crate::machine::Machine;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// The name in the file, as a dotted path.
    pub(crate) name: &'static str,
    pub(crate) section: Section,
    pub(crate) kind: Kind,
    pub(crate) default: Preset,
    pub(crate) applies: Applies,
    /// One or more sentences for the reference page; the first is the flag's help.
    pub(crate) doc: &'static str,
}

/// The heading under which a key is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Node,
    Cluster,
    Storage,
    Logging,
    KafkaConnections,
    KafkaTopics,
    KafkaGroups,
}

impl Section {
    pub(crate) const ALL: [Self; 7] = [
        Self::Node,
        Self::Cluster,
        Self::Storage,
        Self::Logging,
        Self::KafkaConnections,
        Self::KafkaTopics,
        Self::KafkaGroups,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Cluster => "Cluster",
            Self::Storage => "Storage",
            Self::Logging => "Logging",
            Self::KafkaConnections => "Kafka: listeners and connections",
            Self::KafkaTopics => "Kafka: topics and messages",
            Self::KafkaGroups => "Kafka: consumer groups",
        }
    }
}

/// The value of a key that nobody set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Preset {
    Fixed(&'static str),
    /// Depends on the machine; the text says how.
    Computed {
        rule: &'static str,
        value: fn(&Machine) -> String,
    },
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applies {
    /// On SIGHUP, which reads the file again.
    OnReload,
    AtStart,
}

impl Key {
    /// `kafka.num.partitions` is `--kafka-num-partitions`.
    pub(crate) fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// `kafka.num.partitions` is `ROSETTAMQ_KAFKA_NUM_PARTITIONS`.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }

    /// `kafka."max.connections"`: quoted, because TOML has no room for a key that is the beginning of another.
    pub(crate) fn in_file(&self) -> String {
        match self.name.split_once('.') {
            Some((section, rest)) => format!("{section}.\"{rest}\""),
            None => self.name.to_owned(),
        }
    }

    /// The first sentence of the documentation.
    pub(crate) fn summary(&self) -> &'static str {
        self.doc.split_once(". ").map_or_else(|| self.doc.trim_end_matches('.'), |(first, _)| first)
    }
}

/// What every environment variable of the server begins with.
pub(crate) const VARIABLE_PREFIX: &str = "ROSETTAMQ_";

pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Defines the table and the settings, a field for each key, in one go.
macro_rules! keys {
    ($($section:ident { $(
        $field:ident: $type:ty = $name:literal, $kind:expr, $default:expr, $applies:ident, $doc:literal;
    )* })*) => {
        pub(crate) static KEYS: &[Key] = &[$($(Key {
            name: $name,
            section: Section::$section,
            kind: $kind,
            default: $default,
            applies: Applies::$applies,
            doc: $doc,
        },)*)*];

        /// The configuration that holds: every key with its value, checked.
        #[derive(Debug, Clone)]
        pub(crate) struct Settings {
            $($(pub(crate) $field: $type,)*)*
        }

        impl Settings {
            /// `values` MUST hold a value of the right kind for every key of the table.
            pub(crate) fn from_values(values: &Values) -> Self {
                Self { $($($field: <$type>::from_value(values.value($name)),)*)* }
            }

            /// Keys that differ from `running` and wait for a restart.
            pub(crate) fn restart_needed(&self, running: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $($(if Applies::$applies == Applies::AtStart && self.$field != running.$field {
                    keys.push($name);
                })*)*
                keys
            }
        }
    };
}

keys! {
    Node {
        data_dir: PathBuf = "data_dir", Kind::Path, Preset::Fixed("./rosettamq-data"), AtStart,
            "Directory of all that this node stores. It is made when missing, and locked against a second process while the node runs.";
        memory_bytes_max: u64 = "memory_bytes_max", Kind::Bytes { min: 64 * MIB, max: 1024 * GIB },
            Preset::Computed { rule: "a quarter of the machine's or container's memory, 128MiB to 32GiB", value: memory_default }, AtStart,
            "Budget for the recent tail of the log, caches, requests and responses together. Connections whose next request does not fit in it are not read until it does.";
        message_bytes_max: u64 = "message_bytes_max", Kind::Bytes { min: KIB, max: 128 * MIB }, Preset::Fixed("16MiB"), AtStart,
            "The largest record batch that the node stores, whatever the protocol and the topic say.";
        shards: u64 = "shards", Kind::Integer { min: 1, max: 64 },
            Preset::Computed { rule: "the number of cores, 1 to 64", value: shards_default }, AtStart,
            "Number of data shards that a new data directory is made with, and that a node brings to a cluster of several. A node that is alone keeps the number that its directory was made with; a cluster has as many as its nodes bring together, up to 64, and never fewer than before.";
        worker_threads: u64 = "worker_threads", Kind::Integer { min: 1, max: 1024 },
            Preset::Computed { rule: "the number of cores", value: cores_default }, AtStart,
            "Threads that serve connections and shards. The commit log has two threads of its own beside them.";
        shutdown_timeout: Duration = "shutdown_timeout", Kind::Duration { min_ms: 0, max_ms: 600_000 }, Preset::Fixed("10s"), AtStart,
            "How long SIGTERM and SIGINT wait for requests in flight before connections are closed. A second signal does not wait.";
    }
    Cluster {
        cluster_listen: Vec<ListenerSpec> = "cluster.listen", Kind::Listener, Preset::Fixed("none"), AtStart,
            "Where the other nodes of the cluster and `rosettamq cluster` connect: HOST:PORT[@ADVERTISED_HOST[:ADVERTISED_PORT]], or none for a node that stays alone. The other nodes are told the advertised address; a wildcard address needs one. Whoever reaches it can operate the cluster: it belongs into a network that only nodes and operators reach.";
        cluster_join: Vec<(String, u16)> = "cluster.join", Kind::Addresses, Preset::Fixed("none"), AtStart,
            "Where a node without data looks for its cluster: HOST:PORT of other nodes' cluster.listen, separated by commas. All nodes may have the same list, their own address in it, and start in any order: the first of the list makes the cluster when none has one, once all of them answer. A node of several needs it no more, but does not start when it finds another cluster than its own there; addresses that do not answer do not hold it up. One that is alone in its own gives that up for one that it finds here, if it holds no topics and no groups; if it holds some, it stops.";
        cluster_catch_up: u64 = "cluster.catch_up_bytes_per_second", Kind::Bytes { min: 0, max: 1024 * GIB }, Preset::Fixed("0"), AtStart,
            "How fast this node pulls a shard that it lacks from another node, for each shard; 0 is as fast as it goes.";
        cluster_rack: String = "cluster.rack", Kind::Text, Preset::Fixed("none"), AtStart,
            "The rack, room or zone in which the node stands, or none. The copies of a shard are spread over racks, and clients are told the rack.";
    }
    Storage {
        segment_bytes: u64 = "segment_bytes", Kind::Pages { min: 4 * MIB, max: GIB }, Preset::Fixed("256MiB"), AtStart,
            "Size of a segment file of the commit log. Small segments suit small devices and tests; large ones cost less per byte.";
        log_hot_bytes: u64 = "log_hot_bytes", Kind::Bytes { min: 8 * MIB, max: 1024 * GIB }, Preset::Fixed("4GiB"), AtStart,
            "The newest so many bytes of the commit log stay as they are: what expires or is deleted meanwhile is written once. What lives of older segments is written once more, into objects that are sorted by partition, and the segments come back.";
        compaction_bytes_per_second: u64 = "compaction_bytes_per_second", Kind::Bytes { min: 0, max: 1024 * GIB }, Preset::Fixed("0"), AtStart,
            "How fast objects are written, over all shards of the node; 0 is as fast as it goes.";
        compaction_memory_bytes: u64 = "compaction_memory_bytes", Kind::Bytes { min: MIB, max: 64 * GIB }, Preset::Fixed("128MiB"), AtStart,
            "Memory for the keys of the partition that is being compacted, at 32 bytes each; one is at a time. Where they do not fit, the partition takes several passes.";
        scrub_bytes_per_second: u64 = "scrub_bytes_per_second", Kind::Bytes { min: 0, max: 1024 * GIB }, Preset::Fixed("8MiB"), AtStart,
            "How fast what is old is read and compared with its checksums before somebody needs it, over all shards of the node; 0 is not at all. What is damaged is repaired from other nodes, as is what clients meet.";
        scrub_interval: Duration = "scrub_interval", Kind::Duration { min_ms: 1_000, max_ms: 31_536_000_000 }, Preset::Fixed("7d"), AtStart,
            "How long after one such pass over a shard began the next one does, if the rate allows it.";
        producers_per_shard_max: u64 = "producers_per_shard_max", Kind::Integer { min: 1_000, max: 10_000_000 }, Preset::Fixed("100000"), AtStart,
            "Idempotent producers that a shard remembers, counted once for each partition that they write to, at about 300 bytes each. When there are more, those that sent nothing for ten minutes are forgotten first; if there is none, new producers are refused with a retriable error.";
        reserve_bytes: u64 = "reserve_bytes", Kind::Bytes { min: 0, max: 1024 * GIB }, Preset::Fixed("1GiB"), AtStart,
            "Free space of the file system below which writes are refused with a retriable error while reads go on. Writing resumes by itself when there is room again. At least four times segment_bytes: the log takes a segment at a time, and a copy in a cluster goes on by halves and quarters of it.";
    }
    Logging {
        log_level: String = "log_level", Kind::Text, Preset::Fixed("info"), OnReload,
            "What is logged: error, warn, info, debug or trace, also per module. An example is info,kafka=debug.";
        log_format: String = "log_format", Kind::Choice(&["human", "json"]), Preset::Fixed("human"), AtStart,
            "How log lines look: human for a person, json for one object a line. Either goes to standard error.";
    }
    KafkaConnections {
        kafka_listeners: Vec<ListenerSpec> = "kafka.listeners", Kind::Listeners, Preset::Fixed("kafka=127.0.0.1:9092"), AtStart,
            "Where Kafka clients connect: one or more of [NAME=]HOST:PORT[@ADVERTISED_HOST[:ADVERTISED_PORT]], separated by commas. Clients are told the advertised address of the listener that they used; a wildcard address needs one. In the file it may also be a list of tables with name, address and advertised.";
        kafka_connections_max_idle: Duration = "kafka.connections.max.idle.ms", Kind::Milliseconds { min_ms: 1_000, max_ms: 2_147_483_647 }, Preset::Fixed("600000"), AtStart,
            "A connection on which nothing happened for this long is closed.";
        kafka_max_connections: u64 = "kafka.max.connections", Kind::Integer { min: 1, max: 1_000_000 }, Preset::Fixed("50000"), AtStart,
            "Connections over all Kafka listeners; one more is closed at once.";
        kafka_max_connections_per_ip: u64 = "kafka.max.connections.per.ip", Kind::Integer { min: 1, max: 2_147_483_647 }, Preset::Fixed("2147483647"), AtStart,
            "Connections from one address; one more is closed at once.";
        kafka_socket_request_max_bytes: u64 = "kafka.socket.request.max.bytes", Kind::Bytes { min: KIB, max: 2_147_483_647 }, Preset::Fixed("104857600"), AtStart,
            "The largest request. A connection that announces a larger one is closed. A quarter of memory_bytes_max is the limit where that is less.";
        kafka_fetch_max_bytes: u64 = "kafka.fetch.max.bytes", Kind::Bytes { min: KIB, max: 2_147_483_647 }, Preset::Fixed("57671680"), AtStart,
            "The most bytes of records in one fetch response, whatever the client asks for; a single batch that is larger is still sent.";
        kafka_fetch_sessions: u64 = "kafka.max.incremental.fetch.session.cache.slots", Kind::Integer { min: 0, max: 1_000_000 }, Preset::Fixed("1000"), AtStart,
            "Incremental fetch sessions kept at a time. Clients without one send their whole list of partitions in every fetch.";
    }
    KafkaTopics {
        kafka_num_partitions: u64 = "kafka.num.partitions", Kind::Integer { min: 1, max: 10_000 }, Preset::Fixed("1"), AtStart,
            "Partitions of a topic whose creator did not say how many.";
        kafka_auto_create_topics: bool = "kafka.auto.create.topics.enable", Kind::Boolean, Preset::Fixed("true"), AtStart,
            "Whether a topic is created when a client asks for one that does not exist.";
        kafka_delete_topics: bool = "kafka.delete.topic.enable", Kind::Boolean, Preset::Fixed("true"), AtStart,
            "Whether clients may delete topics.";
        kafka_message_max_bytes: u64 = "kafka.message.max.bytes", Kind::Bytes { min: KIB, max: 128 * MIB }, Preset::Fixed("1048588"), AtStart,
            "The largest record batch of topics that do not set max.message.bytes. It is at most message_bytes_max.";
        kafka_retention: Option<u64> = "kafka.log.retention.ms", Kind::MillisecondsMax, Preset::Fixed("604800000"), AtStart,
            "How long topics that do not set retention.ms keep their records, by the records' timestamps.";
        kafka_retention_bytes: Option<u64> = "kafka.log.retention.bytes", Kind::BytesMax, Preset::Fixed("-1"), AtStart,
            "How much of each partition topics keep that do not set retention.bytes.";
        kafka_retention_check: Duration = "kafka.log.retention.check.interval.ms", Kind::Milliseconds { min_ms: 1, max_ms: 2_147_483_647 }, Preset::Fixed("300000"), AtStart,
            "How often each node looks for records that are too old, or too many, in the partitions that it leads.";
        kafka_cleaner_backoff: Duration = "kafka.log.cleaner.backoff.ms", Kind::Milliseconds { min_ms: 1, max_ms: 2_147_483_647 }, Preset::Fixed("15000"), AtStart,
            "How often each node looks for partitions that are to be compacted, of those that it leads.";
        kafka_producer_id_expiration: Duration = "kafka.producer.id.expiration.ms", Kind::Milliseconds { min_ms: 1_000, max_ms: 2_147_483_647 }, Preset::Fixed("86400000"), AtStart,
            "How long the sequence of an idempotent producer that sends nothing is remembered per partition.";
    }
    KafkaGroups {
        kafka_group_initial_rebalance_delay: Duration = "kafka.group.initial.rebalance.delay.ms", Kind::Milliseconds { min_ms: 0, max_ms: 600_000 }, Preset::Fixed("3000"), AtStart,
            "How long an empty group waits for more members after its first one before partitions are assigned.";
        kafka_group_min_session_timeout: Duration = "kafka.group.min.session.timeout.ms", Kind::Milliseconds { min_ms: 1, max_ms: 2_147_483_647 }, Preset::Fixed("6000"), AtStart,
            "The shortest session timeout that a member may ask for.";
        kafka_group_max_session_timeout: Duration = "kafka.group.max.session.timeout.ms", Kind::Milliseconds { min_ms: 1, max_ms: 2_147_483_647 }, Preset::Fixed("1800000"), AtStart,
            "The longest session timeout that a member may ask for.";
        kafka_group_max_size: u64 = "kafka.group.max.size", Kind::Integer { min: 1, max: 2_147_483_647 }, Preset::Fixed("2147483647"), AtStart,
            "The most members of a group.";
        kafka_offset_metadata_max_bytes: u64 = "kafka.offset.metadata.max.bytes", Kind::Bytes { min: 0, max: 16 * MIB }, Preset::Fixed("4096"), AtStart,
            "The largest metadata text of a committed offset.";
    }
}

fn memory_default(machine: &Machine) -> String {
    let bytes = (machine.memory_bytes / 4).clamp(128 * MIB, 32 * GIB);
    (bytes / MIB * MIB).to_string()
}

fn shards_default(machine: &Machine) -> String {
    machine.cores.clamp(1, 64).to_string()
}

fn cores_default(machine: &Machine) -> String {
    machine.cores.clamp(1, 1024).to_string()
}
