//! Error codes, and the code of every error that the broker can return. No mapping has a catch-all arm: a new error
//! of the broker does not compile until its code is chosen here.

mod codes;

use broker::configs::{AlterConfigsError, DescribeConfigsError};
use broker::fetch::FetchError;
use broker::groups::{
    CommitOffsetError, CommitOffsetsError, CoordinatorError, DeleteGroupError, DeleteOffsetError, DeleteOffsetsError,
    DescribeGroupError, FetchOffsetsError, HeartbeatError, JoinGroupError, LeaveGroupError, LeaveMemberError,
    SyncGroupError,
};
use broker::offsets::{EpochError, ListOffsetsError};
use broker::produce::ProduceError;
use broker::producer_ids::InitProducerError;
use broker::records::DeleteRecordsError;
use broker::topics::{CreatePartitionsError, CreateTopicError, DeleteTopicError};
use broker::{PreferLeaderError, RemoveNodeError};
use record::BatchError;

pub(crate) use codes::*;

/// An error of the broker that has a code.
pub(crate) trait Code {
    fn code(&self) -> i16;
}

impl Code for BatchError {
    /// What the checksum or the framing contradicts is corrupt and may be sent again; what breaks a rule may not.
    fn code(&self) -> i16 {
        match self {
            Self::Crc { .. } | Self::InvalidLength { .. } => CORRUPT_MESSAGE,
            Self::UnsupportedMagic { magic } if !(0..=1).contains(magic) => CORRUPT_MESSAGE,
            Self::Empty
            | Self::TooShort { .. }
            | Self::UnsupportedMagic { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::UnknownCompression { .. }
            | Self::Control
            | Self::BaseOffset { .. }
            | Self::InvalidCount { .. }
            | Self::InconsistentCount { .. }
            | Self::InvalidSequence { .. }
            | Self::InvalidProducerEpoch { .. }
            | Self::Record { .. }
            | Self::BytesAfterRecords { .. }
            | Self::Compression { .. }
            | Self::TooLarge { .. } => INVALID_RECORD,
        }
    }
}

impl Code for ProduceError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            // Nothing of it is there: librdkafka takes this as leave to send the records again in other batches.
            Self::NotLeader | Self::Stopped => NOT_LEADER_OR_FOLLOWER,
            // It may be there. Kafka says NOT_LEADER_OR_FOLLOWER when a leader is deposed; then librdkafka's idempotent
            // producer may write records twice.
            Self::UnknownFate => REQUEST_TIMED_OUT,
            Self::MessageTooLarge { .. } => MESSAGE_TOO_LARGE,
            Self::InvalidBatch(error) => error.code(),
            Self::TransactionsUnsupported => TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Self::InvalidTimestamp { .. } => INVALID_TIMESTAMP,
            Self::InvalidRecords { .. } => INVALID_RECORD,
            Self::OutOfOrderSequence { .. } => OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::InvalidProducerEpoch { .. } => INVALID_PRODUCER_EPOCH,
            // There is no room for it and never will be.
            Self::OffsetsExhausted => UNKNOWN_SERVER_ERROR,
            // Retriable: nothing was appended.
            Self::NotEnoughReplicas { .. } | Self::TooManyProducers | Self::DiskFull | Self::Busy => {
                NOT_ENOUGH_REPLICAS
            }
        }
    }
}

impl Code for FetchError {
    fn code(&self) -> i16 {
        match self {
            Self::OffsetOutOfRange => OFFSET_OUT_OF_RANGE,
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::NotLeader | Self::Stopped => NOT_LEADER_OR_FOLLOWER,
            Self::FencedLeaderEpoch => FENCED_LEADER_EPOCH,
            Self::UnknownLeaderEpoch => UNKNOWN_LEADER_EPOCH,
            // The one code at which every client asks again after a pause, and tells nobody.
            Self::Storage(_) | Self::NoMemory => KAFKA_STORAGE_ERROR,
            // Clients tell their application: asking again helps nobody.
            Self::Damaged(_) => CORRUPT_MESSAGE,
        }
    }
}

