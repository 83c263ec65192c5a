//! How `memory_bytes_max` is divided: the parts together never exceed it.

/// Bytes of memory by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Division {
    /// The recent tail of the log, which readers that keep up are served from.
    pub(super) log_tail: usize,
    /// Appends that wait for their entry.
    pub(super) queues: usize,
    /// Requests that are read or served.
    pub(super) requests: usize,
}

/// More tail than this is not read from memory more often, but makes pages colder; the page cache has the rest.
const LOG_TAIL_MAX: usize = 256 << 20;
/// A queue that is longer only adds to the time that a producer waits.
const QUEUES_MAX: usize = 128 << 20;

impl Division {
    pub(super) fn of(memory_bytes_max: u64) -> Self {
        let total = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        let log_tail = (total / 4).min(LOG_TAIL_MAX);
        let queues = (total / 4).min(QUEUES_MAX);
        // The last quarter is for responses, caches and the state of shards, which have bounds of their own.
        let requests = total / 4;
        assert!(log_tail + queues + requests <= total);
        Self { log_tail, queues, requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_into_the_whole() {
        for total in [64 << 20, 1 << 30, 1 << 40] {
            let Division { log_tail, queues, requests } = Division::of(total);
            assert!((log_tail + queues + requests) as u64 <= total);
            assert!(log_tail.min(queues).min(requests) >= 16 << 20);
        }
    }
}
