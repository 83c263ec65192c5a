//! One look at all partitions of a fetch.

use record::{LeaderEpoch, StreamOffset};
use replica::{Replica, StoredBatch};

use super::rules::{self, Allowance};
use super::{EpochEnd, FetchError, FetchPartition, FetchedPartition};

/// Reads the partitions in their order, within the limits.
pub(super) async fn look(partitions: &[FetchPartition], bytes_max: i32) -> Vec<FetchedPartition> {
    let mut allowance = Allowance::new(bytes_max);
    let mut found = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let (limit, at_least_one) = allowance.of_partition(partition.bytes_max);
        let read = read(partition, limit, at_least_one).await.unwrap_or_else(FetchedPartition::failed);
        assert!(
            at_least_one || read.bytes <= u64::try_from(limit).unwrap_or(u64::MAX),
            "only the first batch may exceed a limit"
        );
        allowance.spend(read.bytes);
        found.push(read);
    }
    found
}

async fn read(request: &FetchPartition, limit: usize, at_least_one: bool) -> Result<FetchedPartition, FetchError> {
    let partition = request.partition.partition();
    let replica = partition.replica().ok_or(FetchError::NotLeader { leader: None })?;
    check_leader(replica)?;
    let stream = partition.stream;
    let diverging = {
        let state = replica.state();
        let view = state.stream(stream).ok_or(FetchError::UnknownTopicOrPartition)?;
        rules::check_epoch(request.current_leader_epoch, view.epoch().0)?;
        let diverging = diverging_epoch(request, |epoch| {
            let end = view.epoch_end(epoch);
            EpochEnd { epoch: end.epoch.0, end_offset: end.end_offset.0 }
        })?;
        diverging.map(|epoch| (epoch, view.first_offset().0, view.next_offset().0))
    };
    if let Some((epoch, first_offset, next_offset)) = diverging {
        return Ok(FetchedPartition {
            error: None,
            high_watermark: next_offset,
            last_stable_offset: next_offset,
            log_start_offset: first_offset,
            diverging_epoch: Some(epoch),
            batches: Vec::new(),
            bytes: 0,
            counted: 0,
        });
    }
    let fetched = replica.fetch(stream, StreamOffset(request.fetch_offset), limit, at_least_one).await?;
    let bytes: u64 = fetched.batches.iter().map(|batch| u64::from(batch.bytes)).sum();
    let end = |batch: &StoredBatch| batch.base_offset.0 + i64::from(batch.record_count);
    let goes_on = fetched.batches.last().map_or(request.fetch_offset, end) < fetched.next_offset.0;
    let counted = if goes_on { bytes.max(u64::try_from(limit).unwrap_or(u64::MAX)) } else { bytes };
    if let Some(first) = fetched.batches.first() {
        assert!(
            first.base_offset.0 <= request.fetch_offset && request.fetch_offset < end(first),
            "a read begins with the batch that holds the offset"
        );
    }
    Ok(FetchedPartition {
        error: None,
        // Only what is committed is in the stream, and nothing is in a transaction.
        high_watermark: fetched.next_offset.0,
        last_stable_offset: fetched.next_offset.0,
        log_start_offset: fetched.first_offset.0,
        diverging_epoch: None,
        batches: fetched.batches,
        bytes,
        counted,
    })
}

/// Another leader's readers are sent there; while nobody leads, what was committed is still given out.
fn check_leader(replica: &Replica) -> Result<(), FetchError> {
    let leadership = *replica.leadership().borrow();
    if leadership.is_self || leadership.leader.is_none() {
        return Ok(());
    }
    Err(FetchError::NotLeader { leader: leadership.leader })
}

/// Where the reader's log left this one, if it did (KIP-595).
fn diverging_epoch(
    request: &FetchPartition,
    epoch_end: impl FnOnce(LeaderEpoch) -> EpochEnd,
) -> Result<Option<EpochEnd>, FetchError> {
    if request.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = epoch_end(LeaderEpoch(request.last_fetched_epoch));
    if end.epoch < 0 || end.end_offset < 0 {
        return Err(FetchError::OffsetOutOfRange);
    }
    let diverges = end.epoch < request.last_fetched_epoch || end.end_offset < request.fetch_offset;
    Ok(diverges.then_some(end))
}

impl From<replica::FetchError> for FetchError {
    fn from(error: replica::FetchError) -> Self {
        match error {
            replica::FetchError::UnknownStream(_) => Self::UnknownTopicOrPartition,
            replica::FetchError::OffsetOutOfRange { .. } => Self::OffsetOutOfRange,
            replica::FetchError::Damaged { .. } => Self::Damaged(error.to_string()),
            replica::FetchError::Io(_) => Self::Storage(error.to_string()),
            replica::FetchError::Stopped => Self::Stopped,
        }
    }
}
