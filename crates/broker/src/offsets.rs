//! Where a partition begins and ends, by position, time and leader epoch.

use std::future::Future;
use std::sync::Arc;

use base::task;
use record::{LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use replica::{ProposeError, Replica, TimedOffset};
use shard::StreamView;

use crate::fetch::{EpochEnd, EpochMismatch, Isolation, check_epoch, check_leader};
use crate::topics::{EarlierRange, PartitionRef};
use crate::{Barriers, Broker};

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
    /// -6 (KIP-1023): none, as nothing is tiered.
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListOffsetsError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the reader's leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the reader's leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    #[error("the data cannot be read: {0}")]
    Storage(String),
    #[error("the data is damaged: {0}")]
    Corrupt(String),
    #[error("the broker is stopping")]
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the reader's leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the reader's leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
}

/// How often a partition is looked for where it goes on. It moves far less often than it is asked for.
const MOVES_FOLLOWED: usize = 4;

const NONE: ListedOffset = ListedOffset { offset: -1, timestamp: -1, leader_epoch: -1 };

impl Broker {
    /// `current_leader_epoch` -1: not checked. As no transactions exist, both isolation levels see the same.
    pub async fn list_offset(
        &self,
        barriers: &mut Barriers,
        partition: &PartitionRef,
        spec: OffsetSpec,
        _isolation: Isolation,
        current_leader_epoch: i32,
    ) -> Result<ListedOffset, ListOffsetsError> {
        if matches!(spec, OffsetSpec::Earliest | OffsetSpec::EarliestLocal)
            && let Some(listed) = earliest_here(partition, current_leader_epoch)?
        {
            return Ok(listed);
        }
        // Another node may lead by now: the latest offset would be an old one.
        let (partition, replica) = &self.led_here(barriers, partition).await?;
        let (stream, replica) = (partition.partition().stream, Replica::clone(replica));
        let (earliest, latest) = {
            let state = replica.state();
            let view = state.stream(stream).ok_or(ListOffsetsError::UnknownTopicOrPartition)?;
            check_epoch(current_leader_epoch, view.epoch().0)?;
            let latest = ListedOffset { offset: view.next_offset().0, timestamp: -1, leader_epoch: view.epoch().0 };
            (earliest(partition, &view), latest)
        };
        assert!(earliest.offset <= latest.offset, "a stream begins before it ends");
        match spec {
            OffsetSpec::Latest => Ok(latest),
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => Ok(earliest),
            OffsetSpec::LatestTiered | OffsetSpec::EarliestPendingUpload => Ok(NONE),
            OffsetSpec::MaxTimestamp => {
                let mut largest: Option<TimedOffset> = None;
                for range in partition.partition().earlier_left() {
                    let found = self.ended_lookup(range, stream, None).await?;
                    largest = later(largest, found);
                }
                let here = self.look_up(async move { replica.max_timestamp(stream).await }).await?;
                Ok(listed(later(largest, here)))
            }
            OffsetSpec::Timestamp(time) => {
                for range in partition.partition().earlier_left() {
                    let found = self.ended_lookup(range, stream, Some(time)).await?;
                    if found.is_some() {
                        return Ok(listed(found));
                    }
                }
                Ok(listed(self.look_up(async move { replica.offset_for_time(stream, time).await }).await?))
            }
        }
    }

    /// The partition where it is now, with this node's copy of it, which is known to lead and to have all that was
    /// committed before. Of one that has ended where it was found it is asked where it goes on: there others may have
    /// written to it already.
    pub(crate) async fn led_here(
        &self,
        barriers: &mut Barriers,
        partition: &PartitionRef,
    ) -> Result<(PartitionRef, Replica), ProposeError> {
        let not_here = || ProposeError::NotLeader { leader: None };
        let mut partition = partition.clone();
        for _ in 0..MOVES_FOLLOWED {
            let replica = partition.partition().replica().ok_or_else(not_here)?;
            // Only then is it known here whether it has ended.
            barriers.pass(&replica).await?;
            if !partition.partition().has_ended() {
                return Ok((partition, replica));
            }
            if !self.cluster().follow_metadata().await {
                return Err(not_here());
            }
            match self.topics().again(&partition) {
                Some(found) if found.partition().shard() != replica.shard_id() => partition = found,
                // It goes on nowhere yet, or is gone.
                _ => return Ok((partition, replica)),
            }
        }
        Err(not_here())
    }

