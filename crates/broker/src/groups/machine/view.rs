//! The group as others may see it.

use super::Machine;
use crate::groups::api::{GroupDescription, GroupState, ListedGroup, MemberDescription};
use crate::groups::subscription;

impl Machine {
    /// Metadata and assignments are shown only while they are in force.
    pub(crate) fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = if stable { self.protocol.clone().unwrap_or_default() } else { String::new() };
        let members = self
            .members
            .iter()
            .map(|(id, member)| MemberDescription {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable { member.metadata(&protocol) } else { bytes::Bytes::new() },
                assignment: if stable { member.assignment.clone() } else { bytes::Bytes::new() },
            })
            .collect();
        GroupDescription {
            group_id: self.group_id.clone(),
            state: self.state,
            protocol_type: self.protocol_type.clone(),
            protocol,
            members,
        }
    }

    pub(crate) fn listed(&self) -> ListedGroup {
        ListedGroup { group_id: self.group_id.clone(), protocol_type: self.protocol_type.clone(), state: self.state }
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    #[cfg(test)]
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// The members speak the consumers' own protocol, whose metadata names the topics they subscribe to.
    pub(crate) fn is_consumers(&self) -> bool {
        self.protocol_type == subscription::PROTOCOL_TYPE
    }

    /// Whether some member's metadata names the topic. Metadata that cannot be read counts as naming every topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        let Some(protocol) = self.protocol.as_deref() else { return !self.members.is_empty() };
        self.members.values().any(|member| subscription::names(&member.metadata(protocol), topic).unwrap_or(true))
    }
}
