//! Deleting records from a partition's front because somebody asks for it.

use cluster::METADATA;
use record::StreamOffset;
use replica::ProposeError;
use shard::commands::{DeleteRecords, SetLogStart};
use shard::{DeleteRecordsError as Refusal, Outcome};

use crate::topics::PartitionRef;
use crate::{Barriers, Broker, retention};

/// Why no records were deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the offset is not one of the partition")]
    OffsetOutOfRange,
    /// The topic is only compacted.
    #[error("the topic is compacted, and its cleanup policy does not delete")]
    Policy,
    /// Some nodes run a version that does not know how.
    #[error("not all nodes of the cluster can delete records yet")]
    Unsupported,
    #[error("the data cannot be read: {0}")]
    Storage(String),
    /// It may or may not have happened; doing it again is no harm.
    #[error("the fate of the deletion is unknown")]
    UnknownFate,
    #[error("the broker is overloaded")]
    Busy,
}

impl Broker {
    /// Deletes all records of a partition before `before`, or all that there are; returns the first offset that is left. What
    /// is gone already is not there again.
    pub async fn delete_records(
        &self,
        barriers: &mut Barriers,
        partition: &PartitionRef,
        before: Option<i64>,
    ) -> Result<i64, DeleteRecordsError> {
        let retention = partition.topic().settings.retention;
        if retention.compacts && !retention.deletes {
            return Err(DeleteRecordsError::Policy);
        }
        if self.cluster().feature_level() < retention::FEATURE_LEVEL {
            return Err(DeleteRecordsError::Unsupported);
        }
        // What is in range only who leads knows.
        let (partition, replica) = self.led_here(barriers, partition).await?;
        let stream = partition.partition().stream;
        let (first_here, next) = {
            let state = replica.state();
            let view = state.stream(stream).ok_or(DeleteRecordsError::UnknownTopicOrPartition)?;
            (view.first_offset(), view.next_offset())
        };
        let before = before.map_or(next, StreamOffset);
        if before.0 < 0 || before > next {
            return Err(DeleteRecordsError::OffsetOutOfRange);
        }
        let first = StreamOffset(partition.partition().log_start(first_here.0));
        if before <= first {
            return Ok(first.0);
        }
        if first < first_here {
            let left = self.begin_at(&partition, before.min(first_here)).await?;
            if before <= first_here {
                return Ok(left.0);
            }
        }
        let front = replica.front(stream, before, false).await?;
        match replica.propose(DeleteRecords { fronts: vec![front] }.into()).await? {
            Outcome::DeleteRecords(results) => match results.first() {
                Some(Ok(first)) => Ok(first.0),
                Some(Err(Refusal::Ended)) => Err(DeleteRecordsError::NotLeader),
                Some(Err(Refusal::OffsetOutOfRange)) => Err(DeleteRecordsError::OffsetOutOfRange),
                Some(Err(Refusal::UnknownStream)) | None => Err(DeleteRecordsError::UnknownTopicOrPartition),
            },
            other => unreachable!("a deletion of records has its own outcome, not {other:?}"),
        }
    }

    /// Lets a partition begin later that has records on shards where it was before; where it begins there by then.
    async fn begin_at(
        &self,
        partition: &PartitionRef,
        before: StreamOffset,
    ) -> Result<StreamOffset, DeleteRecordsError> {
        let index = u32::try_from(partition.index()).expect("indexes count from 0");
        let command = SetLogStart { topic: partition.topic().id, partition: index, before };
        match self.cluster().propose(METADATA, command.into()).await? {
            Outcome::SetLogStart(Ok(first)) => {
                // Whoever is told must not find the state before.
                self.cluster().settled().await;
                Ok(first)
            }
            Outcome::SetLogStart(Err(_)) => Err(DeleteRecordsError::UnknownTopicOrPartition),
            other => unreachable!("a later beginning has its own outcome, not {other:?}"),
        }
    }
}

impl From<ProposeError> for DeleteRecordsError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } | ProposeError::Stopped => Self::NotLeader,
            ProposeError::Unknown => Self::UnknownFate,
            ProposeError::Busy | ProposeError::DiskFull | ProposeError::TooLarge { .. } => Self::Busy,
        }
    }
}

impl From<replica::FetchError> for DeleteRecordsError {
    fn from(error: replica::FetchError) -> Self {
        match error {
            replica::FetchError::UnknownStream(_) => Self::UnknownTopicOrPartition,
            replica::FetchError::OffsetOutOfRange { .. } => Self::OffsetOutOfRange,
            replica::FetchError::Stopped => Self::NotLeader,
            error @ (replica::FetchError::Damaged { .. } | replica::FetchError::Io(_)) => {
                Self::Storage(error.to_string())
            }
        }
    }
}
