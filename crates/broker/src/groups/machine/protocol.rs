//! Which protocol a generation uses: only one that all members support, and among those the one that most members
//! prefer. Equal votes go to the one that the first member (by id) lists first.

use bytes::Bytes;

use super::Machine;
use crate::groups::api::GroupState;

impl Machine {
    /// Whether a member with these protocols can be in the group together with those who are.
    pub(super) fn supports_protocols(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.state == GroupState::Empty {
            return true;
        }
        self.protocol_type == protocol_type
            && protocols.iter().any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    /// The protocol of the next generation; `None` if there is no member.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let candidates: Vec<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let mut votes = vec![0_usize; candidates.len()];
        for member in self.members.values() {
            let choice =
                member.protocols.iter().find_map(|(name, _)| candidates.iter().position(|candidate| candidate == name));
            if let Some(choice) = choice {
                votes[choice] += 1;
            }
        }
        let most = votes.iter().copied().max()?;
        let winner = votes.iter().position(|&count| count == most)?;
        Some(candidates[winner].to_owned())
    }
}
