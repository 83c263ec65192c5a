//! Groups and their offsets, under the rules of Kafka's classic groups.

use bytes::Bytes;
use record::{LeaderEpoch, Partition, StreamOffset, TimestampMs, TopicId};

use super::harness::Node;
use crate::commands::{CommitCheck, CommitOffsets, DeleteGroup, DeleteOffsets, PutGroup};
use crate::{
    CommitOffsetsError, CommittedOffset, DeleteGroupError, GroupRecord, GroupState, GroupVersion, Member, OffsetKey,
    Outcome, PutGroupError,
};

fn record(state: GroupState, generation: i32, members: &[(&str, Option<&str>)]) -> GroupRecord {
    let member = |(id, instance): &(&str, Option<&str>)| Member {
        id: (*id).to_owned(),
        instance_id: instance.map(str::to_owned),
        assignment: Bytes::from_static(b"\0\xff"),
        ..Member::default()
    };
    GroupRecord {
        group_id: "g".to_owned(),
        generation,
        state,
        members: members.iter().map(member).collect(),
        ..GroupRecord::default()
    }
}

fn put(node: &mut Node, record: GroupRecord, expected: u64) -> Result<GroupVersion, PutGroupError> {
    match node.one(PutGroup { group: record, expected: GroupVersion(expected) }) {
        Outcome::PutGroup(result) => result,
        other => panic!("{other:?}"),
    }
}

fn offset(topic: u128, partition: i32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic: TopicId(topic),
        partition: Partition(partition),
        offset: StreamOffset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "märk".to_owned(),
        commit_time: TimestampMs(1),
    }
}

