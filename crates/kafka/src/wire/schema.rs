//! The shape of every request body that the crate `kafka-protocol` decodes for us: enough to walk the bytes
//! and to know, before anything is allocated, that every count and length in them is real.
//!
//! Produce and Fetch are absent: their decoders ([`super::produce`], [`super::fetch`]) check as they read.
//! Fields stand in wire order. None of these requests has a known tagged field in the versions served; a
//! tagged section is therefore always skipped as unknown.

use crate::handshake::ApiKey;

/// The last version of a field that every later version has too.
const LAST: i16 = i16::MAX;

/// One field and the request versions that carry it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) since: i16,
    pub(crate) until: i16,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// An array of structures.
    Array(&'static [Field]),
    /// An array of values of so many bytes.
    FixedArray(usize),
    /// An array of strings.
    TextArray,
    /// A structure behind a presence byte.
    Optional(&'static [Field]),
}

use Kind::{Array, Blob, Fixed, FixedArray, Optional, Text, TextArray};

const fn field(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

/// The body of `key`'s requests; `None` where a decoder of ours reads it.
pub(crate) const fn body(key: ApiKey) -> Option<&'static [Field]> {
    Some(match key {
        ApiKey::Produce | ApiKey::Fetch => return None,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::OffsetCommit => OFFSET_COMMIT,
        ApiKey::OffsetFetch => OFFSET_FETCH,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::JoinGroup => JOIN_GROUP,
        ApiKey::Heartbeat => HEARTBEAT,
        ApiKey::LeaveGroup => LEAVE_GROUP,
        ApiKey::SyncGroup => SYNC_GROUP,
        ApiKey::DescribeGroups => DESCRIBE_GROUPS,
        ApiKey::ListGroups => LIST_GROUPS,
        ApiKey::SaslHandshake => SASL_HANDSHAKE,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::DeleteRecords => DELETE_RECORDS,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DescribeConfigs => DESCRIBE_CONFIGS,
        ApiKey::DescribeLogDirs => DESCRIBE_LOG_DIRS,
        ApiKey::SaslAuthenticate => SASL_AUTHENTICATE,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::DeleteGroups => DELETE_GROUPS,
        ApiKey::ElectLeaders => ELECT_LEADERS,
        ApiKey::IncrementalAlterConfigs => INCREMENTAL_ALTER_CONFIGS,
        ApiKey::AlterPartitionReassignments => ALTER_PARTITION_REASSIGNMENTS,
        ApiKey::ListPartitionReassignments => LIST_PARTITION_REASSIGNMENTS,
        ApiKey::OffsetDelete => OFFSET_DELETE,
        ApiKey::DescribeQuorum => DESCRIBE_QUORUM,
        ApiKey::DescribeCluster => DESCRIBE_CLUSTER,
        ApiKey::UnregisterBroker => UNREGISTER_BROKER,
        ApiKey::DescribeTopicPartitions => DESCRIBE_TOPIC_PARTITIONS,
    })
}

const METADATA_TOPICS: &[Field] = &[field(10, LAST, Fixed(16)), field(0, LAST, Text)];

const METADATA: &[Field] = &[
    field(0, LAST, Array(METADATA_TOPICS)),
    field(4, LAST, Fixed(1)),
    field(8, 10, Fixed(1)),
    field(8, LAST, Fixed(1)),
];

const OFFSET_COMMIT_TOPICS_PARTITIONS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(0, LAST, Fixed(8)), field(6, LAST, Fixed(4)), field(0, LAST, Text)];

const OFFSET_COMMIT_TOPICS: &[Field] =
    &[field(0, 9, Text), field(10, LAST, Fixed(16)), field(0, LAST, Array(OFFSET_COMMIT_TOPICS_PARTITIONS))];

const OFFSET_COMMIT: &[Field] = &[
    field(0, LAST, Text),
    field(1, LAST, Fixed(4)),
    field(1, LAST, Text),
    field(7, LAST, Text),
    field(2, 4, Fixed(8)),
    field(0, LAST, Array(OFFSET_COMMIT_TOPICS)),
];

const OFFSET_FETCH_TOPICS: &[Field] = &[field(0, 7, Text), field(0, 7, FixedArray(4))];

const OFFSET_FETCH_GROUPS_TOPICS: &[Field] =
    &[field(8, 9, Text), field(10, LAST, Fixed(16)), field(8, LAST, FixedArray(4))];

const OFFSET_FETCH_GROUPS: &[Field] = &[
    field(8, LAST, Text),
    field(9, LAST, Text),
    field(9, LAST, Fixed(4)),
    field(8, LAST, Array(OFFSET_FETCH_GROUPS_TOPICS)),
];

const OFFSET_FETCH: &[Field] = &[
    field(0, 7, Text),
    field(0, 7, Array(OFFSET_FETCH_TOPICS)),
    field(8, LAST, Array(OFFSET_FETCH_GROUPS)),
    field(7, LAST, Fixed(1)),
];

