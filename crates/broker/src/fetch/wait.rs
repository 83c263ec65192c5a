//! The wait of a fetch.

use std::sync::Arc;

use base::memory::{Permit, Share};
use base::time::{self, Instant};
use replica::{Replica, Seat, Waiter};

use super::read::Look;
use super::{Chunk, FetchError, FetchPartition, FetchRequest, Fetched, FetchedPartition, read, rules};
use crate::Broker;

impl Broker {
    /// Reads, waiting up to `wait_max` until `bytes_min` bytes are there, and a little longer for the memory to answer
    /// with. One answer per partition, in order.
    pub async fn fetch(&self, request: FetchRequest) -> Fetched {
        // An answer larger than all memory for answers would not be counted whole.
        let share = i32::try_from(self.memory().answers().bytes_max()).unwrap_or(i32::MAX);
        let (bytes_min, bytes_max) = rules::limits(&request, self.config().fetch_bytes_max.min(share));
        let deadline = time::now() + request.wait_max;
        let look = read::look(&request.partitions, bytes_max, &[]).await;
        let mut missing = rules::missing(&request, bytes_min, look.found());
        if missing == 0 {
            return self.answer(&request, look, bytes_max, deadline).await;
        }
        drop(look);
        let subscription = Subscription::new(&request.partitions, missing);
        loop {
            // What grows from here on counts; what grew before is found by the look.
            subscription.waiter.want(missing);
            let look = read::look(&request.partitions, bytes_max, &[]).await;
            let wanted = std::mem::replace(&mut missing, rules::missing(&request, bytes_min, look.found()));
            if missing == 0 {
                drop(subscription);
                return self.answer(&request, look, bytes_max, deadline).await;
            }
            drop(look);
            subscription.waiter.found(wanted.saturating_sub(missing));
            if time::timeout_at(deadline, subscription.waiter.woken()).await.is_err() {
                drop(subscription);
                let look = read::look(&request.partitions, bytes_max, &[]).await;
                return self.answer(&request, look, bytes_max, deadline).await;
            }
        }
    }

    /// Takes what the answer will have out of the budget, and reads it then. If that must be waited for, what is to be
    /// read is found anew, within what was got. That wait ends a little after the reader's own.
    async fn answer(&self, request: &FetchRequest, look: Look<'_>, bytes_max: i32, deadline: Instant) -> Fetched {
        let deadline = deadline + self.config().answer_memory_wait_max;
        let answers = self.memory().answers();
        let mut look = look;
        loop {
            let bytes = look.memory_bytes();
            if bytes == 0 {
                return Fetched { partitions: look.read().await, memory: Permit::empty() };
            }
            if let Some(memory) = answers.try_acquire(bytes) {
                return self.read(request, look, memory, bytes_max).await;
            }
            drop(look);
            let Ok(memory) = time::timeout_at(deadline, answers.acquire(bytes)).await else {
                let refused = request.partitions.iter().map(|_| FetchedPartition::failed(FetchError::NoMemory));
                return Fetched { partitions: refused.collect(), memory: Permit::empty() };
            };
            look = read::look(&request.partitions, within(&memory, bytes_max), &[]).await;
            look.cut(memory.bytes());
            // The first batch, which is given whatever its size, may have become a larger one.
            if covers(&memory, answers, &look) {
                return self.read(request, look, memory, bytes_max).await;
            }
        }
    }

    /// Reads what was paid for, and gives back what turns out to leave by way of files.
    async fn read(&self, request: &FetchRequest, look: Look<'_>, mut memory: Permit, bytes_max: i32) -> Fetched {
        let answers = self.memory().answers();
        let mut look = look;
        loop {
            let partitions = look.read().await;
            let failures: Vec<_> = partitions.iter().map(|partition| partition.error.clone()).collect();
            if partitions.iter().any(|partition| partition.bytes > 0) || failures.iter().all(Option::is_none) {
                let held = memory.split(bytes_in_memory(&partitions));
                return Fetched { partitions, memory: held };
            }
            // What stands behind partitions that cannot be read has its turn without them: they may stay so.
            look = read::look(&request.partitions, within(&memory, bytes_max), &failures).await;
            look.cut(memory.bytes());
            if look.memory_bytes() == 0 {
                return Fetched { partitions, memory: Permit::empty() };
            }
            if !covers(&memory, answers, &look) {
                let missing = look.memory_bytes() - memory.bytes();
                let Some(more) = answers.try_acquire(missing) else {
                    return Fetched { partitions, memory: Permit::empty() };
                };
                memory.merge(more);
            }
        }
    }
}

/// The limit of what was paid for.
fn within(memory: &Permit, bytes_max: i32) -> i32 {
    bytes_max.min(i32::try_from(memory.bytes()).unwrap_or(i32::MAX))
}

/// Whether what is to be read was paid for; a batch larger than all memory for answers is, with all of it.
fn covers(memory: &Permit, answers: &Share, look: &Look<'_>) -> bool {
    look.memory_bytes() <= memory.bytes() || memory.bytes() >= answers.bytes_max()
}

/// What of the answer is not in files.
fn bytes_in_memory(found: &[FetchedPartition]) -> usize {
    let batches = || found.iter().flat_map(|partition| &partition.batches);
    let chunks = batches().flat_map(|batch| &batch.chunks);
    let bytes: usize = chunks
        .map(|chunk| match chunk {
            Chunk::Memory(slices) => slices.iter().map(|slice| slice.bytes().len()).sum(),
            Chunk::File { .. } => 0,
        })
        .sum();
    read::memory_bytes(bytes as u64, batches().count())
}

/// Ends with its drop.
struct Subscription<'a> {
    waiter: Arc<Waiter>,
    seats: Vec<(&'a Replica, Seat)>,
}

impl<'a> Subscription<'a> {
    fn new(partitions: &'a [FetchPartition], missing: u64) -> Self {
        let waiter = Waiter::new(missing);
        let mut seats = Vec::with_capacity(partitions.len());
        for partition in partitions.iter().map(|request| request.partition.partition()) {
            if let Some(replica) = partition.replica() {
                seats.push((replica, replica.subscribe(partition.stream, &waiter)));
            }
        }
        Self { waiter, seats }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        for (replica, seat) in self.seats.drain(..) {
            replica.unsubscribe(seat);
        }
    }
}
