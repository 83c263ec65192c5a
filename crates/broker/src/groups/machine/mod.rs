//! One classic group as a pure machine: an event and the time go in, answers and a wish to persist come out.
//!
//! It never waits, reads no clock and draws no chance. Whoever drives it must hold back the answers of a step that
//! wishes to persist, and all answers after it, until [`Machine::record`] is durable; if that fails, the machine is
//! thrown away and rebuilt from what is durable. So nothing a member was told can be lost with this node.
//!
//! ```text
//!            first join                      all joined, or time is up
//!   Empty ---------------> PreparingRebalance -----------------------> CompletingRebalance
//!     ^                      |    ^      ^                                |         |
//!     |   no members left    |    |      +---- join, leave, expiry -------+         | leader's assignment
//!     +----------------------+    +-------- join, leave, expiry -------- Stable <---+
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

mod durable;
mod event;
mod footprint;
mod heartbeat;
mod join;
mod leave;
mod member;
mod protocol;
mod rebalance;
mod sessions;
mod sync;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use event::{Event, Moment, Outputs, Reply, Ticket};
pub(crate) use footprint::join_bytes;
use member::Member;

use super::api::GroupState;
use protocol::Support;
use rebalance::JoinDeadline;
use sessions::NextLook;

/// Members that were given an id and have not joined with it yet; each is forgotten after its session timeout.
pub(crate) const PENDING_MEMBERS_MAX: usize = 10_000;
/// How long a member that does not know its id yet may wait in a join: nobody can tell whether it still lives.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1_000;

/// What the operator fixed for all groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub(crate) members_max: usize,
    /// Bytes that the group's record may have.
    pub(crate) record_bytes_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    group_id: String,
    settings: Settings,
    state: GroupState,
    generation: i32,
    protocol_type: String,
    /// `None` without members, and before the first generation.
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id of each static member -> its member id.
    instances: BTreeMap<String, String>,
    /// Ids given out in the handshake of KIP-394 -> when they are forgotten.
    pending: BTreeMap<String, Moment>,
    /// Members whose join waits for its answer.
    joins_waiting: usize,
    /// Members whose sync of this generation has not come.
    syncs_missing: usize,
    join_deadline: Option<JoinDeadline>,
    sync_deadline: Option<Moment>,
    /// At the sessions, and at the ids given out.
    next_look: NextLook,
    /// Since the initial delay was last extended.
    new_member_added: bool,
    /// The group has a durable record.
    durable: bool,
    /// Bytes of the members' variable parts, as they count in the record.
    member_bytes: usize,
    /// Bytes of the members' assignments.
    assignment_bytes: usize,
    /// Of the members.
    support: Support,
}

impl Machine {
    /// A group that nobody has joined yet.
    pub(crate) fn new(group_id: String, settings: Settings) -> Self {
        Self {
            group_id,
            settings,
            state: GroupState::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            joins_waiting: 0,
            syncs_missing: 0,
            join_deadline: None,
            sync_deadline: None,
            next_look: NextLook::default(),
            new_member_added: false,
            durable: false,
            member_bytes: 0,
            assignment_bytes: 0,
            support: Support::default(),
        }
    }

