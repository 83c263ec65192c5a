//! Groups as administrators see and delete them.

use std::collections::{BTreeMap, BTreeSet};

use shard::commands::DeleteGroup;
use shard::{GroupView, Outcome, SlotMoveId, slot_of};

use super::api::{DeleteGroupError, DescribeGroupError, GroupDescription, GroupState, ListedGroup};
use super::group::coordinator_error;
use super::service::{Found, Groups};
use super::tenure::ELSEWHERE;

impl Groups {
    /// A group that only has committed offsets is empty and has no protocol type.
    pub async fn describe(&self, group_id: &str) -> Result<GroupDescription, DescribeGroupError> {
        match self.inner.find(group_id).await? {
            Found::Open(group) => Ok(group.with(|machine, _| machine.describe())?),
            Found::Idle(machine, replica) if machine.exists() || replica.state().group(group_id).is_some() => {
                Ok(machine.describe())
            }
            Found::Idle(..) => Err(DescribeGroupError::GroupIdNotFound { group_id: group_id.to_owned() }),
        }
    }

    /// All groups that this node coordinates, by id.
    pub async fn list(&self) -> Vec<ListedGroup> {
        let mut listed = BTreeMap::new();
        let mut shards = BTreeSet::new();
        for replica in self.inner.cluster.replicas().iter().filter(|replica| replica.is_leader()) {
            // Another node lists the groups of a shard that is led elsewhere by now.
            if replica.read_barrier().await.is_err() {
                continue;
            }
            let shard = replica.shard_id();
            shards.insert(shard);
            let groups: Vec<(ListedGroup, Option<SlotMoveId>)> = {
                let state = replica.state();
                let tenure = |id: &str| state.slot_tenure(slot_of(id));
                state.groups().into_iter().map(|view| (stored(view), tenure(view.id))).collect()
            };
            let ours =
                groups.into_iter().filter(|(group, tenure)| self.inner.is_listed(&group.group_id, shard, *tenure));
            listed.extend(ours.map(|(group, _)| (group.group_id.clone(), group)));
        }
        for group in self.inner.all_in_use().iter().filter(|group| shards.contains(&group.replica.shard_id())) {
            if let Ok(Some(group)) = group.with(|machine, _| machine.exists().then(|| machine.listed())) {
                listed.insert(group.group_id.clone(), group);
            }
        }
        listed.into_values().collect()
    }

    /// Deletes a group without members, and its offsets.
    pub async fn delete(&self, group_id: &str) -> Result<(), DeleteGroupError> {
        let (state, replica) = match self.inner.find(group_id).await? {
            Found::Open(group) => (group.with(|machine, _| machine.state())?, group.replica.clone()),
            Found::Idle(machine, replica) => (machine.state(), replica),
        };
        if state != GroupState::Empty {
            return Err(DeleteGroupError::NonEmptyGroup);
        }
        // Whoever joins at this moment comes before or after, never between: its record would name another version.
        self.inner.close_in_use(group_id);
        let command = DeleteGroup { group_id: group_id.to_owned() };
        match replica.propose(command.into()).await.map_err(|error| coordinator_error(&error))? {
            Outcome::DeleteGroup(Ok(())) => Ok(()),
            Outcome::DeleteGroup(Err(shard::DeleteGroupError::NotFound)) => Err(DeleteGroupError::GroupIdNotFound),
            Outcome::DeleteGroup(Err(shard::DeleteGroupError::NotEmpty)) => Err(DeleteGroupError::NonEmptyGroup),
            Outcome::GroupElsewhere => Err(ELSEWHERE.into()),
            other => unreachable!("a deletion has its own outcome, not {other:?}"),
        }
    }
}

fn stored(view: GroupView<'_>) -> ListedGroup {
    let record = view.record;
    ListedGroup {
        group_id: view.id.to_string(),
        protocol_type: record.map(|record| record.protocol_type.clone()).unwrap_or_default(),
        state: match record.map(|record| record.state) {
            None | Some(shard::GroupState::Empty) => GroupState::Empty,
            Some(shard::GroupState::PreparingRebalance) => GroupState::PreparingRebalance,
            Some(shard::GroupState::CompletingRebalance) => GroupState::CompletingRebalance,
            Some(shard::GroupState::Stable) => GroupState::Stable,
        },
    }
}