impl Code for ListOffsetsError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::NotLeader | Self::Stopped => NOT_LEADER_OR_FOLLOWER,
            Self::FencedLeaderEpoch => FENCED_LEADER_EPOCH,
            Self::UnknownLeaderEpoch => UNKNOWN_LEADER_EPOCH,
            Self::Corrupt(_) => CORRUPT_MESSAGE,
            Self::Storage(_) => KAFKA_STORAGE_ERROR,
        }
    }
}

impl Code for EpochError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::NotLeader => NOT_LEADER_OR_FOLLOWER,
            Self::FencedLeaderEpoch => FENCED_LEADER_EPOCH,
            Self::UnknownLeaderEpoch => UNKNOWN_LEADER_EPOCH,
        }
    }
}

impl Code for DeleteRecordsError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::NotLeader => NOT_LEADER_OR_FOLLOWER,
            Self::OffsetOutOfRange => OFFSET_OUT_OF_RANGE,
            Self::Policy => POLICY_VIOLATION,
            Self::Unsupported => UNSUPPORTED_VERSION,
            Self::Storage(_) => KAFKA_STORAGE_ERROR,
            // Clients ask again.
            Self::UnknownFate | Self::Busy => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for CreateTopicError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidTopic(_) => INVALID_TOPIC_EXCEPTION,
            Self::TopicAlreadyExists(_) => TOPIC_ALREADY_EXISTS,
            Self::InvalidPartitions(_) => INVALID_PARTITIONS,
            Self::InvalidReplicationFactor(_) => INVALID_REPLICATION_FACTOR,
            Self::InvalidReplicaAssignment(_) => INVALID_REPLICA_ASSIGNMENT,
            Self::InvalidConfig(_) => INVALID_CONFIG,
            Self::InvalidRequest(_) => INVALID_REQUEST,
            Self::PolicyViolation(_) => POLICY_VIOLATION,
            Self::Unavailable(_) => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for DeleteTopicError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition(_) => UNKNOWN_TOPIC_OR_PARTITION,
            Self::UnknownTopicId(_) => UNKNOWN_TOPIC_ID,
            Self::InvalidRequest(_) => INVALID_REQUEST,
            Self::TopicDeletionDisabled(_) => TOPIC_DELETION_DISABLED,
            Self::Unavailable(_) => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for CreatePartitionsError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition(_) => UNKNOWN_TOPIC_OR_PARTITION,
            Self::InvalidPartitions(_) => INVALID_PARTITIONS,
            Self::InvalidReplicaAssignment(_) => INVALID_REPLICA_ASSIGNMENT,
            Self::InvalidRequest(_) => INVALID_REQUEST,
            Self::Unavailable(_) => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for DescribeConfigsError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition(_) => UNKNOWN_TOPIC_OR_PARTITION,
            Self::InvalidTopic(_) => INVALID_TOPIC_EXCEPTION,
            Self::InvalidRequest(_) => INVALID_REQUEST,
        }
    }
}

impl Code for AlterConfigsError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition(_) => UNKNOWN_TOPIC_OR_PARTITION,
            Self::InvalidTopic(_) => INVALID_TOPIC_EXCEPTION,
            Self::InvalidConfig(_) => INVALID_CONFIG,
            Self::InvalidRequest(_) => INVALID_REQUEST,
            Self::Unavailable(_) => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for InitProducerError {
    fn code(&self) -> i16 {
        match self {
            Self::Unavailable(_) => COORDINATOR_LOAD_IN_PROGRESS,
        }
    }
}

impl Code for PreferLeaderError {
    fn code(&self) -> i16 {
        match self {
            Self::LeadsAlready => ELECTION_NOT_NEEDED,
            Self::NotAvailable => PREFERRED_LEADER_NOT_AVAILABLE,
            Self::Unavailable => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for RemoveNodeError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownNode => BROKER_ID_NOT_REGISTERED,
            Self::Refused(_) => INVALID_REQUEST,
            Self::Propose(_) => REQUEST_TIMED_OUT,
        }
    }
}

impl Code for CoordinatorError {
    fn code(&self) -> i16 {
        match self {
            Self::NotCoordinator { .. } => NOT_COORDINATOR,
            Self::Loading => COORDINATOR_LOAD_IN_PROGRESS,
            Self::Unavailable(_) => COORDINATOR_NOT_AVAILABLE,
        }
    }
}

