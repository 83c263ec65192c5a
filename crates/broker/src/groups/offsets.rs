//! Committed offsets: written in the name of a member or from outside the group, read, deleted.

use std::collections::BTreeSet;

use record::{LeaderEpoch, Partition, StreamOffset, TimestampMs, TopicId};
use replica::Replica;
use shard::commands::{CommitCheck, DeleteOffsets};
use shard::{CommittedOffset, OffsetKey, Outcome};

use super::api::{
    CommitOffsetError, CommitOffsets, CommitOffsetsError, CoordinatorError, DeleteOffsetError, DeleteOffsetsError,
    FetchOffsetsError, FetchedOffset, GroupState, OffsetToCommit, OffsetsCommitted,
};
use super::group::{coordinator_error, moment};
use super::machine::Machine;
use super::service::{Found, Groups, Inner, is_storable};
use super::tenure::{ELSEWHERE, tenure};

/// Offsets of one command: with the largest metadata far below what a command may have.
const OFFSETS_PER_COMMAND: usize = 500;

impl Groups {
    /// Ends when the offsets are durable. One answer per offset, in order.
    pub async fn commit(&self, request: CommitOffsets) -> Result<OffsetsCommitted, CommitOffsetsError> {
        let CommitOffsets { group_id, member, generation, offsets } = request;
        if !is_storable(&group_id) {
            return Err(CommitOffsetsError::InvalidGroupId);
        }
        let check = |machine: &mut Machine, now| machine.check_commit(now, &member, generation);
        let mut new = false;
        let replica = match self.inner.find(&group_id).await? {
            Found::Open(group) => {
                group.with(check)??;
                group.replica.clone()
            }
            Found::Idle(mut machine, replica) => {
                let checked = check(&mut machine, moment(self.inner.started()));
                checked.map_err(|error| unknown_to(&replica, &group_id, error))?;
                new = !machine.exists();
                replica
            }
        };
        let answers: OffsetsCommitted = offsets.iter().map(|offset| self.inner.check_offset(offset)).collect();
        let now = TimestampMs(self.inner.wall_clock_ms());
        let accepted: Vec<CommittedOffset> = offsets
            .into_iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok())
            .map(|(offset, _)| CommittedOffset {
                topic: offset.topic,
                partition: Partition(offset.partition),
                offset: StreamOffset(offset.offset),
                leader_epoch: LeaderEpoch(offset.leader_epoch),
                metadata: offset.metadata,
                commit_time: now,
            })
            .collect();
        if new && !accepted.is_empty() {
            self.inner.make_room_for_new(&replica, &group_id)?;
        }
        self.inner.make_room_for_offsets(&replica, &group_id, &accepted)?;
        let check = (generation >= 0).then_some(CommitCheck {
            member_id: member.member_id,
            instance_id: member.instance_id,
            generation,
        });
        let pending: Vec<_> = accepted
            .chunks(OFFSETS_PER_COMMAND)
            .map(|offsets| {
                let (group_id, check, offsets) = (group_id.clone(), check.clone(), offsets.to_vec());
                let command = shard::commands::CommitOffsets { group_id, check, offsets };
                replica.propose(command.into())
            })
            .collect();
        for pending in pending {
            match pending.await.map_err(|error| coordinator_error(&error))? {
                Outcome::CommitOffsets(result) => result.map_err(refused)?,
                // What was checked here was so before the slot left; whoever has it now decides.
                Outcome::GroupElsewhere => return Err(ELSEWHERE.into()),
                other => unreachable!("a commit has its own outcome, not {other:?}"),
            }
        }
        Ok(answers)
    }

    /// The named partitions in order, or (`None`) every offset the group has, by topic id and partition. An unknown
    /// group has none.
    pub async fn fetch_offsets(
        &self,
        group_id: &str,
        partitions: Option<&[(TopicId, i32)]>,
    ) -> Result<Vec<FetchedOffset>, FetchOffsetsError> {
        let (replica, _) = self.inner.coordinate(group_id).await?;
        let state = replica.state();
        // A slot that has left meanwhile may have gone on elsewhere.
        tenure(&state, group_id)?;
        let Some(partitions) = partitions else { return Ok(state.offsets(group_id).map(fetched).collect()) };
        let of = |(topic, partition): &(TopicId, i32)| {
            let none = FetchedOffset {
                topic: *topic,
                partition: *partition,
                offset: -1,
                leader_epoch: -1,
                metadata: String::new(),
            };
            state.offset(group_id, *topic, Partition(*partition)).map_or(none, fetched)
        };
        Ok(partitions.iter().map(of).collect())
    }

    /// One answer per partition, in order. A group of consumers keeps the offsets of topics it is subscribed to.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: &[(TopicId, i32)],
    ) -> Result<Vec<Result<(), DeleteOffsetError>>, DeleteOffsetsError> {
        let topics: BTreeSet<TopicId> = partitions.iter().map(|(topic, _)| *topic).collect();
        let subscribed = |machine: &Machine| -> Result<BTreeSet<TopicId>, DeleteOffsetsError> {
            if machine.state() == GroupState::Empty {
                return Ok(BTreeSet::new());
            }
            if !machine.is_consumers() {
                return Err(DeleteOffsetsError::NonEmptyGroup);
            }
            let name = |topic: TopicId| self.inner.topics.by_id(topic).map(|topic| topic.name.to_string());
            let named = |topic: &TopicId| name(*topic).is_some_and(|name| machine.is_subscribed_to(&name));
            Ok(topics.iter().copied().filter(named).collect())
        };
        let (subscribed, exists, replica) = match self.inner.find(group_id).await? {
            Found::Open(group) => (group.with(|machine, _| subscribed(machine))?, true, group.replica.clone()),
            Found::Idle(machine, replica) => (subscribed(&machine), machine.exists(), replica),
        };
        let subscribed = subscribed?;
        if !exists && replica.state().group(group_id).is_none() {
            return Err(DeleteOffsetsError::GroupIdNotFound);
        }
        let answers: Vec<Result<(), DeleteOffsetError>> = partitions
            .iter()
            .map(|(topic, partition)| {
                if !self.inner.is_partition(*topic, *partition) {
                    Err(DeleteOffsetError::UnknownTopicOrPartition)
                } else if subscribed.contains(topic) {
                    Err(DeleteOffsetError::GroupSubscribedToTopic)
                } else {
                    Ok(())
                }
            })
            .collect();
        let keys: Vec<OffsetKey> = partitions
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok())
            .map(|((topic, partition), _)| OffsetKey { topic: *topic, partition: Partition(*partition) })
            .collect();
        if !keys.is_empty() {
            let command = DeleteOffsets::Group { group_id: group_id.to_owned(), partitions: keys };
            let outcome = replica.propose(command.into()).await.map_err(|error| coordinator_error(&error))?;
            match outcome {
                Outcome::DeleteOffsets { .. } => {}
                Outcome::GroupElsewhere => return Err(ELSEWHERE.into()),
                other => unreachable!("a deletion has its own outcome, not {other:?}"),
            }
        }
        Ok(answers)
    }
}

