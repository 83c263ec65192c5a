//! What a group's lock guards. Whoever panics while holding it closes the group.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use parking_lot::MutexGuard;
use replica::{Pending, ProposeResult, Replica};
use shard::commands::PutGroup;
use shard::{GroupVersion, Outcome, PutGroupError};
use tokio::sync::{Notify, oneshot};

use super::{Answer, coordinator_error};
use crate::groups::api::CoordinatorError;
use crate::groups::machine::{Machine, Reply, Ticket};
use crate::groups::memory::Held;
use crate::groups::tenure::ELSEWHERE;

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) machine: Machine,
    /// What the machine counts, taken of what all groups have.
    pub(super) held: Held,
    /// Of the durable record.
    pub(super) version: GroupVersion,
    pub(super) next_ticket: u64,
    pub(super) waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    /// At most two: the one that is proposed, and one that takes up what changed since.
    pub(super) writes: VecDeque<Write>,
    pub(super) closed: Option<CoordinatorError>,
}

/// The group's record on its way to be durable.
#[derive(Debug, Default)]
pub(super) struct Write {
    /// Until the driver waits for it.
    pub(super) pending: Option<Pending>,
    /// To be sent once it is durable.
    pub(super) replies: Vec<(oneshot::Sender<Answer>, Reply)>,
}

/// The group for as long as one caller is at it. If that one panics, what it leaves behind is trusted by nobody: the
/// group is closed, and loaded anew from what is durable.
pub(super) struct Locked<'a> {
    pub(super) cell: MutexGuard<'a, Cell>,
    pub(super) changed: &'a Notify,
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

impl Cell {
    pub(super) fn new(machine: Machine, held: Held, version: GroupVersion) -> Self {
        Self { machine, held, version, next_ticket: 0, waiting: BTreeMap::new(), writes: VecDeque::new(), closed: None }
    }

    /// Proposes the record as it is now, for the oldest write.
    pub(super) fn propose(&mut self, replica: &Replica) {
        let command = PutGroup { group: self.machine.record(), expected: self.version };
        let write = self.writes.front_mut().expect("only what is to be written is proposed");
        assert!(write.pending.is_none(), "a write is proposed once");
        write.pending = Some(replica.propose(command.into()));
    }

    /// The proposal has come to its end.
    pub(super) fn written(&mut self, result: ProposeResult, replica: &Replica) {
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
    pub(super) fn abandon(&mut self) {
        self.close(&CoordinatorError::Loading);
        self.writes.clear();
    }

    pub(super) fn close(&mut self, why: &CoordinatorError) {
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

fn refusal(result: &ProposeResult) -> CoordinatorError {
    match result {
        Ok(Outcome::PutGroup(Err(PutGroupError::Conflict { .. }))) => CoordinatorError::Loading,
        Ok(Outcome::GroupElsewhere) => ELSEWHERE,
        Ok(_) => CoordinatorError::Unavailable("the group's record was refused"),
        Err(error) => coordinator_error(error),
    }
}
