//! Slots that move from shard to shard with their groups, step by step.

use std::collections::BTreeSet;

use record::{LeaderEpoch, Partition, ShardId, StreamOffset, TimestampMs, TopicId};

use super::harness::{Node, dump};
use crate::commands::{
    AssignSlots, CloseSlots, CommitCheck, CommitOffsets, CompleteSlots, DeleteGroup, DeleteOffsets, DropSlots,
    MoveSlots, PutGroup, PutShards, ReceiveGroups, SlotRange,
};
use crate::{
    CloseSlotsError, Command, CommittedOffset, DropSlotsError, GroupRecord, GroupState, GroupVersion, Member,
    MoveSlotsError, Outcome, ReceiveGroupsError, ReceivedGroups, SLOTS, ShardRecord, SlotMoveId, slot_of,
};

const ONE: SlotMoveId = SlotMoveId(1);

pub(super) fn metadata(shards: u32) -> Node {
    let mut node = Node::default();
    let record = |id| ShardRecord { id: ShardId(id), voters: vec![record::NodeId(1)] };
    node.one(PutShards { shards: (0..=shards).map(record).collect() });
    node.one(AssignSlots { ranges: vec![SlotRange { first: 0, last: SLOTS - 1, shard: ShardId(1) }] });
    node
}

pub(super) fn offset(partition: i32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic: TopicId(1),
        partition: Partition(partition),
        offset: StreamOffset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "m".repeat(usize::try_from(offset.rem_euclid(9)).unwrap()),
        commit_time: TimestampMs(1),
    }
}

pub(super) fn stable(group_id: &str, generation: i32) -> GroupRecord {
    GroupRecord {
        group_id: group_id.to_owned(),
        generation,
        state: GroupState::Stable,
        members: vec![Member { id: "m".to_owned(), ..Member::default() }],
        ..GroupRecord::default()
    }
}

pub(super) fn commit(group_id: &str, generation: Option<i32>, offset: CommittedOffset) -> CommitOffsets {
    let check = |generation| CommitCheck { member_id: "m".to_owned(), instance_id: None, generation };
    CommitOffsets { group_id: group_id.to_owned(), check: generation.map(check), offsets: vec![offset] }
}

pub(super) fn slots_of(groups: &[&str]) -> Vec<u16> {
    let slots: BTreeSet<u16> = groups.iter().map(|group| slot_of(group)).collect();
    slots.into_iter().collect()
}

pub(super) fn begin(id: SlotMoveId, slots: &[u16]) -> ReceiveGroups {
    ReceiveGroups { id, slots: slots.to_vec(), after: None, groups: Vec::new(), last: false }
}

/// Moves a shard's slots whole, in pieces as small as they can be.
fn carry(from: &mut Node, to: &mut Node, id: SlotMoveId, slots: &[u16], bytes_max: usize) -> usize {
    let mut pieces = 0;
    let Outcome::ReceiveGroups(Ok(mut received)) = to.one(begin(id, slots)) else { panic!("begun") };
    assert_eq!(from.one(CloseSlots { id, slots: slots.to_vec() }), Outcome::CloseSlots(Ok(())));
    while !received.complete {
        let after = received.cursor;
        let piece = from.shard.moving_piece(id, slots, after.as_ref(), bytes_max).expect("closed");
        let command = ReceiveGroups { id, slots: slots.to_vec(), after, groups: piece.groups, last: piece.last };
        let Outcome::ReceiveGroups(Ok(next)) = to.one(command.clone()) else { panic!("taken in") };
        let before = dump(&to.shard);
        assert_eq!(to.one(command), Outcome::ReceiveGroups(Ok(next.clone())), "again, it changes nothing");
        // But for the entry's index, with which the dump begins.
        assert_eq!(dump(&to.shard)[17..], before[17..]);
        received = next;
        pieces += 1;
    }
    while let Outcome::DropSlots(left) = from.one(DropSlots { id, slots: slots.to_vec(), count_max: 1 })
        && left.expect("closed")
    {}
    pieces
}

#[test]
fn a_move_is_begun_for_slots_that_are_there_and_do_not_move() {
    let mut node = metadata(2);
    let mut begin = |slots: &[u16], from: u32, to: u32| match node.one(MoveSlots {
        slots: slots.to_vec(),
        from: ShardId(from),
        to: ShardId(to),
    }) {
        Outcome::MoveSlots(result) => result,
        other => panic!("{other:?}"),
    };
    let many: Vec<u16> = (0..33).collect();
    for slots in [&[][..], &[3, 3], &[4, 3], &[SLOTS], &many] {
        assert_eq!(begin(slots, 1, 2), Err(MoveSlotsError::OutOfRange), "{slots:?}");
    }
    assert_eq!(begin(&[3], 1, 9), Err(MoveSlotsError::UnknownShard));
    assert_eq!(begin(&[3], 2, 1), Err(MoveSlotsError::NotThere));
    assert_eq!(begin(&[3], 1, 1), Err(MoveSlotsError::NotThere));
    let first = begin(&[3, 4], 1, 2).expect("begun");
    assert_eq!(begin(&[4, 5], 1, 2), Err(MoveSlotsError::Moving));
    let second = begin(&[5], 1, 2).expect("begun");
    assert!(first < second);
    let complete = |node: &mut Node, dropped| node.one(CompleteSlots { id: first, dropped });
    assert_eq!(complete(&mut node, true), Outcome::CompleteSlots { completed: false }, "not before the switch");
    for (dropped, completed) in [(false, true), (false, false), (true, true), (true, false)] {
        let version = node.shard.metadata_version();
        assert_eq!(complete(&mut node, dropped), Outcome::CompleteSlots { completed });
        assert_eq!(node.shard.metadata_version() > version, completed, "the revision rises with it");
        let owners = [2, 3, 4, 5].map(|slot| node.shard.slot_shard(slot).unwrap().0);
        assert_eq!(owners, [1, 2, 2, 1]);
    }
    assert_eq!(node.shard.slot_moves().iter().map(|known| known.id).collect::<Vec<_>>(), [second]);
}

