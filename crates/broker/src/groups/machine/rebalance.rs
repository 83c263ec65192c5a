//! The two phases of a rebalance: gathering the members, and starting a generation with those who came.

use super::Machine;
use super::event::{Moment, Outputs, Reply};
use crate::groups::api::{GroupState, SyncGroupError};

/// When the gathering of members ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinDeadline {
    pub(super) at: Moment,
    /// The first members of a new group: they wait `delay_ms`, and again as long as more come, up to `remaining_ms`.
    pub(super) initial: Option<InitialDelay>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct InitialDelay {
    delay_ms: i32,
    remaining_ms: i32,
}

impl Machine {
    /// All members must join again. Those who wait for an assignment are told at once, the others by their heartbeat.
    pub(super) fn prepare_rebalance(&mut self, now: Moment, out: &mut Outputs) {
        assert!(self.state != GroupState::PreparingRebalance, "a rebalance is not started twice");
        if self.state == GroupState::CompletingRebalance {
            self.cancel_syncs(now, out);
        }
        self.sync_deadline = None;
        // Nobody is told them any more, and the record has room for who joins.
        self.members.values_mut().for_each(|member| member.assignment = bytes::Bytes::new());
        self.assignment_bytes = 0;
        let initial = self.state == GroupState::Empty;
        tracing::info!(group = self.group_id, generation = self.generation, members = self.members.len(), "rebalance");
        self.state = GroupState::PreparingRebalance;
        if initial {
            let delay_ms = self.settings.initial_rebalance_delay_ms.max(0);
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.new_member_added = false;
            self.join_deadline = Some(JoinDeadline {
                at: now.after_ms(delay_ms),
                initial: Some(InitialDelay { delay_ms, remaining_ms }),
            });
            if delay_ms == 0 {
                self.expire_join(now, out);
            }
        } else {
            // Members are about to be told that this generation is over.
            out.persist = true;
            self.await_joins(now);
            self.complete_join_if_all_joined(now, out);
        }
    }

    fn await_joins(&mut self, now: Moment) {
        // A timeout of nothing must not make the clock run on the spot.
        let at = now.after_ms(self.rebalance_timeout_ms().max(1));
        self.join_deadline = Some(JoinDeadline { at, initial: None });
    }

    /// Every member has joined and nobody is about to. The initial delay is always waited for.
    pub(super) fn complete_join_if_all_joined(&mut self, now: Moment, out: &mut Outputs) {
        let gathering = self.join_deadline.is_some_and(|join| join.initial.is_none());
        if gathering && self.joins_waiting == self.members.len() && self.pending.is_empty() {
            self.complete_join(now, out);
        }
    }

    /// The time to join is up.
    pub(super) fn expire_join(&mut self, now: Moment, out: &mut Outputs) {
        match self.join_deadline.and_then(|join| join.initial) {
            Some(initial) if self.new_member_added && initial.remaining_ms > 0 => {
                self.new_member_added = false;
                let delay_ms = self.settings.initial_rebalance_delay_ms.min(initial.remaining_ms);
                let remaining_ms = (initial.remaining_ms - initial.delay_ms).max(0);
                self.join_deadline = Some(JoinDeadline {
                    at: now.after_ms(delay_ms),
                    initial: Some(InitialDelay { delay_ms, remaining_ms }),
                });
            }
            _ => self.complete_join(now, out),
        }
    }

    /// Starts the next generation with the members that joined, and static ones that may still come back.
    fn complete_join(&mut self, now: Moment, out: &mut Outputs) {
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &late {
            tracing::info!(group = self.group_id, member = id, "the member did not rejoin in time");
            self.remove_member(id, out);
        }
        if !self.members.is_empty() && !self.elect_leader_that_joined() {
            // Only static members are left and none has come: their sessions decide.
            self.await_joins(now);
            return;
        }
        self.join_deadline = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(out);
        } else {
            self.start_generation(now, out);
        }
    }

    /// The leader stays if it rejoined; otherwise another one that joined leads.
    fn elect_leader_that_joined(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let next = self.members.iter().find(|(_, member)| member.awaiting_join.is_some());
        let Some((id, _)) = next else { return false };
        self.leader = Some(id.clone());
        true
    }

    fn become_empty(&mut self, out: &mut Outputs) {
        tracing::info!(group = self.group_id, generation = self.generation, "the group is empty");
        self.state = GroupState::Empty;
        self.protocol = None;
        self.leader = None;
        assert_eq!(self.member_bytes, 0, "an empty group holds no member's bytes");
        // A group that nobody was ever told about leaves no trace.
        out.persist |= self.durable;
    }

    fn start_generation(&mut self, now: Moment, out: &mut Outputs) {
        self.protocol = self.select_protocol();
        assert!(self.protocol.is_some(), "members were only admitted with a protocol that all support");
        self.state = GroupState::CompletingRebalance;
        out.persist = true;
        tracing::info!(
            group = self.group_id,
            generation = self.generation,
            members = self.members.len(),
            protocol = self.protocol,
            "a generation begins"
        );
        let mut waiting = Vec::with_capacity(self.joins_waiting);
        self.assignment_bytes = 0;
        for (id, member) in &mut self.members {
            member.begin_session(now, &mut self.next_look);
            member.new = false;
            member.synced = false;
            member.assignment = bytes::Bytes::new();
            if let Some(ticket) = member.awaiting_join.take() {
                waiting.push((id.clone(), ticket));
            }
        }
        self.joins_waiting = 0;
        self.syncs_missing = self.members.len();
        self.sync_deadline = Some(now.after_ms(self.rebalance_timeout_ms()));
        for (id, ticket) in waiting {
            let joined = self.joined(&id, self.is_leader(&id));
            out.reply(ticket, Reply::Join(Ok(joined)));
        }
    }

    /// Whoever waits for an assignment of this generation gets none.
    fn cancel_syncs(&mut self, now: Moment, out: &mut Outputs) {
        self.assignment_bytes = 0;
        for member in self.members.values_mut() {
            member.assignment = bytes::Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.begin_session(now, &mut self.next_look);
                out.reply(ticket, Reply::Sync(Err(SyncGroupError::RebalanceInProgress)));
            }
        }
    }

    /// Members that did not send their sync in time are taken out.
    pub(super) fn expire_syncs(&mut self, now: Moment, out: &mut Outputs) {
        self.sync_deadline = None;
        let missing: Vec<String> =
            self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()).collect();
        assert_eq!(missing.len(), self.syncs_missing, "missing syncs are counted");
        for id in &missing {
            tracing::info!(group = self.group_id, member = id, "the member did not sync in time");
            self.remove_member(id, out);
        }
        if missing.is_empty() && self.state == GroupState::CompletingRebalance {
            // Only the leader's assignment could end this phase, and the leader has synced: impossible.
            unreachable!("a generation whose members all synced is stable");
        }
        self.after_removal(now, out);
    }
}
