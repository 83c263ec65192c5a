//! The rules of the coordinator, one test each; the name says the rule.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::groups::api::*;

mod heartbeats;
mod joins;
mod large;
mod leaves;
mod properties;
mod restarts;
mod statics;
mod syncs;

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;
pub(super) const DELAY_MS: i32 = 3_000;

/// Drives a machine and keeps what it answered.
pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) now: Moment,
    next: u64,
    pub(super) replies: BTreeMap<Ticket, Reply>,
    pub(super) persists: usize,
    /// What is durable.
    durable: Option<shard::GroupRecord>,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self::with(Settings { initial_rebalance_delay_ms: 0, members_max: usize::MAX, record_bytes_max: 1 << 20 })
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self {
            machine: Machine::new("g".to_owned(), settings),
            now: Moment(1_000),
            next: 0,
            replies: BTreeMap::new(),
            persists: 0,
            durable: None,
        }
    }

    pub(super) fn step(&mut self, event: Event) {
        let bytes_max = self.machine.bytes() + self.machine.growth(&event);
        let outputs = self.machine.step(self.now, event);
        assert!(self.machine.bytes() <= bytes_max, "an event takes no more than was foreseen");
        let assigned: usize = self.machine.members.values().map(|member| member.assignment.len()).sum();
        assert_eq!(self.machine.assignment_bytes, assigned);
        if let Some(end) = self.machine.first_end() {
            let look = self.machine.next_look.at().expect("a session that can end is looked at");
            assert!(look <= end.max(self.now.after_ms(100)), "no session ends long before the next look");
        }
        if outputs.persist {
            self.persists += 1;
            self.durable = Some(self.machine.record());
        }
        for (ticket, reply) in outputs.replies {
            assert!(self.replies.insert(ticket, reply).is_none(), "a request is answered once");
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Passes time in the steps that a driver with timers would take.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        let end = Moment(self.now.0 + milliseconds);
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.step(Event::Tick);
        }
        self.now = end;
    }

    pub(super) fn join(&mut self, request: JoinGroup) -> Ticket {
        let ticket = self.ticket();
        let fresh_member_id = match &request.member.instance_id {
            Some(instance) => format!("{instance}-{}", ticket.0),
            None => format!("{}-{}", request.client_id, ticket.0),
        };
        self.step(Event::Join { ticket, request, fresh_member_id });
        ticket
    }

    pub(super) fn joined(&self, ticket: Ticket) -> &Joined {
        match self.replies.get(&ticket) {
            Some(Reply::Join(Ok(joined))) => joined,
            other => panic!("no joined: {other:?}"),
        }
    }

    pub(super) fn join_error(&self, ticket: Ticket) -> &JoinGroupError {
        match self.replies.get(&ticket) {
            Some(Reply::Join(Err(error))) => error,
            other => panic!("no join error: {other:?}"),
        }
    }

    pub(super) fn waits(&self, ticket: Ticket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    pub(super) fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Ticket {
        self.sync_as(identity(id), generation, assignments)
    }

    pub(super) fn sync_as(
        &mut self,
        member: MemberIdentity,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Ticket {
        let ticket = self.ticket();
        let assignments =
            assignments.iter().map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes.as_bytes()))).collect();
        let request = SyncGroup {
            group_id: "g".to_owned(),
            member,
            generation,
            protocol_type: None,
            protocol: None,
            assignments,
        };
        self.step(Event::Sync { ticket, request });
        ticket
    }

    pub(super) fn synced(&self, ticket: Ticket) -> &Synced {
        match self.replies.get(&ticket) {
            Some(Reply::Sync(Ok(synced))) => synced,
            other => panic!("no synced: {other:?}"),
        }
    }

    pub(super) fn sync_error(&self, ticket: Ticket) -> &SyncGroupError {
        match self.replies.get(&ticket) {
            Some(Reply::Sync(Err(error))) => error,
            other => panic!("no sync error: {other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: &[MemberIdentity]) -> Left {
        let ticket = self.ticket();
        self.step(Event::Leave { ticket, members: members.to_vec() });
        match self.replies.get(&ticket) {
            Some(Reply::Leave(left)) => left.clone(),
            other => panic!("no left: {other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), HeartbeatError> {
        let now = self.now;
        self.machine.heartbeat(now, &identity(id), generation)
    }

    /// A stable group of the members with these requests; their ids, the leader's first.
    pub(super) fn stable(&mut self, requests: Vec<JoinGroup>) -> Vec<String> {
        let mut tickets = Vec::new();
        for request in requests {
            tickets.push(self.join(request));
            // Everyone who is in already comes back for the newcomer.
            let again: Vec<String> = self
                .machine
                .members
                .iter()
                .filter(|(_, m)| m.awaiting_join.is_none())
                .map(|(id, _)| id.clone())
                .collect();
            for id in again {
                let member = &self.machine.members[&id];
                let mut request = join(&id, &[]);
                request.protocols = member.protocols.clone();
                request.member.instance_id = member.instance_id.clone();
                request.session_timeout_ms = member.session_timeout_ms;
                request.rebalance_timeout_ms = member.rebalance_timeout_ms;
                self.join(request);
            }
        }
        self.pass(0);
        assert_eq!(self.machine.state, GroupState::CompletingRebalance);
        let leader = self.machine.leader.clone().expect("the group has members");
        let mut ids = vec![leader.clone()];
        ids.extend(self.machine.members.keys().filter(|id| **id != leader).cloned());
        let generation = self.machine.generation;
        for id in ids.iter().rev() {
            let member =
                MemberIdentity { member_id: id.clone(), instance_id: self.machine.members[id].instance_id.clone() };
            self.sync_as(member, generation, &[]);
        }
        assert_eq!(self.machine.state, GroupState::Stable);
        ids
    }
}

pub(super) fn identity(id: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.to_owned(), instance_id: None }
}

pub(super) fn static_identity(id: &str, instance: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.to_owned(), instance_id: Some(instance.to_owned()) }
}

/// A join under protocols "range", or those given; each with its own name as metadata.
pub(super) fn join(id: &str, protocols: &[&str]) -> JoinGroup {
    let protocols = if protocols.is_empty() { &["range"] } else { protocols };
    JoinGroup {
        group_id: "g".to_owned(),
        member: identity(id),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: protocols.iter().map(|name| ((*name).to_owned(), Bytes::from((*name).to_owned()))).collect(),
        requires_known_member_id: false,
        supports_skipping_assignment: false,
        reason: None,
    }
}

pub(super) fn static_join(id: &str, instance: &str) -> JoinGroup {
    JoinGroup { member: static_identity(id, instance), ..join(id, &[]) }
}

impl Driver {
    /// The machine is rebuilt from its durable record, as after the loss of a node. Requests that waited are lost.
    pub(super) fn restart(&mut self) {
        let settings = self.machine.settings;
        self.machine = match &self.durable {
            Some(record) => Machine::restore(record, self.now, settings),
            None => Machine::new("g".to_owned(), settings),
        };
    }
}