const LIST_OFFSETS_TOPICS_PARTITIONS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(4, LAST, Fixed(4)), field(0, LAST, Fixed(8))];

const LIST_OFFSETS_TOPICS: &[Field] = &[field(0, LAST, Text), field(0, LAST, Array(LIST_OFFSETS_TOPICS_PARTITIONS))];

const LIST_OFFSETS: &[Field] = &[
    field(0, LAST, Fixed(4)),
    field(2, LAST, Fixed(1)),
    field(0, LAST, Array(LIST_OFFSETS_TOPICS)),
    field(10, LAST, Fixed(4)),
];

const FIND_COORDINATOR: &[Field] = &[field(0, 3, Text), field(1, LAST, Fixed(1)), field(4, LAST, TextArray)];

const JOIN_GROUP_PROTOCOLS: &[Field] = &[field(0, LAST, Text), field(0, LAST, Blob)];

const JOIN_GROUP: &[Field] = &[
    field(0, LAST, Text),
    field(0, LAST, Fixed(4)),
    field(1, LAST, Fixed(4)),
    field(0, LAST, Text),
    field(5, LAST, Text),
    field(0, LAST, Text),
    field(0, LAST, Array(JOIN_GROUP_PROTOCOLS)),
    field(8, LAST, Text),
];

const HEARTBEAT: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Fixed(4)), field(0, LAST, Text), field(3, LAST, Text)];

const LEAVE_GROUP_MEMBERS: &[Field] = &[field(3, LAST, Text), field(3, LAST, Text), field(5, LAST, Text)];

const LEAVE_GROUP: &[Field] = &[field(0, LAST, Text), field(0, 2, Text), field(3, LAST, Array(LEAVE_GROUP_MEMBERS))];

const SYNC_GROUP_ASSIGNMENTS: &[Field] = &[field(0, LAST, Text), field(0, LAST, Blob)];

const SYNC_GROUP: &[Field] = &[
    field(0, LAST, Text),
    field(0, LAST, Fixed(4)),
    field(0, LAST, Text),
    field(3, LAST, Text),
    field(5, LAST, Text),
    field(5, LAST, Text),
    field(0, LAST, Array(SYNC_GROUP_ASSIGNMENTS)),
];

const DESCRIBE_GROUPS: &[Field] = &[field(0, LAST, TextArray), field(3, LAST, Fixed(1))];

const LIST_GROUPS: &[Field] = &[field(4, LAST, TextArray), field(5, LAST, TextArray)];

const SASL_HANDSHAKE: &[Field] = &[field(0, LAST, Text)];

const SASL_AUTHENTICATE: &[Field] = &[field(0, LAST, Blob)];

const API_VERSIONS: &[Field] = &[field(3, LAST, Text), field(3, LAST, Text)];

const CREATE_TOPICS_TOPICS_ASSIGNMENTS: &[Field] = &[field(0, LAST, Fixed(4)), field(0, LAST, FixedArray(4))];

const CREATE_TOPICS_TOPICS_CONFIGS: &[Field] = &[field(0, LAST, Text), field(0, LAST, Text)];

const CREATE_TOPICS_TOPICS: &[Field] = &[
    field(0, LAST, Text),
    field(0, LAST, Fixed(4)),
    field(0, LAST, Fixed(2)),
    field(0, LAST, Array(CREATE_TOPICS_TOPICS_ASSIGNMENTS)),
    field(0, LAST, Array(CREATE_TOPICS_TOPICS_CONFIGS)),
];

const CREATE_TOPICS: &[Field] =
    &[field(0, LAST, Array(CREATE_TOPICS_TOPICS)), field(0, LAST, Fixed(4)), field(1, LAST, Fixed(1))];

const DELETE_TOPICS_TOPICS: &[Field] = &[field(6, LAST, Text), field(6, LAST, Fixed(16))];

const DELETE_TOPICS: &[Field] =
    &[field(6, LAST, Array(DELETE_TOPICS_TOPICS)), field(0, 5, TextArray), field(0, LAST, Fixed(4))];

const DELETE_RECORDS_TOPICS_PARTITIONS: &[Field] = &[field(0, LAST, Fixed(4)), field(0, LAST, Fixed(8))];

const DELETE_RECORDS_TOPICS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Array(DELETE_RECORDS_TOPICS_PARTITIONS))];

const DELETE_RECORDS: &[Field] = &[field(0, LAST, Array(DELETE_RECORDS_TOPICS)), field(0, LAST, Fixed(4))];

const INIT_PRODUCER_ID: &[Field] = &[
    field(0, LAST, Text),
    field(0, LAST, Fixed(4)),
    field(3, LAST, Fixed(8)),
    field(3, LAST, Fixed(2)),
    field(6, LAST, Fixed(1)),
    field(6, LAST, Fixed(1)),
];

const OFFSET_FOR_LEADER_EPOCH_TOPICS_PARTITIONS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(2, LAST, Fixed(4)), field(0, LAST, Fixed(4))];

