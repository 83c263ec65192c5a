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

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;

use base::time::{self, Duration, Instant};
use parking_lot::{Mutex, MutexGuard};
use record::Term;
use replica::{Pending, ProposeError, ProposeResult, Replica};
use shard::commands::PutGroup;
use shard::{GroupVersion, Outcome, PutGroupError};
use tokio::sync::{Notify, oneshot};

use super::api::{CoordinatorError, JoinGroupError, SyncGroupError};
use super::machine::{Event, Machine, Moment, Outputs, Reply, Ticket};
use super::memory::Held;

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
    started: Instant,
    cell: Mutex<Cell>,
    /// The driver has something new to look at.
    changed: Notify,
}

#[derive(Debug)]
struct Cell {
    machine: Machine,
    /// What the machine counts, taken of what all groups have.
    held: Held,
    /// Of the durable record.
    version: GroupVersion,
    next_ticket: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    /// At most two: the one that is proposed, and one that takes up what changed since.
    writes: VecDeque<Write>,
    closed: Option<CoordinatorError>,
}

/// The group's record on its way to be durable.
#[derive(Debug, Default)]
struct Write {
    /// Until the driver waits for it.
    pending: Option<Pending>,
    /// To be sent once it is durable.
    replies: Vec<(oneshot::Sender<Answer>, Reply)>,
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
        term: Term,
        started: Instant,
    ) -> Arc<Self> {
        let cell = Cell {
            machine,
            held,
            version,
            next_ticket: 0,
            waiting: BTreeMap::new(),
            writes: VecDeque::new(),
            closed: None,
        };
        Arc::new(Self { id, replica, term, started, cell: Mutex::new(cell), changed: Notify::new() })
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
        let mut pending: Option<Pending> = None;
        loop {
            let now = *leadership.borrow_and_update();
            if !now.is_self || now.term != self.term {
                self.close(CoordinatorError::NotCoordinator { leader: now.leader });
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

/// The group for as long as one caller is at it. If that one panics, what it leaves behind is trusted by nobody: the
/// group is closed, and loaded anew from what is durable.
struct Locked<'a> {
    cell: MutexGuard<'a, Cell>,
    changed: &'a Notify,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cell.abandon();
            self.changed.notify_one();
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Cell;

    fn deref(&self) -> &Cell {
        &self.cell
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Cell {
        &mut self.cell
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

impl Cell {
    /// Proposes the record as it is now, for the oldest write.
    fn propose(&mut self, replica: &Replica) {
        let command = PutGroup { group: self.machine.record(), expected: self.version };
        let write = self.writes.front_mut().expect("only what is to be written is proposed");
        assert!(write.pending.is_none(), "a write is proposed once");
        write.pending = Some(replica.propose(command.into()));
    }

    /// The proposal has come to its end.
    fn written(&mut self, result: ProposeResult, replica: &Replica) {
        let Some(write) = self.writes.pop_front() else {
            assert!(self.closed.is_some(), "the driver waits for a write that is in the queue, or was given up");
            return;
        };
        match result {
            Ok(Outcome::PutGroup(Ok(version))) => {
                assert!(version > self.version, "the versions of a group rise");
                self.version = version;
                for (sender, reply) in write.replies {
                    drop(sender.send(Ok(reply)));
                }
                if self.closed.is_some() {
                    self.writes.clear();
                } else if !self.writes.is_empty() {
                    self.propose(replica);
                }
            }
            result => {
                let why = refusal(&result);
                tracing::warn!(?result, "the state of a group could not be made durable: it is loaded anew");
                for (sender, _) in write.replies {
                    drop(sender.send(Err(why.clone())));
                }
                self.close(&why);
                self.writes.clear();
            }
        }
    }

    /// Closes the group without waiting for what was proposed; the version of the record tells whoever loads it anew
    /// when that became durable behind its back.
    fn abandon(&mut self) {
        self.close(&CoordinatorError::Loading);
        self.writes.clear();
    }

    fn close(&mut self, why: &CoordinatorError) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(why.clone());
        // The machine is of no use any more.
        self.held.set(0);
        for sender in std::mem::take(&mut self.waiting).into_values() {
            drop(sender.send(Err(why.clone())));
        }
        // What was proposed may still become durable, so nobody is told that it did not; but nobody may rely on it.
        for (sender, _) in self.writes.iter_mut().flat_map(|write| write.replies.drain(..)) {
            drop(sender.send(Err(why.clone())));
        }
        self.writes.truncate(1);
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

fn refusal(result: &ProposeResult) -> CoordinatorError {
    match result {
        Ok(Outcome::PutGroup(Err(PutGroupError::Conflict { .. }))) => CoordinatorError::Loading,
        Ok(_) => CoordinatorError::Unavailable("the group's record was refused"),
        Err(error) => coordinator_error(error),
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
