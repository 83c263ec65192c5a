//! The wait of a fetch.
//!
//! A stream may end where it is waited for, because it goes on on another shard. Who waits at its end learns of that by
//! the stream, and where it goes on by the metadata, a moment later.

use std::sync::Arc;

use base::memory::Permit;
use base::time::{self, Instant};
use futures_util::future::{Either, select};
use replica::{Replica, Seat, Waiter};
use tokio::sync::watch;

use super::places::Places;
use super::{FetchPartition, FetchRequest, Fetched, read, rules};
use crate::Broker;

/// What a fetch may give, and until when.
#[derive(Clone, Copy)]
struct Limits {
    bytes_min: i32,
    bytes_max: i32,
    /// For what is waited for.
    deadline: Instant,
    /// For the memory of the answer.
    last: Instant,
}

impl Broker {
    /// Reads, waiting up to `wait_max` until `bytes_min` bytes are there, and a little longer for the memory of a first
    /// batch. One answer per partition, in order.
    pub async fn fetch(&self, mut request: FetchRequest) -> Fetched {
        // An answer larger than all memory for answers would not be counted whole.
        let share = i32::try_from(self.memory().answers().bytes_max()).unwrap_or(i32::MAX);
        let (bytes_min, bytes_max) = rules::limits(&request, self.config().fetch_bytes_max.min(share));
        let deadline = time::now() + request.wait_max;
        let last = deadline + self.config().answer_memory_wait_max;
        let limits = Limits { bytes_min, bytes_max, deadline, last };
        let mut metadata = None;
        loop {
            if let Some(fetched) = self.try_fetch(&request, limits, &mut metadata).await {
                return fetched;
            }
            // From before the look at the metadata on: what changes behind it is not missed.
            metadata.get_or_insert_with(|| self.cluster().metadata_changed());
            self.find_again(&mut request.partitions);
        }
    }

    /// `None` when a stream has ended where it was looked for, and may be elsewhere by now: by `metadata`, which was
    /// there before it was looked for, or there is none yet.
    async fn try_fetch(
        &self,
        request: &FetchRequest,
        limits: Limits,
        metadata: &mut Option<watch::Receiver<u64>>,
    ) -> Option<Fetched> {
        let Limits { bytes_min, bytes_max, deadline, last } = limits;
        let mut places = Places::new(&request.partitions);
        let brought = self.bring(&mut places, last).await;
        let places = places;
        let look = read::look(&places, bytes_max, &[]).await;
        if look.has_ended() && metadata.is_none() {
            return None;
        }
        let mut missing = rules::missing(request, bytes_min, look.found());
        if missing == 0 {
            return Some(with(self.answer(&places, look, bytes_max, last).await, brought));
        }
        drop(look);
        let subscription = Subscription::new(&places, missing);
        loop {
            // What grows from here on counts; what grew before is found by the look.
            subscription.waiter.want(missing);
            let look = read::look(&places, bytes_max, &[]).await;
            let has_ended = look.has_ended();
            if has_ended && metadata.is_none() {
                return None;
            }
            let wanted = std::mem::replace(&mut missing, rules::missing(request, bytes_min, look.found()));
            if missing == 0 {
                drop(subscription);
                return Some(with(self.answer(&places, look, bytes_max, last).await, brought));
            }
            drop(look);
            subscription.waiter.found(wanted.saturating_sub(missing));
            let woken = subscription.waiter.woken();
            let in_time = match metadata.as_mut().filter(|_| has_ended) {
                None => time::timeout_at(deadline, woken).await.is_ok(),
                Some(metadata) => {
                    let changed = metadata.changed();
                    match time::timeout_at(deadline, select(std::pin::pin!(woken), std::pin::pin!(changed))).await {
                        Ok(Either::Left(_)) => true,
                        Ok(Either::Right((Ok(()), _))) => return None,
                        // Nobody follows the metadata any more: the node stops.
                        Ok(Either::Right((Err(_), _))) => false,
                        Err(_) => false,
                    }
                }
            };
            if !in_time {
                drop(subscription);
                let look = read::look(&places, bytes_max, &[]).await;
                return Some(with(self.answer(&places, look, bytes_max, last).await, brought));
            }
        }
    }

    /// Finds the partitions by the metadata as they are now.
    fn find_again(&self, partitions: &mut [FetchPartition]) {
        for request in partitions {
            if let Some(found) = self.topics().again(&request.partition) {
                request.partition = found;
            }
        }
    }
}

fn with(fetched: Fetched, memory_of_brought: Permit) -> Fetched {
    Fetched { memory_of_brought, ..fetched }
}

/// Ends with its drop.
struct Subscription<'a> {
    waiter: Arc<Waiter>,
    seats: Vec<(&'a Replica, Seat)>,
}

impl<'a> Subscription<'a> {
    fn new(places: &'a Places<'_>, missing: u64) -> Self {
        let waiter = Waiter::new(missing);
        let mut seats = Vec::with_capacity(places.iter().len());
        for (request, copies) in places.iter() {
            if let Some(replica) = copies.replica() {
                seats.push((replica, replica.subscribe(request.partition.partition().stream, &waiter)));
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
