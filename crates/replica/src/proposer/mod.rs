//! The one task per shard that hands entries to consensus.
//!
//! It gathers what has arrived while earlier entries were under way into one entry, so that load
//! makes entries larger and an idle shard answers at once. Order of arrival is order in the log.
//! What consensus refused before appending is tried again only if nothing behind it was accepted;
//! otherwise it and all behind it are refused to the callers, who may try again themselves.

mod flight;
mod queue;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::planted::{Planted, is_planted};
use base::task::spawn;
use base::time::{Duration, WallClock, now, sleep};
use parking_lot::Mutex;
use record::{NodeId, Term, TimestampMs};
use shard::EntryBuilder;
use smallvec::SmallVec;
use storage::Payload;

pub(crate) use flight::{EntryEnd, Flight, Flights, OpenEntry, Refusal};
pub(crate) use queue::{Item, Queue};

use crate::errors::ProposeError;
use crate::pending::Answer;
use crate::raft::types::Commands;

/// Pause before an entry that was refused for want of a lease is handed over again.
const LEASE_RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Room made ahead for the answers of an entry.
const ANSWERS_RESERVED_MAX: usize = 1_024;

/// See [`Planted::EntryProposedTwice`].
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Where the proposer hands its entries.
pub(crate) trait Consensus: Send + Sync + 'static {
    /// Queues the entry behind all that were handed over before, to be refused unless this node
    /// leads in `term`. MUST end or drop `flight`, in its own time and on any thread.
    fn write(&self, term: Term, commands: Commands, flight: Flight) -> impl Future<Output = ()> + Send;
}

/// Whether entries may be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// This node leads in that term and has announced it.
    Open { term: Term },
    /// Proposals are refused with the leader's name.
    Closed { leader: Option<NodeId> },
    /// The replica stops: what is queued is refused, nothing new is taken.
    Stopped,
}

/// The limits of a proposer.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) entry_bytes_max: usize,
    pub(crate) entries_in_flight_max: usize,
    pub(crate) lease_wait_max: Duration,
}

/// What the proposer shares with the callers and with the housekeeping.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    flights: Arc<Flights>,
    gate: Mutex<Gate>,
    /// Set while index files lag behind: nothing is handed over.
    held: AtomicBool,
}

impl Shared {
    pub(crate) fn new(queue_bytes_max: usize, queue_items_max: usize) -> Self {
        let queue = Arc::new(Queue::new(queue_bytes_max, queue_items_max));
        Self {
            flights: Arc::new(Flights::new(Arc::clone(&queue))),
            queue,
            gate: Mutex::new(Gate::Closed { leader: None }),
            held: AtomicBool::new(false),
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        *self.gate.lock()
    }

    pub(crate) fn set_gate(&self, gate: Gate) {
        {
            let mut current = self.gate.lock();
            if *current == Gate::Stopped {
                return;
            }
            *current = gate;
        }
        if gate == Gate::Stopped {
            self.queue.close();
        }
        self.queue.wake.notify_one();
    }

    /// Nobody can say when a majority is heard of again: what is under way is answered as unknown, what waits is
    /// refused, until the gate is opened again.
    pub(crate) fn close_without_majority(&self) {
        self.set_gate(Gate::Closed { leader: None });
        self.flights.give_up();
    }

    /// Nobody waits for what is under way any more: its fate is unknown.
    pub(crate) fn give_up(&self) {
        self.flights.give_up();
    }

    /// For how long nothing has ended of what is under way.
    pub(crate) fn stalled(&self) -> Duration {
        self.flights.stalled()
    }

    pub(crate) fn hold(&self, held: bool) {
        if self.held.swap(held, Ordering::AcqRel) && !held {
            self.queue.wake.notify_one();
        }
    }
}

/// The task's own state.
pub(crate) struct Proposer<C> {
    shared: Arc<Shared>,
    consensus: Arc<C>,
    clock: Arc<dyn WallClock>,
    limits: Limits,
    backlog: VecDeque<Item>,
    sequence: u64,
}

impl<C: Consensus> Proposer<C> {
    pub(crate) fn new(shared: Arc<Shared>, consensus: Arc<C>, clock: Arc<dyn WallClock>, limits: Limits) -> Self {
        assert!(limits.entries_in_flight_max > 0 && limits.entry_bytes_max > 0, "checked with the configuration");
        Self { shared, consensus, clock, limits, backlog: VecDeque::new(), sequence: 0 }
    }

