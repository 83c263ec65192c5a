//! Which protocol a generation uses: only one that all members support, and among those the one that most members
//! prefer. Equal votes go to the one that the first member (by id) lists first.
//!
//! Members say how many protocols they have and how they are called: nothing here takes longer than the names are many.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Machine;
use crate::groups::api::GroupState;

/// Protocols of one member; clients have a handful.
const PROTOCOLS_MAX: usize = 100;
/// The longest name of a protocol or of its type.
const NAME_BYTES_MAX: usize = 1_024;

/// How many members support each protocol.
#[derive(Debug, Default)]
pub(super) struct Support {
    members: BTreeMap<String, usize>,
}

impl Support {
    pub(super) fn add(&mut self, protocols: &[(String, Bytes)]) {
        for name in distinct(protocols) {
            match self.members.get_mut(name) {
                Some(count) => *count += 1,
                None => drop(self.members.insert(name.to_owned(), 1)),
            }
        }
    }

    /// `protocols` MUST have been added before.
    pub(super) fn remove(&mut self, protocols: &[(String, Bytes)]) {
        for name in distinct(protocols) {
            let count = self.members.get_mut(name).expect("a member's protocols are counted");
            *count -= 1;
            if *count == 0 {
                self.members.remove(name);
            }
        }
    }

    /// The members that support the protocol.
    fn of(&self, name: &str) -> usize {
        self.members.get(name).copied().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

fn distinct(protocols: &[(String, Bytes)]) -> BTreeSet<&str> {
    protocols.iter().map(|(name, _)| name.as_str()).collect()
}

impl Machine {
    /// Whether a member with these protocols can be in the group together with those who are.
    pub(super) fn supports_protocols(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() || protocols.len() > PROTOCOLS_MAX {
            return false;
        }
        if protocol_type.len() > NAME_BYTES_MAX || protocols.iter().any(|(name, _)| name.len() > NAME_BYTES_MAX) {
            return false;
        }
        if self.state == GroupState::Empty {
            return true;
        }
        self.protocol_type == protocol_type
            && protocols.iter().any(|(name, _)| self.support.of(name) == self.members.len())
    }

    /// The protocol of the next generation; `None` if there is no member.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let all = self.members.len();
        let names = first.protocols.iter().map(|(name, _)| name.as_str());
        let candidates: Vec<&str> = names.filter(|name| self.support.of(name) == all).collect();
        // Of a name that is listed twice, the first place counts.
        let places: BTreeMap<&str, usize> = candidates.iter().enumerate().rev().map(|(at, name)| (*name, at)).collect();
        let mut votes = vec![0_usize; candidates.len()];
        for member in self.members.values() {
            let choice = member.protocols.iter().find_map(|(name, _)| places.get(name.as_str()));
            if let Some(choice) = choice {
                votes[*choice] += 1;
            }
        }
        let most = votes.iter().copied().max()?;
        let winner = votes.iter().position(|&count| count == most)?;
        Some(candidates[winner].to_owned())
    }
}