    /// A record by its time, or the one with the largest, in a range that a partition has on another shard: of the copy
    /// here if all of it is here, else of another node's.
    async fn ended_lookup(
        &self,
        range: &EarlierRange,
        stream: StreamId,
        time: Option<TimestampMs>,
    ) -> Result<Option<TimedOffset>, ListOffsetsError> {
        let is_whole = |replica: &Replica| replica.state().stream(stream).is_some_and(|view| view.is_closed());
        if let Some(replica) = range.replica().filter(is_whole) {
            let found = self.look_up(async move {
                match time {
                    Some(time) => replica.offset_for_time(stream, time).await,
                    None => replica.max_timestamp(stream).await,
                }
            });
            return Ok(stays(found.await?, range));
        }
        let found = match time {
            Some(time) => self.cluster().ended_offset_for_time(range.shard(), stream, time).await,
            None => self.cluster().ended_max_timestamp(range.shard(), stream).await,
        };
        let found = found.map_err(|error| ListOffsetsError::Storage(error.to_string()))?;
        Ok(stays(found, range))
    }

    /// Runs a lookup that may unpack whole batches where it holds up no other connection, and few at a time: each may
    /// take a processor and the memory of what it unpacks.
    async fn look_up<F>(&self, lookup: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let turn = Arc::clone(self.lookups()).acquire_owned().await.expect("the semaphore is never closed");
        // The turn goes with the work: whoever asked may go, and the work does not end by that.
        let (found, _turn) = task::offload(async move { (lookup.await, turn) }).await;
        found
    }

    /// The largest epoch not above `leader_epoch` and where it ends (KIP-320); (-1, -1) when there is none.
    pub async fn offset_for_leader_epoch(
        &self,
        barriers: &mut Barriers,
        partition: &PartitionRef,
        leader_epoch: i32,
        current_leader_epoch: i32,
    ) -> Result<EpochEnd, EpochError> {
        // Of epochs that it lacks, a former leader would say that they were never there.
        let (partition, replica) = self.led_here(barriers, partition).await.map_err(|_| EpochError::NotLeader)?;
        let state = replica.state();
        let view = state.stream(partition.partition().stream).ok_or(EpochError::UnknownTopicOrPartition)?;
        check_epoch(current_leader_epoch, view.epoch().0)?;
        if leader_epoch < 0 || leader_epoch > view.epoch().0 {
            return Ok(EpochEnd { epoch: -1, end_offset: -1 });
        }
        let end = view.epoch_end(LeaderEpoch(leader_epoch));
        Ok(EpochEnd { epoch: end.epoch.0, end_offset: end.end_offset.0 })
    }
}

/// The shard that has the range lets go of its front a little later than the range begins later: nothing before that is told.
fn stays(found: Option<TimedOffset>, range: &EarlierRange) -> Option<TimedOffset> {
    found.map(|found| TimedOffset { offset: found.offset.max(StreamOffset(range.begins_at())), ..found })
}

/// Where a partition begins, by whoever would be read from: it begins no later than that, and who reads from there goes on
/// at who leads by then. So it is told without asking others, too, who may not be there. Not of a partition that this node
/// does not know, or knows to have moved.
fn earliest_here(partition: &PartitionRef, current_leader_epoch: i32) -> Result<Option<ListedOffset>, EpochMismatch> {
    let Some(replica) = partition.partition().replica() else { return Ok(None) };
    if check_leader(partition.partition(), &replica).is_err() || replica.failure().borrow().is_some() {
        return Ok(None);
    }
    let state = replica.state();
    let Some(view) = state.stream(partition.partition().stream).filter(|view| !view.is_closed()) else {
        return Ok(None);
    };
    check_epoch(current_leader_epoch, view.epoch().0)?;
    Ok(Some(earliest(partition, &view)))
}

