//! The groups in use on this node, by id: at most so many, and those that only gave out ids make room for the others.
//!
//! A handshake alone (KIP-394) opens a group and makes nothing durable. So that nobody can fill the node with such
//! groups, the oldest of them is let go when there are too many: whoever was given an id there is told that it is
//! unknown, and asks for another one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use super::api::CoordinatorError;
use super::group::Group;

/// Ids are the clients' choice: hence a tree.
#[derive(Debug)]
pub(super) struct InUse {
    groups: BTreeMap<String, Arc<Group>>,
    /// Groups that had no members when they came into use, the oldest first. Most have some by now, or are gone.
    unjoined: VecDeque<Weak<Group>>,
    pub(super) stopped: bool,
    groups_max: usize,
    unjoined_max: usize,
}

impl InUse {
    pub(super) fn new(groups_max: usize, unjoined_max: usize) -> Self {
        Self { groups: BTreeMap::new(), unjoined: VecDeque::new(), stopped: false, groups_max, unjoined_max }
    }

    /// The group, if it is in use; a closed one that still waits for its proposals is nobody's.
    pub(super) fn find(&self, group_id: &str) -> Result<Option<Arc<Group>>, CoordinatorError> {
        if self.stopped {
            return Err(CoordinatorError::NotCoordinator { leader: None });
        }
        match self.groups.get(group_id) {
            Some(group) if group.is_closed() => Err(CoordinatorError::Loading),
            Some(group) => Ok(Some(Arc::clone(group))),
            None => Ok(None),
        }
    }

    pub(super) fn get(&self, group_id: &str) -> Option<&Arc<Group>> {
        self.groups.get(group_id)
    }

    /// `group` MUST NOT be in use yet.
    pub(super) fn insert(&mut self, group: &Arc<Group>) -> Result<(), CoordinatorError> {
        let unjoined = !group.has_members();
        while self.groups.len() >= self.groups_max || (unjoined && self.unjoined.len() >= self.unjoined_max) {
            if !self.let_go_unjoined() {
                break;
            }
        }
        if self.groups.len() >= self.groups_max {
            return Err(CoordinatorError::Unavailable("this node coordinates as many groups as it may"));
        }
        if unjoined {
            self.unjoined.push_back(Arc::downgrade(group));
        }
        let before = self.groups.insert(group.id.clone(), Arc::clone(group));
        assert!(before.is_none(), "a group is in use once");
        Ok(())
    }

    /// Lets the oldest group go that only has ids, to make room for others; whether there was one.
    pub(super) fn let_go_unjoined(&mut self) -> bool {
        while let Some(oldest) = self.unjoined.pop_front() {
            if let Some(oldest) = oldest.upgrade()
                && oldest.close_if_unjoined()
            {
                self.remove(&oldest);
                return true;
            }
        }
        false
    }

    /// Takes the group out of use, if it is in it and no other is in its place.
    pub(super) fn remove(&mut self, group: &Group) {
        if self.groups.get(&group.id).is_some_and(|known| std::ptr::eq(known.as_ref(), group)) {
            self.groups.remove(&group.id);
        }
    }

    /// By id.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        self.groups.values().cloned().collect()
    }
}