    /// Takes one event. `now` never goes back.
    pub(crate) fn step(&mut self, now: Moment, event: Event) -> Outputs {
        let mut out = Outputs::default();
        match event {
            Event::Join { ticket, request, fresh_member_id } => {
                self.join(now, ticket, request, fresh_member_id, &mut out);
            }
            Event::Sync { ticket, request } => self.sync(now, ticket, request, &mut out),
            Event::Leave { ticket, members } => self.leave(now, ticket, &members, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        if out.persist {
            self.durable = true;
        }
        self.assert_consistent();
        out
    }

    /// When the next tick is due; no earlier one changes anything. It costs the same however many members there are.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let timers = [self.join_deadline.map(|join| join.at), self.sync_deadline, self.next_look.at()];
        timers.into_iter().flatten().min()
    }

    /// Nothing would be lost if the machine were forgotten: the durable record is all there is.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The group exists for others: it was made durable, or someone is joining it.
    pub(crate) fn exists(&self) -> bool {
        self.durable || !self.members.is_empty() || !self.pending.is_empty()
    }

    /// All sessions, joins and syncs whose time is up.
    fn tick(&mut self, now: Moment, out: &mut Outputs) {
        if self.expire_sessions(now, out) {
            self.after_removal(now, out);
        } else {
            self.complete_join_if_all_joined(now, out);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.expire_syncs(now, out);
        }
        if self.join_deadline.is_some_and(|join| join.at <= now) {
            self.expire_join(now, out);
        }
    }

    /// Takes a member out. Whoever waits under its id learns that it is unknown.
    fn remove_member(&mut self, id: &str, out: &mut Outputs) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.member_bytes -= member.record_bytes(id);
        self.assignment_bytes -= member.assignment.len();
        self.support.remove(&member.protocols);
        if let Some(ticket) = member.awaiting_join.take() {
            self.joins_waiting -= 1;
            out.reply(ticket, Reply::Join(Err(super::api::JoinGroupError::UnknownMemberId)));
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            out.reply(ticket, Reply::Sync(Err(super::api::SyncGroupError::UnknownMemberId)));
        }
        if !member.synced {
            self.syncs_missing -= 1;
        }
        if let Some(instance) = &member.instance_id {
            let removed = self.instances.remove(instance);
            assert_eq!(removed.as_deref(), Some(id), "an instance id belongs to one member");
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// The group goes on without the members that were just removed.
    fn after_removal(&mut self, now: Moment, out: &mut Outputs) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now, out),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now, out),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// The longest time that any member may take to rejoin.
    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Makes the next tick, which is due, find the machine inconsistent.
    #[cfg(test)]
    pub(super) fn corrupt(&mut self) {
        self.next_look.no_later_than(Moment(0));
        self.joins_waiting = usize::MAX;
    }

    /// What must hold between any two events, as far as it can be told without looking at every member.
    fn assert_consistent(&self) {
        assert!(self.joins_waiting <= self.members.len(), "only members wait in a join");
        assert!(self.syncs_missing <= self.members.len(), "only members owe a sync");
        assert!(self.instances.len() <= self.members.len(), "each instance id has a member");
        assert_eq!(self.leader.is_none(), self.members.is_empty(), "a group with members has a leader");
        assert!(!self.members.is_empty() || self.support.is_empty(), "only members support protocols");
        assert!(!self.members.is_empty() || self.member_bytes + self.assignment_bytes == 0, "only members take room");
        match self.state {
            GroupState::Empty => {
                assert!(self.members.is_empty(), "an empty group has no members");
                assert!(self.join_deadline.is_none() && self.sync_deadline.is_none(), "nobody is waited for");
            }
            GroupState::PreparingRebalance => {
                assert!(self.join_deadline.is_some(), "a rebalance ends at some time");
                assert!(self.sync_deadline.is_none(), "no sync is waited for before the join is complete");
            }
            GroupState::CompletingRebalance => {
                assert!(self.joins_waiting == 0, "all joins were answered");
                assert!(self.protocol.is_some(), "a generation has a protocol");
                assert!(self.sync_deadline.is_some(), "the leader's assignment is waited for only so long");
            }
            GroupState::Stable => {
                assert!(self.joins_waiting == 0, "all joins were answered");
                assert!(self.protocol.is_some(), "a generation has a protocol");
                assert_eq!(self.sync_deadline.is_some(), self.syncs_missing > 0, "missing syncs have a deadline");
            }
            GroupState::Dead => unreachable!("a machine is thrown away when its group is deleted"),
        }
    }

    fn assignment_of(&self, id: &str) -> Bytes {
        self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default()
    }
}
