//! Whether the slots of groups are here: they go to other shards when the cluster grows.
//!
//! A shard that has closed a slot says so in its state, and so does one that does not have all of it yet. Who
//! coordinates a group goes by that, not by its copy of the metadata alone, which may be behind: a group that is
//! elsewhere is never taken for one that does not exist.

use record::ShardId;
use replica::{Replica, StateGuard};
use shard::{SLOTS, SlotMoveId, slot_of};

use super::api::CoordinatorError;
use super::group::Group;
use super::service::Inner;

/// By which move each slot of a shard is here; `None` for those that are not, or not for all to see.
pub(super) type Tenures = Vec<Option<SlotMoveId>>;

/// The group is, or comes to be, somewhere else; its clients look for it again.
pub(super) const ELSEWHERE: CoordinatorError = CoordinatorError::NotCoordinator { leader: None };

/// The move by which the group's slot is here.
pub(super) fn tenure(state: &StateGuard<'_>, group_id: &str) -> Result<SlotMoveId, CoordinatorError> {
    state.slot_tenure(slot_of(group_id)).ok_or(ELSEWHERE)
}

impl Group {
    /// Whether the slot is here as it was when the group was loaded. Otherwise another shard may have changed it.
    pub(super) fn is_held(&self) -> bool {
        self.replica.state().slot_tenure(slot_of(&self.id)) == Some(self.tenure)
    }
}

impl Inner {
    /// Sends a group away whose slot has left its shard.
    pub(super) fn check_held(&self, group: &Group) -> Result<(), CoordinatorError> {
        let is_here = self.cluster.slot_shard(&group.id) == group.replica.shard_id();
        if is_here && group.is_held() {
            return Ok(());
        }
        group.close(ELSEWHERE);
        Err(ELSEWHERE)
    }

    /// What this node answers for on a shard: what is here, and is so by the metadata, too, so that members know.
    pub(super) fn tenures(&self, replica: &Replica) -> Tenures {
        let shard = replica.shard_id();
        let ours: Vec<bool> = {
            let metadata = self.cluster.metadata();
            (0..SLOTS).map(|slot| metadata.slot_shard(slot) == Some(shard)).collect()
        };
        // One lock at a time.
        let state = replica.state();
        (0..SLOTS).zip(ours).map(|(slot, ours)| state.slot_tenure(slot).filter(|_| ours)).collect()
    }

    /// Whether the group is to be listed by the leader of that shard: from when the shard has all of it, until
    /// everybody who looks finds it elsewhere.
    pub(super) fn is_listed(&self, group_id: &str, shard: ShardId, tenure: Option<SlotMoveId>) -> bool {
        tenure.is_some() || self.cluster.slot_shard(group_id) == shard
    }
}