impl Code for JoinGroupError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::InvalidSessionTimeout => INVALID_SESSION_TIMEOUT,
            Self::MemberIdRequired { .. } => MEMBER_ID_REQUIRED,
            Self::UnknownMemberId => UNKNOWN_MEMBER_ID,
            Self::FencedInstanceId => FENCED_INSTANCE_ID,
            Self::InconsistentGroupProtocol => INCONSISTENT_GROUP_PROTOCOL,
            Self::GroupMaxSizeReached => GROUP_MAX_SIZE_REACHED,
            Self::RebalanceInProgress => REBALANCE_IN_PROGRESS,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for SyncGroupError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::UnknownMemberId => UNKNOWN_MEMBER_ID,
            Self::FencedInstanceId => FENCED_INSTANCE_ID,
            Self::IllegalGeneration => ILLEGAL_GENERATION,
            Self::InconsistentGroupProtocol => INCONSISTENT_GROUP_PROTOCOL,
            Self::RebalanceInProgress => REBALANCE_IN_PROGRESS,
            // As Kafka, when a group's record is larger than its log takes.
            Self::AssignmentTooLarge => UNKNOWN_SERVER_ERROR,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for HeartbeatError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::UnknownMemberId => UNKNOWN_MEMBER_ID,
            Self::FencedInstanceId => FENCED_INSTANCE_ID,
            Self::IllegalGeneration => ILLEGAL_GENERATION,
            Self::RebalanceInProgress => REBALANCE_IN_PROGRESS,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for LeaveMemberError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownMemberId => UNKNOWN_MEMBER_ID,
            Self::FencedInstanceId => FENCED_INSTANCE_ID,
        }
    }
}

impl Code for LeaveGroupError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for DescribeGroupError {
    fn code(&self) -> i16 {
        match self {
            Self::GroupIdNotFound { .. } => GROUP_ID_NOT_FOUND,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for DeleteGroupError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::NonEmptyGroup => NON_EMPTY_GROUP,
            Self::GroupIdNotFound => GROUP_ID_NOT_FOUND,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for CommitOffsetError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::OffsetMetadataTooLarge => OFFSET_METADATA_TOO_LARGE,
        }
    }
}

/// The first version of OffsetCommit that says of a group that it does not exist.
const GROUP_NOT_FOUND_SINCE: i16 = 9;

/// The code depends on the version of OffsetCommit: older clients know no missing group.
pub(crate) fn commit_code(error: &CommitOffsetsError, version: i16) -> i16 {
    match error {
        CommitOffsetsError::InvalidGroupId => INVALID_GROUP_ID,
        CommitOffsetsError::GroupIdNotFound if version >= GROUP_NOT_FOUND_SINCE => GROUP_ID_NOT_FOUND,
        CommitOffsetsError::GroupIdNotFound | CommitOffsetsError::IllegalGeneration => ILLEGAL_GENERATION,
        CommitOffsetsError::UnknownMemberId => UNKNOWN_MEMBER_ID,
        CommitOffsetsError::FencedInstanceId => FENCED_INSTANCE_ID,
        CommitOffsetsError::RebalanceInProgress => REBALANCE_IN_PROGRESS,
        CommitOffsetsError::Coordinator(error) => error.code(),
    }
}

impl Code for FetchOffsetsError {
    fn code(&self) -> i16 {
        match self {
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for DeleteOffsetsError {
    fn code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => INVALID_GROUP_ID,
            Self::GroupIdNotFound => GROUP_ID_NOT_FOUND,
            Self::NonEmptyGroup => NON_EMPTY_GROUP,
            Self::Coordinator(error) => error.code(),
        }
    }
}

impl Code for DeleteOffsetError {
    fn code(&self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => UNKNOWN_TOPIC_OR_PARTITION,
            Self::GroupSubscribedToTopic => GROUP_SUBSCRIBED_TO_TOPIC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_damaged_is_told_to_applications_and_passing_trouble_is_not() {
        assert_eq!(FetchError::Damaged("offset 1".to_owned()).code(), CORRUPT_MESSAGE);
        assert_eq!(FetchError::Storage("too many open files".to_owned()).code(), KAFKA_STORAGE_ERROR);
        assert_eq!(FetchError::NoMemory.code(), KAFKA_STORAGE_ERROR);
    }
}