fn earliest(partition: &PartitionRef, view: &StreamView<'_>) -> ListedOffset {
    let first = partition.partition().log_start(view.first_offset().0);
    // The smallest epoch that reaches beyond the first offset is the epoch of the first record.
    let epoch = epoch_of_first(first, view.next_offset().0, view.epoch().0, |asked| view.epoch_end(asked));
    ListedOffset { offset: first, timestamp: -1, leader_epoch: epoch }
}

/// The epoch in which the first record was appended, or would be if there is none. Epochs end in the order of their numbers,
/// so halving finds it.
fn epoch_of_first(first: i64, next: i64, current: i32, epoch_end: impl Fn(LeaderEpoch) -> shard::EpochEnd) -> i32 {
    if first == next {
        return current;
    }
    let (mut low, mut high) = (0, current);
    while low < high {
        let middle = low + (high - low) / 2;
        if epoch_end(LeaderEpoch(middle)).end_offset.0 > first { high = middle } else { low = middle + 1 }
    }
    high
}

/// The one with the larger timestamp; of equal ones the first.
fn later(first: Option<TimedOffset>, second: Option<TimedOffset>) -> Option<TimedOffset> {
    match (first, second) {
        (Some(first), Some(second)) if second.timestamp > first.timestamp => Some(second),
        (first, second) => first.or(second),
    }
}

fn listed(found: Option<TimedOffset>) -> ListedOffset {
    found.map_or(NONE, |found| ListedOffset {
        offset: found.offset.0,
        timestamp: found.timestamp.0,
        leader_epoch: found.epoch.0,
    })
}

impl From<ProposeError> for ListOffsetsError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Stopped => Self::Stopped,
            // A barrier proposes nothing, but whoever cannot know that it leads must not answer.
            ProposeError::NotLeader { .. }
            | ProposeError::Busy
            | ProposeError::DiskFull
            | ProposeError::Unknown
            | ProposeError::TooLarge { .. } => Self::NotLeader,
        }
    }
}

impl From<replica::FetchError> for ListOffsetsError {
    fn from(error: replica::FetchError) -> Self {
        match error {
            replica::FetchError::UnknownStream(_) => Self::UnknownTopicOrPartition,
            error @ replica::FetchError::Damaged { .. } => Self::Corrupt(error.to_string()),
            error @ (replica::FetchError::OffsetOutOfRange { .. } | replica::FetchError::Io(_)) => {
                Self::Storage(error.to_string())
            }
            replica::FetchError::Stopped => Self::Stopped,
        }
    }
}

macro_rules! epoch_errors {
    ($($error:ident),*) => {$(
        impl From<EpochMismatch> for $error {
            fn from(mismatch: EpochMismatch) -> Self {
                match mismatch {
                    EpochMismatch::Fenced => Self::FencedLeaderEpoch,
                    EpochMismatch::Unknown => Self::UnknownLeaderEpoch,
                }
            }
        }
    )*};
}
epoch_errors!(ListOffsetsError, EpochError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_records_epoch_is_the_first_that_reaches_beyond_it() {
        // Epoch 0 holds 0..10, epoch 1 nothing, epoch 2 holds 10..20.
        let end = |asked: LeaderEpoch| {
            let (epoch, end_offset) = if asked.0 < 2 { (0, 10) } else { (2, 20) };
            shard::EpochEnd { epoch: LeaderEpoch(epoch), end_offset: StreamOffset(end_offset) }
        };
        assert_eq!(epoch_of_first(0, 20, 3, end), 0);
        assert_eq!(epoch_of_first(10, 20, 3, end), 2);
        assert_eq!(epoch_of_first(20, 20, 3, end), 3);
    }
}