    /// Runs until the gate is stopped and everything under way has ended.
    pub(crate) async fn run(mut self) {
        loop {
            if self.shared.flights.has_refused() {
                let gate = self.shared.gate();
                // Only what may be handed over again has to wait for the fate of what was before it.
                if self.shared.flights.count() == 0 || !matches!(gate, Gate::Open { .. }) {
                    self.settle_refused(gate).await;
                    continue;
                }
            } else {
                // The gate as it is after the taking: what came through as it opened is not refused for having been closed.
                self.shared.queue.take(&mut self.backlog);
                match self.shared.gate() {
                    Gate::Open { term } => self.hand_over(term).await,
                    Gate::Closed { leader } => self.refuse_backlog(&ProposeError::NotLeader { leader }),
                    Gate::Stopped => {
                        // Since the gate was stopped nothing more comes.
                        self.shared.queue.take(&mut self.backlog);
                        self.refuse_backlog(&ProposeError::Stopped);
                        if self.shared.flights.count() == 0 && !self.shared.flights.has_refused() {
                            return;
                        }
                    }
                }
            }
            self.shared.queue.wake.notified().await;
        }
    }

    /// Fills the window of entries under way.
    async fn hand_over(&mut self, term: Term) {
        while !self.backlog.is_empty()
            && self.shared.flights.count() < self.limits.entries_in_flight_max
            && !self.shared.held.load(Ordering::Acquire)
            && !self.shared.flights.has_refused()
        {
            let (payload, answers) = self.gather();
            self.sequence += 1;
            let entry = OpenEntry { sequence: self.sequence, payload, answers, refused_since: None };
            self.write(term, entry).await;
            self.shared.queue.take(&mut self.backlog);
        }
    }

    /// Builds one entry of what waits, in order.
    fn gather(&mut self) -> (Payload, Vec<Answer>) {
        let mut builder = EntryBuilder::new();
        let mut answers = Vec::with_capacity(self.backlog.len().min(ANSWERS_RESERVED_MAX));
        let mut bytes = 0;
        while let Some(item) = self.backlog.pop_front() {
            let full = builder.bytes() + item.bytes() > self.limits.entry_bytes_max;
            let alone = item.is_alone();
            if !answers.is_empty() && (full || alone) {
                self.backlog.push_front(item);
                break;
            }
            bytes += item.bytes();
            builder.push(&item.command, item.body);
            answers.push(item.answer);
            if alone {
                break;
            }
        }
        assert!(!answers.is_empty(), "an entry is built of something");
        self.shared.queue.release(bytes, answers.len());
        let buffers = builder.finish(TimestampMs(self.clock.now_ms()));
        (Payload::from_iter(buffers), answers)
    }

    async fn write(&self, term: Term, entry: OpenEntry) {
        let commands = Commands(entry.payload.clone());
        if is_planted(Planted::EntryProposedTwice) {
            self.propose_again(term, entry.sequence, commands.clone());
        }
        let flight = self.shared.flights.begin(entry);
        self.consensus.write(term, commands, flight).await;
    }

    /// The fault that is planted: what is not committed soon is proposed again.
    fn propose_again(&self, term: Term, sequence: u64, commands: Commands) {
        let (consensus, flights) = (Arc::clone(&self.consensus), Arc::clone(&self.shared.flights));
        drop(spawn("propose again", async move {
            sleep(AGAIN_AFTER).await;
            if !flights.has_accepted(sequence) {
                consensus.write(term, commands, flights.of_nobody()).await;
            }
        }));
    }

    /// Decides what becomes of entries that were refused before they were appended.
    async fn settle_refused(&mut self, gate: Gate) {
        let (refused, accepted_behind) = self.shared.flights.take_refused();
        let Some((first, refusal)) = refused.first() else { return };
        let waited = first.refused_since.map_or(Duration::ZERO, |since| since.elapsed());
        let may_retry = *refusal == Refusal::LeaseExpired && !accepted_behind && waited < self.limits.lease_wait_max;
        if let Gate::Open { term } = gate
            && may_retry
        {
            sleep(LEASE_RETRY_PAUSE).await;
            let now = now();
            for (mut entry, _) in refused {
                entry.refused_since.get_or_insert(now);
                self.write(term, entry).await;
            }
            return;
        }
        let leader = match refusal {
            Refusal::NotLeader { leader } => *leader,
            Refusal::LeaseExpired => None,
        };
        let error = ProposeError::NotLeader { leader };
        refused.into_iter().for_each(|(entry, _)| entry.answer_all(&error));
        // What stands behind the refused ones in the order of arrival shares their fate.
        self.shared.queue.take(&mut self.backlog);
        self.refuse_backlog(&error);
    }
}

impl<C> Proposer<C> {
    /// Ended before the gate was stopped, or where it waits: nobody else answers those who wait.
    fn abandon(&mut self) {
        self.shared.set_gate(Gate::Stopped);
        self.shared.queue.take(&mut self.backlog);
        self.refuse_backlog(&ProposeError::Stopped);
        self.shared.flights.answer_refused(&ProposeError::Stopped);
    }

    fn refuse_backlog(&mut self, error: &ProposeError) {
        let bytes = self.backlog.iter().map(Item::bytes).sum();
        let count = self.backlog.len();
        self.backlog.drain(..).for_each(|item| item.answer.send(Err(error.clone())));
        self.shared.queue.release(bytes, count);
    }
}

impl<C> Drop for Proposer<C> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Items that belong together, in order.
pub(crate) type Items = SmallVec<[Item; 1]>;

#[cfg(test)]
mod tests;
