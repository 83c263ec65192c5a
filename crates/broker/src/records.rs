//! Deleting records from a partition's front because somebody asks for it.

use std::collections::BTreeMap;

use base::time::{Instant, timeout_at};
use cluster::METADATA;
use futures_util::future::join_all;
use record::{ShardId, StreamOffset};
use replica::{ProposeError, Replica};
use shard::commands::{DeleteRecords, SetLogStart, StreamFront};
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

/// What a deletion comes to.
enum Found {
    /// It has happened: the first offset that is left.
    Gone(StreamOffset),
    /// What is to be proposed to the shard.
    Front(Replica, StreamFront),
}

impl Broker {
    /// Deletes all records of partitions before an offset of each, or all that there are; for each the first offset that is
    /// left. What is gone already is not there again. Partitions of one shard go in one command; what is not known at `until` has
    /// an unknown fate.
    pub async fn delete_records(
        &self,
        asked: &[(PartitionRef, Option<i64>)],
        until: Instant,
    ) -> Vec<Result<i64, DeleteRecordsError>> {
        let mut barriers = Barriers::default();
        let mut results = vec![Err(DeleteRecordsError::UnknownFate); asked.len()];
        let mut fronts: BTreeMap<ShardId, (Replica, Vec<(usize, StreamFront)>)> = BTreeMap::new();
        for (place, (partition, before)) in asked.iter().enumerate() {
            match timeout_at(until, self.find_front(&mut barriers, partition, *before)).await {
                Ok(Ok(Found::Gone(first))) => results[place] = Ok(first.0),
                Ok(Ok(Found::Front(replica, front))) => {
                    let of_shard = fronts.entry(replica.shard_id()).or_insert_with(|| (replica, Vec::new()));
                    of_shard.1.push((place, front));
                }
                Ok(Err(error)) => results[place] = Err(error),
                Err(_) => {}
            }
        }
        let commands = fronts.values().flat_map(|(replica, fronts)| {
            fronts.chunks(retention::FRONTS_MAX).map(move |fronts| async move {
                let command = DeleteRecords { fronts: fronts.iter().map(|(_, front)| *front).collect() };
                (fronts, timeout_at(until, replica.propose(command.into())).await)
            })
        });
        for (fronts, outcome) in join_all(commands).await {
            let Ok(outcome) = outcome else { continue };
            for (number, (place, _)) in fronts.iter().enumerate() {
                results[*place] = outcome.clone().map_err(Into::into).and_then(|outcome| first_left(&outcome, number));
            }
        }
        results
    }

    async fn find_front(
        &self,
        barriers: &mut Barriers,
        partition: &PartitionRef,
        before: Option<i64>,
    ) -> Result<Found, DeleteRecordsError> {
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
            return Ok(Found::Gone(first));
        }
        if first < first_here {
            let left = self.begin_at(&partition, before.min(first_here)).await?;
            if before <= first_here {
                return Ok(Found::Gone(left));
            }
        }
        let front = replica.front(stream, before, false).await?;
        Ok(Found::Front(replica, front))
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

/// The result of one of a command's streams.
fn first_left(outcome: &Outcome, number: usize) -> Result<i64, DeleteRecordsError> {
    let Outcome::DeleteRecords(results) = outcome else {
        unreachable!("a deletion of records has its own outcome, not {outcome:?}")
    };
    match results.get(number) {
        Some(Ok(first)) => Ok(first.0),
        Some(Err(Refusal::Ended)) => Err(DeleteRecordsError::NotLeader),
        Some(Err(Refusal::OffsetOutOfRange)) => Err(DeleteRecordsError::OffsetOutOfRange),
        Some(Err(Refusal::UnknownStream)) | None => Err(DeleteRecordsError::UnknownTopicOrPartition),
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
