//! How `memory_bytes_max` is divided: the parts together never exceed it.

/// Bytes of memory by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Division {
    /// The recent tail of the log, which readers that keep up are served from.
    pub(super) log_tail: usize,
    /// Blocks of the log for readers behind its tail.
    pub(super) read_cache: usize,
    /// Appends that wait for their entry.
    pub(super) queues: usize,
    /// Requests that are read or served.
    pub(super) requests: usize,
    /// Answers that are sent.
    pub(super) responses: usize,
    /// Members of consumer groups, with metadata and assignments.
    pub(super) groups: usize,
    /// Committed offsets.
    pub(super) offsets: usize,
}

/// More tail than this is not read from memory more often; the device has the rest.
const LOG_TAIL_MAX: usize = 256 << 20;
/// A queue that is longer only adds to the time that a producer waits.
const QUEUES_MAX: usize = 128 << 20;
/// Enough for many readers of neighbouring streams; what is read once is not read again soon.
const READ_CACHE_MAX: usize = 64 << 20;

impl Division {
    pub(super) fn of(memory_bytes_max: u64) -> Self {
        let total = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        let log_tail = (total / 4).min(LOG_TAIL_MAX);
        let queues = (total / 8).min(QUEUES_MAX);
        let read_cache = (total / 16).min(READ_CACHE_MAX);
        let (requests, responses) = (total / 4, total / 4);
        let (groups, offsets) = (total / 32, total / 32);
        // The rest of the state of shards, and what the parts leave over, have bounds of their own.
        assert!(log_tail + read_cache + queues + requests + responses + groups + offsets <= total);
        Self { log_tail, read_cache, queues, requests, responses, groups, offsets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_into_the_whole() {
        for total in [64 << 20, 1 << 30, 1 << 40] {
            let Division { log_tail, read_cache, queues, requests, responses, groups, offsets } = Division::of(total);
            assert!((log_tail + read_cache + queues + requests + responses + groups + offsets) as u64 <= total);
            assert!(groups.min(offsets) >= 2 << 20);
            assert!(log_tail.min(queues).min(requests).min(responses) >= 8 << 20);
        }
    }
}
