//! The wait of a fetch.

use std::sync::Arc;

use base::time;
use replica::{Replica, Seat, Waiter};

use super::read::Places;
use super::{FetchRequest, Fetched, read, rules};
use crate::Broker;

impl Broker {
    /// Reads, waiting up to `wait_max` until `bytes_min` bytes are there, and a little longer for the memory of a first
    /// batch. One answer per partition, in order.
    pub async fn fetch(&self, request: FetchRequest) -> Fetched {
        // An answer larger than all memory for answers would not be counted whole.
        let share = i32::try_from(self.memory().answers().bytes_max()).unwrap_or(i32::MAX);
        let (bytes_min, bytes_max) = rules::limits(&request, self.config().fetch_bytes_max.min(share));
        let deadline = time::now() + request.wait_max;
        let last = deadline + self.config().answer_memory_wait_max;
        let places = Places::new(&request.partitions);
        let look = read::look(&places, bytes_max, &[]).await;
        let mut missing = rules::missing(&request, bytes_min, look.found());
        if missing == 0 {
            return self.answer(&places, look, bytes_max, last).await;
        }
        drop(look);
        let subscription = Subscription::new(&places, missing);
        loop {
            // What grows from here on counts; what grew before is found by the look.
            subscription.waiter.want(missing);
            let look = read::look(&places, bytes_max, &[]).await;
            let wanted = std::mem::replace(&mut missing, rules::missing(&request, bytes_min, look.found()));
            if missing == 0 {
                drop(subscription);
                return self.answer(&places, look, bytes_max, last).await;
            }
            drop(look);
            subscription.waiter.found(wanted.saturating_sub(missing));
            if time::timeout_at(deadline, subscription.waiter.woken()).await.is_err() {
                drop(subscription);
                let look = read::look(&places, bytes_max, &[]).await;
                return self.answer(&places, look, bytes_max, last).await;
            }
        }
    }
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
        for (request, replica) in places.iter() {
            if let Some(replica) = replica {
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
