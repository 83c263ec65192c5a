//! One group that is in use on this node: its machine, what is on its way to be durable, and who waits.
//!
//! ```text
//!  request --> machine (under the lock) --> wish to persist --> proposed at once, in the order of the steps
//!                    |                                                  |
//!                    +--> replies ---- held behind the last proposal ---+--> sent by the driver
//! ```
//! One record at a time is on its way; what changes meanwhile goes with the next one, and so do the replies.
//! Nothing is told before what it says is durable. If something cannot be made durable, the group is closed: all who
//! wait are told to look for their coordinator, and the next request loads it anew from what is durable. So it is when
//! whoever is at the group panics, a request or the driver.

mod cell;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use base::time::{self, Duration, Instant};
use parking_lot::Mutex;
use record::Term;
use replica::{Pending, ProposeError, ProposeResult, Replica};
use shard::{GroupVersion, SlotMoveId};
use tokio::sync::{Notify, oneshot};

use super::api::{CoordinatorError, JoinGroupError, SyncGroupError};
use super::machine::{Event, Machine, Moment, Outputs, Reply, Ticket};
use super::memory::Held;
use super::tenure::ELSEWHERE;
use cell::{Cell, Locked, Write};

/// What a request that waits is told in the end.
pub(super) type Answer = Result<Reply, CoordinatorError>;

/// Requests of one group that wait for an answer; more are refused.
const WAITING_MAX: usize = 100_000;
/// A deadline this far away stands for none.
const NO_DEADLINE: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) replica: Replica,
    /// In another term another node may have changed the group.
    pub(super) term: Term,
    /// The slot came here by that move. By a later one it may have been elsewhere.
    pub(super) tenure: SlotMoveId,
    started: Instant,
    cell: Mutex<Cell>,
    /// The driver has something new to look at.
    changed: Notify,
}

/// What the driver waits for.
struct Next {
    pending: Option<Pending>,
    deadline: Instant,
}

impl Group {
    pub(super) fn new(
        machine: Machine,
        held: Held,
        version: GroupVersion,
        id: String,
        replica: Replica,
        (term, tenure): (Term, SlotMoveId),
        started: Instant,
    ) -> Arc<Self> {
        let cell = Cell::new(machine, held, version);
        Arc::new(Self { id, replica, term, tenure, started, cell: Mutex::new(cell), changed: Notify::new() })
    }

    /// Gives the machine an event whose answer may come later.
    pub(super) async fn request(&self, event: impl FnOnce(Ticket) -> Event) -> Answer {
        let (sender, receiver) = oneshot::channel();
        {
            let mut cell = self.lock();
            if let Some(error) = &cell.closed {
                return Err(error.clone());
            }
            if cell.waiting.len() >= WAITING_MAX {
                return Err(CoordinatorError::Unavailable("too many requests wait for the group"));
            }
            let ticket = Ticket(cell.next_ticket);
            cell.next_ticket += 1;
            cell.waiting.insert(ticket, sender);
            self.step(&mut cell, event(ticket));
        }
        self.changed.notify_one();
        receiver.await.unwrap_or(Err(CoordinatorError::Loading))
    }

    /// Asks the machine something that it answers at once; the answer is held like any other if it must be.
    pub(super) async fn ask(&self, ask: impl FnOnce(&mut Machine, Moment) -> Reply) -> Answer {
        let receiver = {
            let mut cell = self.lock();
            if let Some(error) = &cell.closed {
                return Err(error.clone());
            }
            let reply = ask(&mut cell.machine, self.now());
            let Some(write) = cell.writes.back_mut() else { return Ok(reply) };
            if write.replies.len() >= WAITING_MAX {
                return Err(CoordinatorError::Unavailable("too many requests wait for the group"));
            }
            let (sender, receiver) = oneshot::channel();
            write.replies.push((sender, reply));
            receiver
        };
        receiver.await.unwrap_or(Err(CoordinatorError::Loading))
    }

