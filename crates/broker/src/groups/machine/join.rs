//! Joining: new members, members that rejoin, static members that come back (KIP-345), the handshake of KIP-394.

use super::event::{Moment, Outputs, Reply, Ticket};
use super::member::{Member, joining_bytes, protocol_bytes};
use super::{Machine, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_MEMBERS_MAX};
use crate::groups::api::{GroupState, JoinGroup, JoinGroupError, Joined, JoinedMember};

impl Machine {
    pub(super) fn join(
        &mut self,
        now: Moment,
        ticket: Ticket,
        request: JoinGroup,
        fresh_member_id: String,
        out: &mut Outputs,
    ) {
        let result = if request.member.member_id.is_empty() {
            self.join_new(now, ticket, request, fresh_member_id, out)
        } else {
            self.join_existing(now, ticket, request, out)
        };
        if let Err(error) = result {
            out.reply(ticket, Reply::Join(Err(error)));
        }
    }

    /// A member that has no id yet.
    fn join_new(
        &mut self,
        now: Moment,
        ticket: Ticket,
        request: JoinGroup,
        fresh_member_id: String,
        out: &mut Outputs,
    ) -> Result<(), JoinGroupError> {
        let known = request.member.instance_id.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        if !self.has_room_for(known.as_deref(), &fresh_member_id, &request) {
            return Err(JoinGroupError::GroupMaxSizeReached);
        }
        if !self.supports_protocols(&request.protocol_type, &request.protocols) {
            return Err(JoinGroupError::InconsistentGroupProtocol);
        }
        if request.member.instance_id.is_some() {
            match known {
                Some(old) => self.replace_static_member(now, ticket, request, &old, fresh_member_id, out),
                None => self.add_member(now, ticket, request, fresh_member_id, out),
            }
            return Ok(());
        }
        if request.requires_known_member_id {
            if self.pending.len() >= PENDING_MEMBERS_MAX {
                return Err(JoinGroupError::GroupMaxSizeReached);
            }
            let end = now.after_ms(request.session_timeout_ms);
            self.pending.insert(fresh_member_id.clone(), end);
            self.next_look.no_later_than(end);
            return Err(JoinGroupError::MemberIdRequired { member_id: fresh_member_id });
        }
        self.add_member(now, ticket, request, fresh_member_id, out);
        Ok(())
    }

