//! Slots that move from shard to shard with their groups, whatever order things happen in and however often.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use record::{LeaderEpoch, Partition, ShardId, StreamOffset, TimestampMs, TopicId};

use super::harness::{Node, dump};
use crate::commands::{
    AssignSlots, CloseSlots, CommitCheck, CommitOffsets, CompleteSlots, DeleteGroup, DeleteOffsets, DropSlots,
    MoveSlots, PutGroup, PutShards, ReceiveGroups, SlotRange,
};
use crate::{
    CloseSlotsError, Command, CommittedOffset, DropSlotsError, GroupRecord, GroupState, GroupVersion, Member,
    MoveSlotsError, OffsetKey, Outcome, ReceiveGroupsError, Received, SLOTS, ShardRecord, SlotMove, SlotMoveId,
    slot_of,
};

const GROUPS: [&str; 4] = ["a", "b", "c", "ü"];
const ONE: SlotMoveId = SlotMoveId(1);

fn metadata(shards: u32) -> Node {
    let mut node = Node::default();
    let record = |id| ShardRecord { id: ShardId(id), voters: vec![record::NodeId(1)] };
    node.one(PutShards { shards: (0..=shards).map(record).collect() });
    node.one(AssignSlots { ranges: vec![SlotRange { first: 0, last: SLOTS - 1, shard: ShardId(1) }] });
    node
}

fn offset(partition: i32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic: TopicId(1),
        partition: Partition(partition),
        offset: StreamOffset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "m".repeat(usize::try_from(offset.rem_euclid(9)).unwrap()),
        commit_time: TimestampMs(1),
    }
}

fn stable(group_id: &str, generation: i32) -> GroupRecord {
    GroupRecord {
        group_id: group_id.to_owned(),
        generation,
        state: GroupState::Stable,
        members: vec![Member { id: "m".to_owned(), ..Member::default() }],
        ..GroupRecord::default()
    }
}

fn commit(group_id: &str, generation: Option<i32>, offset: CommittedOffset) -> CommitOffsets {
    let check = |generation| CommitCheck { member_id: "m".to_owned(), instance_id: None, generation };
    CommitOffsets { group_id: group_id.to_owned(), check: generation.map(check), offsets: vec![offset] }
}

fn slots_of(groups: &[&str]) -> Vec<u16> {
    let slots: BTreeSet<u16> = groups.iter().map(|group| slot_of(group)).collect();
    slots.into_iter().collect()
}

