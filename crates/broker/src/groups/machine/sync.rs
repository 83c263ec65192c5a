//! Syncing: the leader's assignment reaches every member, byte for byte.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Machine;
use super::event::{Moment, Outputs, Reply, Ticket};
use crate::groups::api::{GroupState, SyncGroup, SyncGroupError, Synced};

impl Machine {
    pub(super) fn sync(&mut self, now: Moment, ticket: Ticket, request: SyncGroup, out: &mut Outputs) {
        if let Err(error) = self.check_sync(&request) {
            out.reply(ticket, Reply::Sync(Err(error)));
            return;
        }
        let id = request.member.member_id.clone();
        self.note_sync(&id);
        match self.state {
            GroupState::Stable => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.begin_session(now, &mut self.next_look);
                }
                if self.syncs_missing == 0 {
                    self.sync_deadline = None;
                }
                out.reply(ticket, Reply::Sync(Ok(self.synced(&id))));
            }
            GroupState::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(&id)
                    && let Some(earlier) = member.awaiting_sync.replace(ticket)
                {
                    out.reply(earlier, Reply::Sync(Err(SyncGroupError::RebalanceInProgress)));
                }
                if self.is_leader(&id) {
                    self.take_assignment(now, request.assignments, out);
                }
            }
            GroupState::Empty | GroupState::PreparingRebalance | GroupState::Dead => {
                unreachable!("the check refuses other states")
            }
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), SyncGroupError> {
        self.validate_member(&request.member)?;
        if request.generation != self.generation {
            return Err(SyncGroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<String>, is: &str| asked.as_deref().is_some_and(|asked| asked != is);
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, self.protocol.as_deref().unwrap_or_default())
        {
            return Err(SyncGroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(SyncGroupError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(SyncGroupError::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                let bytes: usize = request.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
                if self.is_leader(&request.member.member_id)
                    && self.member_bytes + bytes > self.settings.record_bytes_max
                {
                    return Err(SyncGroupError::AssignmentTooLarge);
                }
                Ok(())
            }
            GroupState::Stable => Ok(()),
        }
    }

    fn note_sync(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id)
            && !member.synced
        {
            member.synced = true;
            self.syncs_missing -= 1;
        }
    }

    /// The leader has decided: everyone who waits gets its part. Whoever the leader left out gets nothing, and
    /// assignments for others than members are ignored.
    fn take_assignment(&mut self, now: Moment, assignments: Vec<(String, Bytes)>, out: &mut Outputs) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        self.state = GroupState::Stable;
        out.persist = true;
        if self.syncs_missing == 0 {
            self.sync_deadline = None;
        }
        let mut waiting = Vec::new();
        self.assignment_bytes = 0;
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            self.assignment_bytes += member.assignment.len();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.begin_session(now, &mut self.next_look);
                waiting.push((id.clone(), ticket));
            }
        }
        tracing::info!(group = self.group_id, generation = self.generation, "the group is stable");
        for (id, ticket) in waiting {
            out.reply(ticket, Reply::Sync(Ok(self.synced(&id))));
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.assignment_of(id),
        }
    }
}