    /// A look at the machine, or a change of no more than a session.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Machine, Moment) -> T) -> Result<T, CoordinatorError> {
        let mut cell = self.lock();
        match &cell.closed {
            Some(error) => Err(error.clone()),
            None => Ok(look(&mut cell.machine, self.now())),
        }
    }

    /// Nobody can use the group from now on; who waits is told why.
    pub(super) fn close(&self, why: CoordinatorError) {
        let mut cell = self.lock();
        if cell.closed.is_none() {
            cell.close(&why);
            // Only once: the driver itself calls this whenever it finds that it should not go on.
            self.changed.notify_one();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    pub(super) fn has_members(&self) -> bool {
        self.lock().machine.has_members()
    }

    /// Closes the group if all it has are ids that it gave out. Returns whether it did.
    pub(super) fn close_if_unjoined(&self) -> bool {
        let mut cell = self.lock();
        let unjoined = !cell.machine.has_members() && cell.writes.is_empty() && cell.waiting.is_empty();
        if unjoined && cell.closed.is_none() {
            cell.close(&CoordinatorError::Loading);
            self.changed.notify_one();
            return true;
        }
        false
    }

    /// Nobody drives the group any more: what it waited for is given up, and who waits is told.
    pub(super) fn abandon(&self) {
        self.lock().abandon();
    }

    fn lock(&self) -> Locked<'_> {
        Locked { cell: self.cell.lock(), changed: &self.changed }
    }

    fn now(&self) -> Moment {
        moment(self.started)
    }

    fn step(&self, cell: &mut Cell, event: Event) {
        let growth = cell.machine.growth(&event);
        let refusal = if growth > 0 && !cell.held.try_grow(growth) { no_room(&event) } else { None };
        let Outputs { persist, replies } = match refusal {
            Some(refusal) => Outputs { persist: false, replies: vec![refusal] },
            None => cell.machine.step(self.now(), event),
        };
        cell.held.set(cell.machine.bytes());
        if persist && cell.writes.len() < 2 {
            cell.writes.push_back(Write::default());
            if cell.writes.len() == 1 {
                cell.propose(&self.replica);
            }
        }
        for (ticket, reply) in replies {
            // Whoever asked may have gone.
            let Some(sender) = cell.waiting.remove(&ticket) else { continue };
            match cell.writes.back_mut() {
                Some(write) => write.replies.push((sender, reply)),
                None => drop(sender.send(Ok(reply))),
            }
        }
    }

    /// Waits for proposals and for time to pass, until the group is closed or nothing is left to wait for; then
    /// `retire` is asked to take it out of use, and says whether it did.
    pub(super) async fn drive(self: Arc<Self>, retire: impl Fn(&Self) -> bool) {
        let mut leadership = self.replica.leadership();
        let mut slots = self.replica.slots_changed();
        // It may have left before anybody looked.
        slots.mark_changed();
        let mut pending: Option<Pending> = None;
        loop {
            let now = *leadership.borrow_and_update();
            if !now.is_self || now.term != self.term {
                self.close(CoordinatorError::NotCoordinator { leader: now.leader });
            }
            if slots.has_changed().unwrap_or(false) {
                slots.mark_unchanged();
                if !self.is_held() {
                    self.close(ELSEWHERE);
                }
            }
            let next = self.next(pending.is_some());
            pending = pending.or(next.pending);
            if pending.is_none() && (self.is_idle() || self.is_closed()) && retire(&self) {
                return;
            }
            let alarm = time::sleep_until(next.deadline);
            tokio::select! {
                result = outcome(&mut pending) => {
                    pending = None;
                    self.lock().written(result, &self.replica);
                }
                () = alarm => {
                    let mut cell = self.lock();
                    if cell.closed.is_none() {
                        self.step(&mut cell, Event::Tick);
                    }
                }
                () = self.changed.notified() => {}
                // Its end is that of the replica, as below.
                Ok(()) = slots.changed() => slots.mark_changed(),
                // Its end is that of the replica: whatever is proposed comes to its end too.
                changed = leadership.changed() => if changed.is_err() {
                    self.close(CoordinatorError::NotCoordinator { leader: None });
                    base::task::yield_now().await;
                }
            }
        }
    }

    fn next(&self, waits: bool) -> Next {
        let mut cell = self.lock();
        let pending = if waits { None } else { cell.writes.front_mut().and_then(|write| write.pending.take()) };
        let deadline = if cell.closed.is_some() { None } else { cell.machine.next_deadline() };
        let deadline = deadline.map(|Moment(milliseconds)| self.started + Duration::from_millis(milliseconds));
        Next { pending, deadline: deadline.unwrap_or_else(|| time::now() + NO_DEADLINE) }
    }

    /// The durable record is all there is, and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        let cell = self.lock();
        cell.machine.is_idle() && cell.writes.is_empty() && cell.waiting.is_empty()
    }

    /// Closes the group if it is idle. Whoever holds it still then asks for it again.
    pub(super) fn close_if_idle(&self) -> bool {
        let mut cell = self.lock();
        let idle = cell.machine.is_idle() && cell.writes.is_empty() && cell.waiting.is_empty();
        if idle {
            cell.close(&CoordinatorError::Loading);
        }
        cell.closed.is_some() && cell.writes.is_empty()
    }
}

/// Milliseconds since the driver's clock began.
pub(super) fn moment(started: Instant) -> Moment {
    Moment(u64::try_from(time::now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX))
}

async fn outcome(pending: &mut Option<Pending>) -> ProposeResult {
    match pending {
        Some(pending) => Pin::new(pending).await,
        None => std::future::pending().await,
    }
}

/// What is told to who would make the groups of the node take more than they may. Nothing changes for the group: a
/// member that is refused stays in it for its session.
fn no_room(event: &Event) -> Option<(Ticket, Reply)> {
    match event {
        Event::Join { ticket, .. } => Some((*ticket, Reply::Join(Err(JoinGroupError::GroupMaxSizeReached)))),
        Event::Sync { ticket, .. } => Some((*ticket, Reply::Sync(Err(SyncGroupError::AssignmentTooLarge)))),
        Event::Leave { .. } | Event::Tick => None,
    }
}

/// What a client of a group is told when a shard takes no proposals.
pub(super) fn coordinator_error(error: &ProposeError) -> CoordinatorError {
    match error {
        ProposeError::NotLeader { leader } => CoordinatorError::NotCoordinator { leader: *leader },
        ProposeError::Busy => CoordinatorError::Unavailable("the broker is overloaded"),
        ProposeError::DiskFull => CoordinatorError::Unavailable("the disk is full"),
        ProposeError::Unknown => CoordinatorError::Unavailable("the fate of the request is unknown"),
        ProposeError::Stopped => CoordinatorError::NotCoordinator { leader: None },
        ProposeError::TooLarge { .. } => CoordinatorError::Unavailable("the group is too large"),
    }
}