fn begin(id: SlotMoveId, slots: &[u16]) -> ReceiveGroups {
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
    let again = Outcome::ReceiveGroups(Ok(Received { cursor: None, complete: true }));
    assert_eq!(one.one(begin(SlotMoveId(4), &slots)), again);
    assert_eq!(one.shard.offset("a", TopicId(1), Partition(0)).unwrap().offset, StreamOffset(1));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Op {
    Begin {
        groups: Vec<bool>,
        to: u32,
    },
    /// One of the steps of whoever drives the moves; several may do so at the same time, each from where it is.
    Advance {
        which: prop::sample::Index,
        step: u8,
        bytes_max: usize,
    },
    /// A step that was sent before comes again.
    Repeat(prop::sample::Index),
    /// By somebody who knows the metadata as it was at some time.
    Commit {
        group: usize,
        view: prop::sample::Index,
        partition: i32,
    },
    Put {
        group: usize,
        view: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (vec(any::<bool>(), 4), 1_u32..4).prop_map(|(groups, to)| Op::Begin { groups, to }),
        12 => (index(), 0_u8..4, 1_usize..300).prop_map(|(which, step, bytes_max)| Op::Advance { which, step, bytes_max }),
        4 => index().prop_map(Op::Repeat),
        6 => (0_usize..4, index(), 0_i32..5).prop_map(|(group, view, partition)| Op::Commit { group, view, partition }),
        2 => (0_usize..4, index()).prop_map(|(group, view)| Op::Put { group, view }),
    ]
}

/// Three shards, what the metadata says and said, and what was promised to clients.
struct World {
    metadata: Node,
    data: Vec<Node>,
    /// The slots' shards, as they were at every time.
    views: Vec<Vec<ShardId>>,
    sent: Vec<(ShardId, Command)>,
    committed: BTreeMap<(usize, OffsetKey), CommittedOffset>,
    generations: BTreeMap<usize, i32>,
    next: i64,
}

impl World {
    fn new() -> Self {
        let metadata = metadata(3);
        Self {
            views: vec![metadata.shard.slot_shards().to_vec()],
            metadata,
            data: (0..3).map(|_| Node::default()).collect(),
            sent: Vec::new(),
            committed: BTreeMap::new(),
            generations: BTreeMap::new(),
            next: 1,
        }
    }

    fn at(&mut self, shard: ShardId) -> &mut Node {
        match shard.0 {
            0 => &mut self.metadata,
            number => &mut self.data[number as usize - 1],
        }
    }

    fn send(&mut self, shard: ShardId, command: impl Into<Command>) -> Outcome {
        let command = command.into();
        self.sent.push((shard, command.clone()));
        self.again(shard, command)
    }

    fn again(&mut self, shard: ShardId, command: Command) -> Outcome {
        let outcome = self.at(shard).one(command);
        self.views.push(self.metadata.shard.slot_shards().to_vec());
        outcome
    }

    fn advance(&mut self, known: &SlotMove, step: u8, bytes_max: usize) {
        let SlotMove { id, slots, from, to, switched } = known.clone();
        match (switched, step) {
            (false, 0) => drop(self.send(from, CloseSlots { id, slots })),
            (false, 1 | 2) => {
                let Outcome::ReceiveGroups(Ok(received)) = self.send(to, begin(id, &slots)) else { panic!("begun") };
                let after = received.cursor;
                let piece = self.at(from).shard.moving_piece(id, &slots, after.as_ref(), bytes_max);
                if let Some(piece) = piece.filter(|_| !received.complete) {
                    self.send(to, ReceiveGroups { id, slots, after, groups: piece.groups, last: piece.last });
                }
            }
            (false, _) => {
                let outcome = self.send(to, begin(id, &slots));
                if let Outcome::ReceiveGroups(Ok(Received { complete: true, .. })) = outcome {
                    self.send(ShardId(0), CompleteSlots { id, dropped: false });
                }
            }
            (true, _) => {
                if self.send(from, DropSlots { id, slots, count_max: 1 }) == Outcome::DropSlots(Ok(false)) {
                    self.send(ShardId(0), CompleteSlots { id, dropped: true });
                }
            }
        }
    }

    fn moves(&self) -> Vec<SlotMove> {
        self.metadata.shard.slot_moves().into_iter().cloned().collect()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Begin { groups, to } => {
                let named: Vec<&str> =
                    GROUPS.iter().zip(groups).filter(|(_, taken)| *taken).map(|(group, _)| *group).collect();
                let slots = slots_of(&named);
                let Some(from) = slots.first().and_then(|slot| self.metadata.shard.slot_shard(*slot)) else { return };
                self.send(ShardId(0), MoveSlots { slots, from, to: ShardId(to) });
            }
            Op::Advance { which, step, bytes_max } => {
                let moves = self.moves();
                if !moves.is_empty() {
                    self.advance(which.get(&moves), step, bytes_max);
                }
            }
            Op::Repeat(which) => {
                // A move is begun once: whoever does not know whether it was looks.
                let sent: Vec<_> =
                    self.sent.iter().filter(|(_, command)| !matches!(command, Command::MoveSlots(_))).collect();
                if !sent.is_empty() {
                    let (shard, command) = (*which.get(&sent)).clone();
                    self.again(shard, command);
                }
            }
            Op::Commit { group, view, partition } => {
                let shard = self.owner(group, &view);
                self.next += 1;
                let offset = offset(partition, self.next);
                let generation = self.generations.get(&group).copied();
                let holds = self.at(shard).shard.slot_tenure(slot_of(GROUPS[group])).is_some();
                let outcome = self.at(shard).one(commit(GROUPS[group], generation, offset.clone()));
                if holds {
                    assert_eq!(outcome, Outcome::CommitOffsets(Ok(())));
                    self.committed.insert((group, offset.key()), offset);
                } else {
                    assert_eq!(outcome, Outcome::GroupElsewhere);
                }
            }
            Op::Put { group, view } => {
                let shard = self.owner(group, &view);
                let generation = self.generations.get(&group).copied().unwrap_or_default() + 1;
                let expected = self.at(shard).shard.group(GROUPS[group]).map(|view| view.version).unwrap_or_default();
                let outcome = self.at(shard).one(PutGroup { group: stable(GROUPS[group], generation), expected });
                if outcome == Outcome::GroupElsewhere {
                    return;
                }
                assert!(matches!(outcome, Outcome::PutGroup(Ok(_))), "{outcome:?}");
                self.generations.insert(group, generation);
            }
        }
    }

    fn owner(&self, group: usize, view: &prop::sample::Index) -> ShardId {
        view.get(&self.views)[usize::from(slot_of(GROUPS[group]))]
    }

    /// Of those who could be asked, one holds the slot at most; and what was promised is there, or where it left.
    fn check(&self) {
        for (group, group_id) in GROUPS.iter().enumerate() {
            let slot = slot_of(group_id);
            let asked: BTreeSet<ShardId> = self.views.iter().map(|view| view[usize::from(slot)]).collect();
            let shard = |shard: &ShardId| &self.data[shard.0 as usize - 1].shard;
            let holds: Vec<&ShardId> = asked.iter().filter(|id| shard(id).slot_tenure(slot).is_some()).collect();
            assert!(holds.len() <= 1, "{holds:?} hold {group_id}");
            let owner = self.metadata.shard.slot_shard(slot).unwrap();
            let moving = self.moves().into_iter().find(|known| known.slots.contains(&slot) && !known.switched);
            let target = moving.filter(|known| shard(&known.to).slot_tenure(slot) == Some(known.id));
            self.check_group(group, shard(&target.map_or(owner, |known| known.to)));
        }
    }

    fn check_group(&self, group: usize, shard: &crate::Shard) {
        let expected: Vec<&CommittedOffset> =
            self.committed.iter().filter(|((of, _), _)| *of == group).map(|(_, offset)| offset).collect();
        assert_eq!(shard.offsets(GROUPS[group]).collect::<Vec<_>>(), expected);
        let record = shard.group(GROUPS[group]).and_then(|view| view.record.cloned());
        let generation = self.generations.get(&group);
        assert_eq!(record.as_deref(), generation.map(|generation| stable(GROUPS[group], *generation)).as_ref());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_lost_and_one_shard_decides(ops in vec(op(), 0..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        // Whatever was begun comes to its end.
        for round in 0..1_000_u32 {
            let Some(known) = world.moves().into_iter().next() else { break };
            world.advance(&known, u8::try_from(round % 4).unwrap(), 50);
            world.check();
        }
        prop_assert!(world.moves().is_empty());
        for group in GROUPS {
            let owner = world.metadata.shard.slot_shard(slot_of(group)).unwrap();
            for (place, node) in world.data.iter().enumerate() {
                if place + 1 != owner.0 as usize {
                    prop_assert!(node.shard.group(group).is_none());
                }
            }
        }
    }
}
