//! The wait of a fetch.

use std::sync::Arc;

use base::memory::Permit;
use base::time::{self, Instant};
use replica::Waiter;

use super::{Chunk, FetchError, FetchPartition, FetchRequest, Fetched, FetchedPartition, read, rules};
use crate::Broker;

impl Broker {
    /// Reads, waiting up to `wait_max` until `bytes_min` bytes are there, and a little longer for the memory to answer
    /// with. One answer per partition, in order.
    pub async fn fetch(&self, request: FetchRequest) -> Fetched {
        let (bytes_min, bytes_max) = rules::limits(&request, self.config().fetch_bytes_max);
        let deadline = time::now() + request.wait_max;
        let found = read::look(&request.partitions, bytes_max).await;
        let mut missing = rules::missing(&request, bytes_min, &found);
        if missing == 0 {
            return self.counted(&request, found, bytes_max, deadline).await;
        }
        // A reader that waits holds neither memory nor segments.
        drop(found);
        let subscription = Subscription::new(&request.partitions, missing);
        loop {
            // What grows from here on counts; what grew before is found by the look.
            subscription.waiter.want(missing);
            let found = read::look(&request.partitions, bytes_max).await;
            missing = rules::missing(&request, bytes_min, &found);
            if missing == 0 {
                drop(subscription);
                return self.counted(&request, found, bytes_max, deadline).await;
            }
            drop(found);
            if time::timeout_at(deadline, subscription.waiter.woken()).await.is_err() {
                drop(subscription);
                let found = read::look(&request.partitions, bytes_max).await;
                return self.counted(&request, found, bytes_max, deadline).await;
            }
        }
    }

    /// Takes what the answer holds in memory out of the budget. If that must be waited for, the batches are let go
    /// meanwhile and read again. That wait ends a little after the reader's own.
    async fn counted(
        &self,
        request: &FetchRequest,
        found: Vec<FetchedPartition>,
        bytes_max: i32,
        deadline: Instant,
    ) -> Fetched {
        let bytes = memory_bytes(&found);
        if bytes == 0 {
            return Fetched { partitions: found, memory: Permit::empty() };
        }
        let answers = self.memory().answers();
        if let Some(memory) = answers.try_acquire(bytes) {
            return Fetched { partitions: found, memory };
        }
        drop(found);
        let Ok(memory) =
            time::timeout_at(deadline + self.config().answer_memory_wait_max, answers.acquire(bytes)).await
        else {
            let refused = request.partitions.iter().map(|_| FetchedPartition::failed(FetchError::NoMemory));
            return Fetched { partitions: refused.collect(), memory: Permit::empty() };
        };
        // What is read now may differ a little from what was counted; it stays within the request's limit.
        let partitions = read::look(&request.partitions, bytes_max).await;
        Fetched { partitions, memory }
    }
}

fn memory_bytes(found: &[FetchedPartition]) -> usize {
    let chunks = found.iter().flat_map(|partition| &partition.batches).flat_map(|batch| &batch.chunks);
    chunks
        .map(|chunk| match chunk {
            Chunk::Memory(pieces) => pieces.iter().map(bytes::Bytes::len).sum(),
            Chunk::File { .. } => 0,
        })
        .sum()
}

/// Ends with its drop.
struct Subscription<'a> {
    partitions: &'a [FetchPartition],
    waiter: Arc<Waiter>,
}

impl<'a> Subscription<'a> {
    fn new(partitions: &'a [FetchPartition], missing: u64) -> Self {
        let waiter = Waiter::new(missing);
        for partition in partitions.iter().map(|request| request.partition.partition()) {
            if let Some(replica) = partition.replica() {
                replica.subscribe(partition.stream, &waiter);
            }
        }
        Self { partitions, waiter }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        for partition in self.partitions.iter().map(|request| request.partition.partition()) {
            if let Some(replica) = partition.replica() {
                replica.unsubscribe(partition.stream, &self.waiter);
            }
        }
    }
}
