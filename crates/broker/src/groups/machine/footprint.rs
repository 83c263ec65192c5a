//! What a group takes in memory, estimated from above, and by how much an event may make that more.

use super::member::{joining_bytes, protocol_bytes};
use super::{Event, Machine};
use crate::groups::api::{GroupState, JoinGroup, SyncGroup};

/// A group that is in use and has nobody in it: its driver, its tables, its place among the groups.
const GROUP_BYTES: usize = 1 << 10;
/// An id that was given out: the longest, and its place in the table.
const PENDING_BYTES: usize = 384;

/// What a join may take of a group that is not in use yet.
pub(crate) fn join_bytes(request: &JoinGroup) -> usize {
    let id_bytes = PENDING_BYTES.max(request.member.member_id.len());
    GROUP_BYTES + 2 * request.group_id.len() + id_bytes + joining_bytes("", request)
}

impl Machine {
    pub(crate) fn bytes(&self) -> usize {
        let pending = self.pending.len() * PENDING_BYTES;
        GROUP_BYTES + 2 * self.group_id.len() + pending + self.member_bytes + self.assignment_bytes
    }

    /// At most so much is added to [`Machine::bytes`] when the event is taken.
    pub(crate) fn growth(&self, event: &Event) -> usize {
        match event {
            Event::Join { request, fresh_member_id, .. } => self.join_growth(request, fresh_member_id),
            Event::Sync { request, .. } => self.sync_growth(request),
            Event::Leave { .. } | Event::Tick => 0,
        }
    }

    fn join_growth(&self, request: &JoinGroup, fresh_member_id: &str) -> usize {
        let asked = &request.member;
        if asked.member_id.is_empty() && asked.instance_id.is_none() && request.requires_known_member_id {
            return PENDING_BYTES;
        }
        let (known, id) = if asked.member_id.is_empty() {
            let known = asked.instance_id.as_ref().and_then(|instance| self.instances.get(instance));
            (known.map(String::as_str), fresh_member_id)
        } else {
            (Some(asked.member_id.as_str()), asked.member_id.as_str())
        };
        match known.and_then(|known| Some((known, self.members.get(known)?))) {
            // What else it says of itself is not taken over.
            Some((known, member)) if known == id => {
                protocol_bytes(&request.protocols).saturating_sub(protocol_bytes(&member.protocols))
            }
            Some((known, member)) => joining_bytes(id, request).saturating_sub(member.record_bytes(known)),
            None => joining_bytes(id, request),
        }
    }

    fn sync_growth(&self, request: &SyncGroup) -> usize {
        if self.state != GroupState::CompletingRebalance || !self.is_leader(&request.member.member_id) {
            return 0;
        }
        request.assignments.iter().map(|(_, assignment)| assignment.len()).sum()
    }
}
