//! One member of a group, as the coordinator sees it.

use bytes::Bytes;

use super::event::{Moment, Ticket};
use crate::groups::api::JoinGroup;

/// Fixed bytes of a member in the group's record, estimated from above.
const MEMBER_OVERHEAD_BYTES: usize = 64;
/// The same for each protocol.
const PROTOCOL_OVERHEAD_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Preferred first; the metadata is opaque.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// Opaque.
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<Ticket>,
    pub(super) awaiting_sync: Option<Ticket>,
    /// Its sync of the current generation has come, or none is due.
    pub(super) synced: bool,
    /// When its session ends; moved by heartbeats.
    pub(super) deadline: Moment,
    /// It has never been told its id by a completed join.
    pub(super) new: bool,
}

impl Member {
    /// A member that waits for the coordinator needs no heartbeat, except one that may be long gone because it does
    /// not even know its id.
    pub(super) fn can_expire(&self) -> bool {
        self.new || (self.awaiting_join.is_none() && self.awaiting_sync.is_none())
    }

    /// The member supports the same protocols with the same metadata.
    pub(super) fn matches(&self, protocols: &[(String, Bytes)]) -> bool {
        self.protocols == protocols
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Its part of the record's bytes, without the assignment.
    pub(super) fn record_bytes(&self, id: &str) -> usize {
        let instance_bytes = self.instance_id.as_deref().map_or(0, str::len);
        bytes(id, instance_bytes, &self.client_id, &self.client_host, &self.protocols)
    }
}

/// What [`Member::record_bytes`] says of the member that this request makes.
pub(super) fn joining_bytes(id: &str, request: &JoinGroup) -> usize {
    let instance_bytes = request.member.instance_id.as_deref().map_or(0, str::len);
    bytes(id, instance_bytes, &request.client_id, &request.client_host, &request.protocols)
}

fn bytes(id: &str, instance: usize, client_id: &str, client_host: &str, protocols: &[(String, Bytes)]) -> usize {
    MEMBER_OVERHEAD_BYTES + id.len() + instance + client_id.len() + client_host.len() + protocol_bytes(protocols)
}

/// What the protocols take in the record.
pub(super) fn protocol_bytes(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| PROTOCOL_OVERHEAD_BYTES + name.len() + metadata.len()).sum()
}
