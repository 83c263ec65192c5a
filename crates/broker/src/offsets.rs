//! Where a partition begins and ends, by position, time and leader epoch.

use record::{NodeId, TimestampMs};

use crate::fetch::{EpochEnd, Isolation};
use crate::topics::PartitionRef;
use crate::Broker;

/// What is looked for. The protocol's special timestamps are the first six.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -1
    Latest,
    /// -2
    Earliest,
    /// -3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -4 (KIP-405): the same as the earliest, as nothing is tiered.
    EarliestLocal,
    /// -5 (KIP-1005): none, as nothing is tiered.
    LatestTiered,
    /// -6 (KIP-1023): the earliest, as nothing is tiered.
    EarliestPendingUpload,
    /// The first record at or after this time.
    Timestamp(TimestampMs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1: there is no such record.
    pub offset: i64,
    /// Of the record found; -1 for positions.
    pub timestamp: i64,
    /// -1: unknown.
    pub leader_epoch: i32,
}

#[derive(Debug, thiserror::Error)]
pub enum ListOffsetsError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader { leader: Option<NodeId> },
    #[error("the reader's leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the reader's leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    #[error("the data cannot be read: {0}")]
    Storage(String),
    #[error("the broker is stopping")]
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader { leader: Option<NodeId> },
    #[error("the reader's leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the reader's leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    #[error("the broker is stopping")]
    Stopped,
}

impl Broker {
    /// `current_leader_epoch` -1: not checked.
    pub async fn list_offset(
        &self,
        partition: &PartitionRef,
        spec: OffsetSpec,
        isolation: Isolation,
        current_leader_epoch: i32,
    ) -> Result<ListedOffset, ListOffsetsError> {
        let _ = (partition, spec, isolation, current_leader_epoch);
        todo!()
    }

    /// The largest epoch not above `leader_epoch` and where it ends (KIP-320); (-1, -1) when there is none.
    pub fn offset_for_leader_epoch(
        &self,
        partition: &PartitionRef,
        leader_epoch: i32,
        current_leader_epoch: i32,
    ) -> Result<EpochEnd, EpochError> {
        let _ = (partition, leader_epoch, current_leader_epoch);
        todo!()
    }
}