#[test]
fn a_group_goes_in_pieces_and_comes_back() {
    let (mut one, mut two) = (Node::default(), Node::default());
    let slots = slots_of(&["a", "b"]);
    for group in ["a", "c"] {
        one.one(PutGroup { group: stable(group, 7), expected: GroupVersion(0) });
    }
    for partition in 0..40 {
        one.one(commit("a", Some(7), offset(partition, i64::from(partition))));
        one.one(commit("b", None, offset(partition, 1)));
        one.one(commit("c", Some(7), offset(partition, 2)));
    }
    let expected: Vec<CommittedOffset> = one.shard.offsets("a").cloned().collect();
    assert_eq!(carry(&mut one, &mut two, ONE, &slots, 1), 81, "one record or offset each");
    assert!(one.shard.group("a").is_none() && one.shard.group("b").is_none() && one.shard.group("c").is_some());
    assert_eq!(two.shard.offsets("a").cloned().collect::<Vec<_>>(), expected);
    assert_eq!(two.shard.group("a").unwrap().record.unwrap().generation, 7);
    assert_eq!((two.shard.group("b").unwrap().offsets, two.shard.groups().len()), (40, 2));
    // Whoever does not know yet is told so for good, whatever it asks.
    let elsewhere: [Command; 4] = [
        PutGroup { group: stable("a", 8), expected: GroupVersion(0) }.into(),
        commit("b", None, offset(0, 9)).into(),
        DeleteGroup { group_id: "a".to_owned() }.into(),
        DeleteOffsets::Group { group_id: "b".to_owned(), partitions: Vec::new() }.into(),
    ];
    for command in elsewhere {
        assert_eq!(one.one(command), Outcome::GroupElsewhere);
    }
    assert_eq!((one.shard.slot_tenure(slots[0]), two.shard.slot_tenure(slots[0])), (None, Some(ONE)));
    assert_eq!(two.one(commit("a", Some(7), offset(3, 100))), Outcome::CommitOffsets(Ok(())));
    assert!(carry(&mut two, &mut one, SlotMoveId(2), &slots, 512) > 2);
    assert_eq!(one.shard.offset("a", TopicId(1), Partition(3)).unwrap().offset, StreamOffset(100));
    assert_eq!(one.one(commit("a", Some(7), offset(3, 101))), Outcome::CommitOffsets(Ok(())));
    assert!(two.shard.groups().is_empty());
}

#[test]
fn what_is_late_changes_nothing() {
    let (mut one, mut two) = (Node::default(), Node::default());
    let slots = slots_of(&["a"]);
    one.one(commit("a", None, offset(0, 1)));
    let close = |id| CloseSlots { id, slots: slots.clone() };
    let drop = |id| DropSlots { id, slots: slots.clone(), count_max: 9 };
    assert_eq!(one.one(drop(ONE)), Outcome::DropSlots(Err(DropSlotsError::NotClosed)), "what is held stays");
    assert_eq!(one.one(begin(ONE, &slots)), Outcome::ReceiveGroups(Err(ReceiveGroupsError::NotDropped)));
    carry(&mut one, &mut two, SlotMoveId(2), &slots, 100);
    assert_eq!(two.one(close(SlotMoveId(2))), Outcome::CloseSlots(Err(CloseSlotsError::NotHeld)), "it is the target");
    assert_eq!(two.one(close(ONE)), Outcome::CloseSlots(Err(CloseSlotsError::Stale { current: SlotMoveId(2) })));
    assert_eq!(one.one(close(SlotMoveId(3))), Outcome::CloseSlots(Err(CloseSlotsError::NotHeld)));
    carry(&mut two, &mut one, SlotMoveId(4), &slots, 100);
    assert_eq!(
        one.one(close(SlotMoveId(2))),
        Outcome::CloseSlots(Err(CloseSlotsError::Stale { current: SlotMoveId(4) }))
    );
    assert_eq!(one.one(drop(SlotMoveId(2))), Outcome::DropSlots(Ok(false)));
    let stale = Outcome::ReceiveGroups(Err(ReceiveGroupsError::Stale { current: SlotMoveId(4) }));
    assert_eq!(two.one(begin(SlotMoveId(2), &slots)), stale);
    let again = Outcome::ReceiveGroups(Ok(ReceivedGroups { cursor: None, complete: true }));
    assert_eq!(one.one(begin(SlotMoveId(4), &slots)), again);
    assert_eq!(one.shard.offset("a", TopicId(1), Partition(0)).unwrap().offset, StreamOffset(1));
}