impl Inner {
    /// Before offsets are stored for a group that has no members: a group that has none yet is one more.
    fn make_room_for_new(&self, replica: &Replica, group_id: &str) -> Result<(), CoordinatorError> {
        if replica.state().group(group_id).is_some() {
            return Ok(());
        }
        self.check_room_for_new(group_id, replica)?;
        self.note_added(replica);
        Ok(())
    }

    /// Before offsets are stored: those of all groups together take only so much. Whoever stores new positions over
    /// old ones is not held up.
    fn make_room_for_offsets(
        &self,
        replica: &Replica,
        group_id: &str,
        offsets: &[CommittedOffset],
    ) -> Result<(), CoordinatorError> {
        if self.stored.take_offsets(replica, group_id, offsets, self.config.group_offset_bytes_max) {
            return Ok(());
        }
        self.offsets_refused.notify_waiters();
        Err(CoordinatorError::Unavailable("the node holds as many committed offsets as it may"))
    }

    fn check_offset(&self, offset: &OffsetToCommit) -> Result<(), CommitOffsetError> {
        if !self.is_partition(offset.topic, offset.partition) {
            return Err(CommitOffsetError::UnknownTopicOrPartition);
        }
        let bytes_max = usize::try_from(self.config.offset_metadata_bytes_max).unwrap_or(0);
        if offset.metadata.len() > bytes_max {
            return Err(CommitOffsetError::OffsetMetadataTooLarge);
        }
        Ok(())
    }

    fn is_partition(&self, topic: TopicId, partition: i32) -> bool {
        self.topics.by_id(topic).is_some_and(|topic| (0..topic.partition_count()).contains(&partition))
    }
}

/// A group that has offsets exists, though it has no members.
fn unknown_to(replica: &Replica, group_id: &str, error: CommitOffsetsError) -> CommitOffsetsError {
    let has_offsets = || replica.state().group(group_id).is_some();
    match error {
        CommitOffsetsError::GroupIdNotFound if has_offsets() => CommitOffsetsError::UnknownMemberId,
        error => error,
    }
}

fn fetched(committed: &CommittedOffset) -> FetchedOffset {
    FetchedOffset {
        topic: committed.topic,
        partition: committed.partition.0,
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch.0,
        metadata: committed.metadata.clone(),
    }
}

fn refused(error: shard::CommitOffsetsError) -> CommitOffsetsError {
    match error {
        shard::CommitOffsetsError::UnknownGroup => CommitOffsetsError::GroupIdNotFound,
        shard::CommitOffsetsError::UnknownMember => CommitOffsetsError::UnknownMemberId,
        shard::CommitOffsetsError::FencedInstance => CommitOffsetsError::FencedInstanceId,
        shard::CommitOffsetsError::IllegalGeneration { .. } => CommitOffsetsError::IllegalGeneration,
        shard::CommitOffsetsError::RebalanceInProgress => CommitOffsetsError::RebalanceInProgress,
    }
}