fn commit(node: &mut Node, check: Option<(&str, Option<&str>, i32)>) -> Result<(), CommitOffsetsError> {
    let check = check.map(|(member, instance, generation)| CommitCheck {
        member_id: member.to_owned(),
        instance_id: instance.map(str::to_owned),
        generation,
    });
    match node.one(CommitOffsets { group_id: "g".to_owned(), check, offsets: vec![offset(1, 0, 5)] }) {
        Outcome::CommitOffsets(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_stored_only_over_the_version_that_was_seen() {
    let mut node = Node::default();
    let first = put(&mut node, record(GroupState::Empty, 0, &[]), 0).unwrap();
    let conflict = PutGroupError::Conflict { expected: GroupVersion(0), actual: first };
    assert_eq!(put(&mut node, record(GroupState::Empty, 1, &[]), 0), Err(conflict));
    let second = put(&mut node, record(GroupState::Empty, 1, &[]), first.0).unwrap();
    assert!(second > first);
    assert_eq!(node.shard.group("g").unwrap().record.unwrap().generation, 1);
    node.one(DeleteGroup { group_id: "g".to_owned() });
    let third = put(&mut node, record(GroupState::Empty, 1, &[]), 0).unwrap();
    assert!(third > second, "a version is never used again");
}

#[test]
fn commits_follow_the_rules_of_classic_groups() {
    use CommitOffsetsError::{FencedInstance, IllegalGeneration, RebalanceInProgress, UnknownGroup, UnknownMember};
    let mut node = Node::default();
    assert_eq!(commit(&mut node, Some(("m", None, 0))), Err(UnknownGroup));
    assert_eq!(commit(&mut node, None), Ok(()), "a group comes to be by a commit from outside");
    assert_eq!(commit(&mut node, Some(("", None, -1))), Ok(()));
    assert_eq!(commit(&mut node, Some(("m", None, 0))), Err(UnknownMember), "it exists now, without members");
    let mut version = put(&mut node, record(GroupState::Stable, 3, &[("m", None), ("s", Some("i"))]), 0).unwrap();
    assert_eq!(commit(&mut node, None), Err(UnknownMember));
    assert_eq!(commit(&mut node, Some(("x", None, 3))), Err(UnknownMember));
    assert_eq!(commit(&mut node, Some(("m", None, 2))), Err(IllegalGeneration { current: 3 }));
    assert_eq!(commit(&mut node, Some(("m", None, -1))), Err(IllegalGeneration { current: 3 }));
    assert_eq!(commit(&mut node, Some(("m", None, 3))), Ok(()));
    assert_eq!(commit(&mut node, Some(("m", Some("i"), 3))), Err(FencedInstance));
    assert_eq!(commit(&mut node, Some(("s", Some("j"), 3))), Err(UnknownMember));
    assert_eq!(commit(&mut node, Some(("s", Some("i"), 3))), Ok(()));
    for (state, expected) in [
        (GroupState::PreparingRebalance, Ok(())),
        (GroupState::CompletingRebalance, Err(RebalanceInProgress)),
        (GroupState::Empty, Ok(())),
    ] {
        version = put(&mut node, record(state, 3, &[("m", None)]), version.0).unwrap();
        assert_eq!(commit(&mut node, Some(("m", None, 3))), expected, "{state:?}");
    }
    put(&mut node, record(GroupState::Empty, 4, &[]), version.0).unwrap();
    assert_eq!(commit(&mut node, None), Ok(()));
}

#[test]
fn offsets_come_back_as_they_were_committed() {
    let mut node = Node::default();
    let offsets = vec![offset(2, 1, 7), offset(1, 3, 8), offset(1, 3, 9)];
    node.one(CommitOffsets { group_id: "g".to_owned(), check: None, offsets });
    assert_eq!(node.shard.offset("g", TopicId(1), Partition(3)), Some(&offset(1, 3, 9)));
    assert_eq!(node.shard.offsets("g").cloned().collect::<Vec<_>>(), [offset(1, 3, 9), offset(2, 1, 7)]);
    assert_eq!(node.shard.offset("g", TopicId(1), Partition(4)), None);
    assert_eq!(node.shard.offset("h", TopicId(1), Partition(3)), None);
    let view = node.shard.group("g").unwrap();
    assert_eq!((view.version, view.record.is_none(), view.offsets), (GroupVersion(0), true, 2));
}

#[test]
fn a_group_goes_with_its_last_offset_unless_it_has_a_record() {
    let mut node = Node::default();
    let commit = |node: &mut Node, group: &str| {
        node.one(CommitOffsets {
            group_id: group.to_owned(),
            check: None,
            offsets: vec![offset(1, 0, 5), offset(2, 0, 5)],
        });
    };
    put(&mut node, record(GroupState::Empty, 0, &[]), 0).unwrap();
    commit(&mut node, "g");
    commit(&mut node, "h");
    let partitions = vec![OffsetKey { topic: TopicId(1), partition: Partition(0) }];
    let deleted = node.one(DeleteOffsets::Group { group_id: "h".to_owned(), partitions });
    assert_eq!(deleted, Outcome::DeleteOffsets { deleted: 1 });
    assert_eq!(node.one(DeleteOffsets::Topics { topics: vec![TopicId(2)] }), Outcome::DeleteOffsets { deleted: 2 });
    assert!(node.shard.group("h").is_none());
    assert_eq!(node.shard.group("g").unwrap().offsets, 1);
    node.one(DeleteOffsets::Topics { topics: vec![TopicId(1)] });
    assert_eq!(node.shard.groups().len(), 1);
}

#[test]
fn only_a_group_without_members_can_be_deleted() {
    let mut node = Node::default();
    let delete = |node: &mut Node| match node.one(DeleteGroup { group_id: "g".to_owned() }) {
        Outcome::DeleteGroup(result) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(delete(&mut node), Err(DeleteGroupError::NotFound));
    let version = put(&mut node, record(GroupState::Stable, 0, &[("m", None)]), 0).unwrap();
    assert_eq!(delete(&mut node), Err(DeleteGroupError::NotEmpty));
    put(&mut node, record(GroupState::Empty, 0, &[]), version.0).unwrap();
    commit(&mut node, None).unwrap();
    assert_eq!(delete(&mut node), Ok(()));
    assert_eq!(node.shard.offsets("g").count(), 0);
    assert_eq!(node.shard.groups.offsets.len(), 0);
}
