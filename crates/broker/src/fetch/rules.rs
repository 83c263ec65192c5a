//! Kafka's rules of a fetch, without anything that reads or waits.

use super::{FetchError, FetchRequest, FetchedPartition};

/// What may still be given out while the partitions are read in the order of the request.
///
/// The first batch of the first partition that has any is given whatever its size, so that a reader always gets on;
/// after it, only batches that fit both the partition's and the request's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    left: u64,
    at_least_one: bool,
}

impl Allowance {
    pub(super) fn new(bytes_max: i32) -> Self {
        Self { left: u64::try_from(bytes_max).unwrap_or(0), at_least_one: true }
    }

    /// The limit for the next partition, and whether its first batch may exceed it.
    pub(super) fn of_partition(self, partition_bytes_max: i32) -> (usize, bool) {
        let bytes = self.left.min(u64::try_from(partition_bytes_max).unwrap_or(0));
        (usize::try_from(bytes).unwrap_or(usize::MAX), self.at_least_one)
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        if bytes > 0 {
            self.at_least_one = false;
        }
        self.left = self.left.saturating_sub(bytes);
    }
}

/// The request's limits within what the broker allows.
pub(super) fn limits(request: &FetchRequest, fetch_bytes_max: i32) -> (i32, i32) {
    let bytes_max = request.bytes_max.min(fetch_bytes_max).max(0);
    (request.bytes_min.min(bytes_max), bytes_max)
}

/// What is missing until the answer is given without waiting any longer; 0 means now.
///
/// It is given at once if the reader does not wait, asks for nothing, or gets enough; if a partition has an error, or
/// the reader must truncate first.
pub(super) fn missing(request: &FetchRequest, bytes_min: i32, partitions: &[FetchedPartition]) -> u64 {
    let special = |partition: &FetchedPartition| partition.error.is_some() || partition.diverging_epoch.is_some();
    if request.wait_max.is_zero() || partitions.is_empty() || partitions.iter().any(special) {
        return 0;
    }
    let bytes: u64 = partitions.iter().map(|partition| partition.counted).sum();
    u64::try_from(bytes_min).unwrap_or(0).saturating_sub(bytes)
}

/// Checks the epoch that a reader believes to be the current one; -1 is not checked.
pub(crate) fn check_epoch(asked: i32, current: i32) -> Result<(), EpochMismatch> {
    match asked {
        -1 => Ok(()),
        asked if asked < current => Err(EpochMismatch::Fenced),
        asked if asked > current => Err(EpochMismatch::Unknown),
        _ => Ok(()),
    }
}

/// The reader's metadata is older or newer than this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochMismatch {
    Fenced,
    Unknown,
}

impl From<EpochMismatch> for FetchError {
    fn from(mismatch: EpochMismatch) -> Self {
        match mismatch {
            EpochMismatch::Fenced => Self::FencedLeaderEpoch,
            EpochMismatch::Unknown => Self::UnknownLeaderEpoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use base::time::Duration;

    use super::super::{EpochEnd, Isolation};
    use super::*;

    fn request(bytes_min: i32, bytes_max: i32, wait_ms: u64) -> FetchRequest {
        FetchRequest {
            partitions: Vec::new(),
            bytes_min,
            bytes_max,
            wait_max: Duration::from_millis(wait_ms),
            isolation: Isolation::ReadUncommitted,
        }
    }

    fn found(bytes: u64) -> FetchedPartition {
        FetchedPartition { error: None, bytes, counted: bytes, ..FetchedPartition::failed(FetchError::Stopped) }
    }

    #[test]
    fn the_first_batch_is_given_whole_and_only_it() {
        let mut allowance = Allowance::new(100);
        assert_eq!(allowance.of_partition(10), (10, true));
        allowance.spend(0);
        assert_eq!(allowance.of_partition(10), (10, true), "an empty partition changes nothing");
        allowance.spend(70);
        assert_eq!(allowance.of_partition(1_000), (30, false));
        allowance.spend(30);
        assert_eq!(allowance.of_partition(1_000), (0, false));
    }

    #[test]
    fn limits_that_are_not_positive_still_give_one_batch() {
        assert_eq!(Allowance::new(0).of_partition(0), (0, true));
        assert_eq!(Allowance::new(-1).of_partition(-5), (0, true));
    }

    #[test]
    fn the_broker_caps_what_a_reader_asks_for() {
        assert_eq!(limits(&request(1_000, 500, 0), 100), (100, 100));
        assert_eq!(limits(&request(1, 500, 0), 1_000), (1, 500));
    }

    #[test]
    fn an_answer_waits_only_while_bytes_are_missing() {
        let waiting = request(10, 100, 500);
        assert_eq!(missing(&waiting, 10, &[found(4), found(3)]), 3);
        assert_eq!(missing(&waiting, 10, &[found(4), found(6)]), 0);
        assert_eq!(missing(&waiting, 0, &[found(0)]), 0, "a reader that wants nothing does not wait");
        assert_eq!(missing(&request(10, 100, 0), 10, &[found(0)]), 0, "no time to wait");
        assert_eq!(missing(&waiting, 10, &[]), 0, "nothing to wait for");
    }

    #[test]
    fn an_error_or_a_diverging_epoch_is_answered_at_once() {
        let waiting = request(10, 100, 500);
        let failed = FetchedPartition::failed(FetchError::OffsetOutOfRange);
        assert_eq!(missing(&waiting, 10, &[found(0), failed]), 0);
        let diverging = FetchedPartition { diverging_epoch: Some(EpochEnd { epoch: 1, end_offset: 5 }), ..found(0) };
        assert_eq!(missing(&waiting, 10, &[diverging]), 0);
    }

    #[test]
    fn epochs_are_fenced_when_older_and_unknown_when_newer() {
        assert_eq!(check_epoch(-1, 5), Ok(()));
        assert_eq!(check_epoch(5, 5), Ok(()));
        assert_eq!(check_epoch(4, 5), Err(EpochMismatch::Fenced));
        assert_eq!(check_epoch(6, 5), Err(EpochMismatch::Unknown));
    }
}