    /// A member that says which id it has.
    fn join_existing(
        &mut self,
        now: Moment,
        ticket: Ticket,
        request: JoinGroup,
        out: &mut Outputs,
    ) -> Result<(), JoinGroupError> {
        let id = request.member.member_id.clone();
        if !self.exists() {
            return Err(JoinGroupError::UnknownMemberId);
        }
        if !self.has_room_for(Some(&id), &id, &request) {
            self.turn_away(now, &id, out);
            return Err(JoinGroupError::GroupMaxSizeReached);
        }
        if !self.supports_protocols(&request.protocol_type, &request.protocols) {
            return Err(JoinGroupError::InconsistentGroupProtocol);
        }
        if self.pending.contains_key(&id) {
            if request.member.instance_id.is_some() {
                // Only dynamic members are given an id in the handshake.
                return Err(JoinGroupError::UnknownMemberId);
            }
            self.pending.remove(&id);
            self.add_member(now, ticket, request, id, out);
            return Ok(());
        }
        self.validate_member(&request.member)?;
        let unchanged = self.members.get(&id).is_some_and(|member| member.matches(&request.protocols));
        match self.state {
            // A follower with nothing new may fetch its assignment; so may whoever missed the answer to its join.
            GroupState::CompletingRebalance if unchanged => self.tell_generation(&id, ticket, out),
            GroupState::Stable if unchanged && !self.is_leader(&id) => self.tell_generation(&id, ticket, out),
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(&id, ticket, request, out);
                self.rebalance_or_complete_join(now, out);
            }
            GroupState::Empty | GroupState::Dead => return Err(JoinGroupError::UnknownMemberId),
        }
        Ok(())
    }

    /// There is no room for the member any more. A stranger's join changes nothing for those who are in.
    fn turn_away(&mut self, now: Moment, id: &str, out: &mut Outputs) {
        if self.members.contains_key(id) {
            self.remove_member(id, out);
            self.after_removal(now, out);
        } else if self.pending.remove(id).is_some() && self.state == GroupState::PreparingRebalance {
            self.complete_join_if_all_joined(now, out);
        }
    }

    /// Whether the group may have this member, by count and by bytes: under `id`, in the place of `known`.
    fn has_room_for(&self, known: Option<&str>, id: &str, request: &JoinGroup) -> bool {
        let member = known.and_then(|known| self.members.get(known));
        let rejoins = known == Some(id) && member.is_some();
        let by_count = match self.state {
            GroupState::Empty | GroupState::Dead => true,
            // Those who wait now are counted: after the limit was lowered, the last to rejoin are turned away.
            GroupState::PreparingRebalance => {
                (rejoins && member.is_some_and(|member| member.awaiting_join.is_some()))
                    || self.joins_waiting < self.settings.members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                rejoins || self.members.len() < self.settings.members_max
            }
        };
        let freed = member.zip(known).map_or(0, |(member, known)| member.record_bytes(known));
        // A static member that comes back may leave all assignments as they are; any other change takes them away.
        let kept = if member.is_some() && !rejoins { self.assignment_bytes } else { 0 };
        let bytes = self.member_bytes - freed + joining_bytes(id, request) + kept;
        by_count && bytes <= self.settings.record_bytes_max
    }

    fn add_member(&mut self, now: Moment, ticket: Ticket, request: JoinGroup, id: String, out: &mut Outputs) {
        if self.state == GroupState::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = request.protocol_type;
        }
        let member = Member {
            instance_id: request.member.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            synced: true,
            deadline: now.after_ms(NEW_MEMBER_JOIN_TIMEOUT_MS),
            new: true,
        };
        tracing::info!(group = self.group_id, member = id, reason = request.reason, "a member joins");
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.member_bytes += member.record_bytes(&id);
        self.support.add(&member.protocols);
        self.joins_waiting += 1;
        self.next_look.no_later_than(member.deadline);
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a new member has an id of its own");
        self.rebalance_or_complete_join(now, out);
    }

    /// A member that rejoins waits under its new request.
    fn update_member(&mut self, id: &str, ticket: Ticket, request: JoinGroup, out: &mut Outputs) {
        let Some(member) = self.members.get_mut(id) else { return };
        self.member_bytes -= protocol_bytes(&member.protocols);
        self.member_bytes += protocol_bytes(&request.protocols);
        self.support.remove(&member.protocols);
        self.support.add(&request.protocols);
        member.protocols = request.protocols;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        match member.awaiting_join.replace(ticket) {
            Some(earlier) => out.reply(earlier, Reply::Join(Err(JoinGroupError::RebalanceInProgress))),
            None => self.joins_waiting += 1,
        }
    }

    fn rebalance_or_complete_join(&mut self, now: Moment, out: &mut Outputs) {
        if self.state == GroupState::PreparingRebalance {
            self.complete_join_if_all_joined(now, out);
        } else {
            self.prepare_rebalance(now, out);
        }
    }

    /// A static member came back under a new member id: the old id is fenced, its assignment stays. A stable group
    /// whose protocol does not change is not rebalanced.
    fn replace_static_member(
        &mut self,
        now: Moment,
        ticket: Ticket,
        request: JoinGroup,
        old: &str,
        id: String,
        out: &mut Outputs,
    ) {
        let leader_before = self.leader.clone();
        let supports_skipping = request.supports_skipping_assignment;
        let Some(mut member) = self.members.remove(old) else { return };
        tracing::info!(group = self.group_id, member = id, old, "a static member is back");
        self.member_bytes -= member.record_bytes(old);
        if let Some(fenced) = member.awaiting_join.take() {
            self.joins_waiting -= 1;
            out.reply(fenced, Reply::Join(Err(JoinGroupError::FencedInstanceId)));
        }
        if let Some(fenced) = member.awaiting_sync.take() {
            out.reply(fenced, Reply::Sync(Err(crate::groups::api::SyncGroupError::FencedInstanceId)));
        }
        if leader_before.as_deref() == Some(old) {
            self.leader = Some(id.clone());
        }
        // As one that rejoins: while the group gathers, no session runs out.
        member.new = false;
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.support.remove(&member.protocols);
        self.support.add(&request.protocols);
        member.protocols = request.protocols;
        member.begin_session(now, &mut self.next_look);
        member.awaiting_join = Some(ticket);
        self.joins_waiting += 1;
        self.member_bytes += member.record_bytes(&id);
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);

        match self.state {
            GroupState::Stable if self.protocol == self.select_protocol() => {
                out.persist = true;
                self.stop_waiting_in_join(&id);
                let leads = self.is_leader(&id);
                let joined = if supports_skipping {
                    Joined { skip_assignment: leads, ..self.joined(&id, leads) }
                } else {
                    // The old leader id keeps a member that cannot skip from assigning again.
                    Joined { leader: leader_before.unwrap_or_default(), ..self.joined(&id, false) }
                };
                out.reply(ticket, Reply::Join(Ok(joined)));
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now, out),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now, out),
            GroupState::Empty | GroupState::Dead => unreachable!("a group with a static member is not empty"),
        }
    }

    fn stop_waiting_in_join(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id)
            && member.awaiting_join.take().is_some()
        {
            self.joins_waiting -= 1;
        }
    }

    /// Answers a join with the generation as it is.
    fn tell_generation(&self, id: &str, ticket: Ticket, out: &mut Outputs) {
        out.reply(ticket, Reply::Join(Ok(self.joined(id, self.is_leader(id)))));
    }

    /// The answer to a member's join; all members' metadata is in it for the one who assigns.
    pub(super) fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if with_members { self.joined_members(&protocol) } else { Vec::new() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol,
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            members,
            skip_assignment: false,
        }
    }

    fn joined_members(&self, protocol: &str) -> Vec<JoinedMember> {
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }
}