const OFFSET_FOR_LEADER_EPOCH_TOPICS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Array(OFFSET_FOR_LEADER_EPOCH_TOPICS_PARTITIONS))];

const OFFSET_FOR_LEADER_EPOCH: &[Field] =
    &[field(3, LAST, Fixed(4)), field(0, LAST, Array(OFFSET_FOR_LEADER_EPOCH_TOPICS))];

const DESCRIBE_CONFIGS_RESOURCES: &[Field] =
    &[field(0, LAST, Fixed(1)), field(0, LAST, Text), field(0, LAST, TextArray)];

const DESCRIBE_CONFIGS: &[Field] =
    &[field(0, LAST, Array(DESCRIBE_CONFIGS_RESOURCES)), field(1, LAST, Fixed(1)), field(3, LAST, Fixed(1))];

const CREATE_PARTITIONS_TOPICS_ASSIGNMENTS: &[Field] = &[field(0, LAST, FixedArray(4))];

const CREATE_PARTITIONS_TOPICS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Fixed(4)), field(0, LAST, Array(CREATE_PARTITIONS_TOPICS_ASSIGNMENTS))];

const CREATE_PARTITIONS: &[Field] =
    &[field(0, LAST, Array(CREATE_PARTITIONS_TOPICS)), field(0, LAST, Fixed(4)), field(0, LAST, Fixed(1))];

const DELETE_GROUPS: &[Field] = &[field(0, LAST, TextArray)];

const INCREMENTAL_ALTER_CONFIGS_RESOURCES_CONFIGS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Fixed(1)), field(0, LAST, Text)];

const INCREMENTAL_ALTER_CONFIGS_RESOURCES: &[Field] = &[
    field(0, LAST, Fixed(1)),
    field(0, LAST, Text),
    field(0, LAST, Array(INCREMENTAL_ALTER_CONFIGS_RESOURCES_CONFIGS)),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] =
    &[field(0, LAST, Array(INCREMENTAL_ALTER_CONFIGS_RESOURCES)), field(0, LAST, Fixed(1))];

const OFFSET_DELETE_TOPICS_PARTITIONS: &[Field] = &[field(0, LAST, Fixed(4))];

const OFFSET_DELETE_TOPICS: &[Field] = &[field(0, LAST, Text), field(0, LAST, Array(OFFSET_DELETE_TOPICS_PARTITIONS))];

const OFFSET_DELETE: &[Field] = &[field(0, LAST, Text), field(0, LAST, Array(OFFSET_DELETE_TOPICS))];

const TOPIC_WITH_PARTITIONS: &[Field] = &[field(0, LAST, Text), field(0, LAST, FixedArray(4))];

const DESCRIBE_LOG_DIRS: &[Field] = &[field(0, LAST, Array(TOPIC_WITH_PARTITIONS))];

const ELECT_LEADERS: &[Field] =
    &[field(1, LAST, Fixed(1)), field(0, LAST, Array(TOPIC_WITH_PARTITIONS)), field(0, LAST, Fixed(4))];

const ALTER_PARTITION_REASSIGNMENTS_TOPICS_PARTITIONS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(0, LAST, FixedArray(4))];

const ALTER_PARTITION_REASSIGNMENTS_TOPICS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Array(ALTER_PARTITION_REASSIGNMENTS_TOPICS_PARTITIONS))];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(1, LAST, Fixed(1)), field(0, LAST, Array(ALTER_PARTITION_REASSIGNMENTS_TOPICS))];

const LIST_PARTITION_REASSIGNMENTS: &[Field] =
    &[field(0, LAST, Fixed(4)), field(0, LAST, Array(TOPIC_WITH_PARTITIONS))];

const DESCRIBE_QUORUM_TOPICS_PARTITIONS: &[Field] = &[field(0, LAST, Fixed(4))];

const DESCRIBE_QUORUM_TOPICS: &[Field] =
    &[field(0, LAST, Text), field(0, LAST, Array(DESCRIBE_QUORUM_TOPICS_PARTITIONS))];

const DESCRIBE_QUORUM: &[Field] = &[field(0, LAST, Array(DESCRIBE_QUORUM_TOPICS))];

const UNREGISTER_BROKER: &[Field] = &[field(0, LAST, Fixed(4))];

const DESCRIBE_CLUSTER: &[Field] = &[field(0, LAST, Fixed(1)), field(1, LAST, Fixed(1)), field(2, LAST, Fixed(1))];

const DESCRIBE_TOPIC_PARTITIONS_TOPICS: &[Field] = &[field(0, LAST, Text)];

const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] = &[field(0, LAST, Text), field(0, LAST, Fixed(4))];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field(0, LAST, Array(DESCRIBE_TOPIC_PARTITIONS_TOPICS)),
    field(0, LAST, Fixed(4)),
    field(0, LAST, Optional(DESCRIBE_TOPIC_PARTITIONS_CURSOR)),
];
