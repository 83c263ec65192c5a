//! What of a request stays in memory when it is answered.
//!
//! Batches are slices of the request, and the log keeps the recent ones, counted by their length, each shard its own
//! and for as long as its own are recent. So those for one shard must be a good part of what they keep alive, or they
//! are copied. What a shard keeps goes in the order in which it came; one request that is half gone is therefore kept
//! per shard, which is why only requests of an ordinary size are shared at all between batches.

use record::ShardId;

use super::Checked;

/// What the batches that stay keep alive, as a multiple of their bytes: those of all shards, and those of each, which
/// the others may outlive or not.
const PINNED_FACTOR_MAX: usize = 2;
const PINNED_FACTOR_OF_SHARD_MAX: usize = 4;
/// Larger requests are kept only by a single batch that is half of them.
const SHARED_BYTES_MAX: usize = 4 << 20;

/// Copies the batches of a request of `request_bytes` that would keep too much of it alive.
pub(super) fn detach(request_bytes: usize, checked: &mut [Checked]) {
    // A node has few shards.
    let mut shards: Vec<(ShardId, usize)> = Vec::new();
    let mut total = 0;
    for (partition, batch) in checked.iter().filter_map(|checked| checked.verdict.as_ref().ok()) {
        let (shard, bytes) = (partition.partition().shard(), batch.shared_bytes());
        total += bytes;
        match shards.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, sum)) => *sum += bytes,
            None => shards.push((shard, bytes)),
        }
    }
    for (partition, batch) in checked.iter_mut().filter_map(|checked| checked.verdict.as_mut().ok()) {
        let shard = partition.partition().shard();
        let of_shard = shards.iter().find(|(known, _)| *known == shard).map_or(0, |(_, sum)| *sum);
        if !stays(request_bytes, batch.shared_bytes(), of_shard, total) {
            batch.detach();
        }
    }
}

/// Whether a batch may keep the request alive: its own bytes, those of its shard's batches, and of all.
const fn stays(request_bytes: usize, batch: usize, of_shard: usize, total: usize) -> bool {
    if request_bytes > SHARED_BYTES_MAX {
        return batch.saturating_mul(PINNED_FACTOR_MAX) >= request_bytes;
    }
    total.saturating_mul(PINNED_FACTOR_MAX) >= request_bytes
        && of_shard.saturating_mul(PINNED_FACTOR_OF_SHARD_MAX) >= request_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_requests_of_many_partitions_are_not_copied() {
        // Sixteen batches of 64 KiB with 2 KiB around them, on one shard, two and three.
        let (batch, request) = (64 << 10, 16 * (64 << 10) + 2_048);
        assert!(stays(request, batch, 16 * batch, 16 * batch));
        assert!(stays(request, batch, 8 * batch, 16 * batch));
        assert!(stays(request, batch, 5 * batch, 16 * batch));
        assert!(stays(request, batch, 11 * batch, 16 * batch));
    }

    #[test]
    fn a_small_part_of_a_request_does_not_keep_it_alive() {
        assert!(!stays(1 << 20, 1_000, 1_000, 1_000), "the others were refused");
        assert!(!stays(1 << 20, 1_000, 1_000, 900_000), "the others are for another shard");
        assert!(stays(1 << 20, 900_000, 900_000, 901_000));
        assert!(!stays(1 << 20, 500_000, 500_000, 500_000), "less than half of it stays");
    }

    #[test]
    fn a_large_request_is_kept_alive_only_by_a_batch_that_is_half_of_it() {
        assert!(!stays(100 << 20, 1 << 20, 100 << 20, 100 << 20));
        assert!(stays(100 << 20, 50 << 20, 50 << 20, 50 << 20));
    }
}
