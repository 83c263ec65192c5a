//! Slots go to the shards that come with more nodes, and their groups with them: nothing that was committed goes back,
//! no generation changes, whoever fails in the middle.

use std::collections::BTreeMap;

use base::time::{Duration, now, timeout};
use cluster::{Cluster, METADATA};
use record::{LeaderEpoch, Partition, ShardId, StreamOffset, TimestampMs, TopicId};
use shard::commands::{CommitCheck, CommitOffsets, PutGroup};
use shard::{CommittedOffset, GroupRecord, GroupState, GroupVersion, Member, Outcome, SLOTS, SlotMove, slot_of};

use crate::support::{
    WAIT_MAX, data_shards, free_addresses, joining, operate, start, stop, topic, until, until_status,
};

/// Large enough that groups of one move travel in several pieces.
const METADATA_BYTES: usize = 3_000;
const PARTITIONS: i32 = 4;
/// Of these every second one has a member.
const GROUPS: usize = 1_000;

fn group(number: usize) -> String {
    format!("group-{number}")
}

/// What was promised to the clients of each group: at least that was committed, and at most what was tried.
struct Promised {
    topic: TopicId,
    /// Deleted in the middle: nobody has offsets of it in the end.
    gone: TopicId,
    offsets: BTreeMap<usize, (i64, i64)>,
}

fn offset(topic: TopicId, partition: i32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic,
        partition: Partition(partition),
        offset: StreamOffset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "m".repeat(METADATA_BYTES),
        commit_time: TimestampMs(1),
    }
}

/// Commits at whoever has the group by what this node knows, which may be old. False if it is refused or not known.
async fn commit(node: &Cluster, promised: &mut Promised, number: usize) -> bool {
    // The first time.
    let both = [promised.topic, promised.gone];
    let topics = if promised.offsets.contains_key(&number) { &both[..1] } else { &both[..] };
    let (done, tried) = promised.offsets.entry(number).or_default();
    *tried += 1;
    let next = *tried;
    let check = CommitCheck { member_id: "m".to_owned(), instance_id: None, generation: 3 };
    let command = CommitOffsets {
        group_id: group(number),
        check: number.is_multiple_of(2).then_some(check),
        offsets: topics.iter().flat_map(|topic| (0..PARTITIONS).map(|at| offset(*topic, at, next))).collect(),
    };
    let shard = node.slot_shard(&group(number));
    match timeout(Duration::from_secs(5), node.propose(shard, command.into())).await {
        Ok(Ok(Outcome::CommitOffsets(result))) => {
            assert_eq!(result, Ok(()), "group {number} is what it was");
            *done = next;
            true
        }
        Ok(Ok(Outcome::GroupElsewhere) | Err(_)) | Err(_) => false,
        Ok(Ok(other)) => panic!("{other:?}"),
    }
}

async fn found(node: &Cluster) -> Promised {
    let (topic, gone) = (topic(node, "t", 4).await, topic(node, "gone", 4).await);
    let mut promised = Promised { topic, gone, offsets: BTreeMap::new() };
    for number in 0..GROUPS {
        if number.is_multiple_of(2) {
            let record = GroupRecord {
                group_id: group(number),
                generation: 3,
                state: GroupState::Stable,
                members: vec![Member { id: "m".to_owned(), ..Member::default() }],
                ..GroupRecord::default()
            };
            let command = PutGroup { group: record, expected: GroupVersion(0) };
            let outcome = node.propose(node.slot_shard(&group(number)), command.into()).await;
            assert!(matches!(outcome, Ok(Outcome::PutGroup(Ok(_)))), "{outcome:?}");
        }
        assert!(commit(node, &mut promised, number).await);
    }
    promised
}

fn moves(node: &Cluster) -> Vec<SlotMove> {
    node.metadata().slot_moves().into_iter().cloned().collect()
}

/// Whether there are `shards` data shards, no two of which differ by more than one slot, and nothing moves.
fn is_even(node: &Cluster, shards: usize) -> bool {
    let metadata = node.metadata();
    let mut counts: BTreeMap<ShardId, usize> = metadata.shard_records().iter().map(|record| (record.id, 0)).collect();
    counts.remove(&METADATA);
    (0..SLOTS).filter_map(|slot| metadata.slot_shard(slot)).for_each(|shard| *counts.entry(shard).or_default() += 1);
    counts.len() == shards
        && counts.values().max().expect("some") - counts.values().min().expect("some") <= 1
        && metadata.slot_moves().is_empty()
}

/// Every group is on its shard as it was promised, and on no other.
async fn check(nodes: &[Cluster], promised: &Promised) {
    until("a leader of every shard", || data_shards(&nodes[0]).iter().all(|shard| leader(nodes, *shard).is_some()))
        .await;
    for shard in data_shards(&nodes[0]) {
        let node = leader(nodes, shard).expect("known above");
        let replica = nodes[node].replica(shard).expect("it leads");
        replica.read_barrier().await.expect("it leads");
        let state = replica.state();
        for (number, (done, tried)) in &promised.offsets {
            let id = group(*number);
            if nodes[0].slot_shard(&id) != shard {
                assert!(state.group(&id).is_none(), "{id} is left on {shard}");
                continue;
            }
            assert!(state.slot_tenure(slot_of(&id)).is_some());
            let offsets: Vec<i64> = state.offsets(&id).map(|offset| offset.offset.0).collect();
            assert_eq!(offsets.len(), usize::try_from(PARTITIONS).expect("few"));
            assert!(
                offsets.iter().all(|offset| (done..=tried).contains(&offset)),
                "{id}: {offsets:?}, {done} to {tried}"
            );
            let record = state.group(&id).and_then(|view| view.record.cloned());
            assert_eq!(record.map(|record| record.generation), number.is_multiple_of(2).then_some(3));
        }
    }
}

fn leader(nodes: &[Cluster], shard: ShardId) -> Option<usize> {
    nodes.iter().position(|node| node.replica(shard).is_some_and(|replica| replica.is_leader()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_go_to_new_shards_while_groups_commit_and_their_leaders_fail() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let mut nodes = vec![start(joining(dir.path(), 0, &addresses)).await];
    let mut promised = found(&nodes[0]).await;
    for place in 1..3 {
        nodes.push(start(joining(dir.path(), place, &addresses)).await);
    }
    // What the first that fails is: who leads the metadata, who leads the shard that slots leave, or the one that they go to.
    let (mut failures, mut number, mut elsewhere) = (0, 0, 0);
    let deadline = now() + WAIT_MAX;
    while !is_even(&nodes[0], 6) {
        assert!(now() < deadline, "{:?}", operate(&nodes[0], &["status"]).await);
        number = (number + 7) % GROUPS;
        elsewhere += usize::from(!commit(&nodes[number % nodes.len()], &mut promised, number).await);
        let Some(known) = moves(&nodes[0]).pop().filter(|_| failures < 3) else { continue };
        let shard = [METADATA, known.from, known.to][failures];
        let Some(place) = leader(&nodes, shard) else { continue };
        if failures == 0 {
            // If it is interrupted, it is gone on with.
            drop(nodes[(place + 1) % 3].delete_topics(vec![promised.gone]).await);
        }
        failures += 1;
        let gone = nodes.remove(place);
        gone.shutdown().await;
        drop(gone);
        for _ in 0..20 {
            number = (number + 7) % GROUPS;
            commit(&nodes[number % nodes.len()], &mut promised, number).await;
        }
        nodes.insert(place, start(joining(dir.path(), place, &addresses)).await);
    }
    // How many moves are met under way is chance: the others end while a node starts.
    assert!(failures > 0, "{elsewhere} commits were refused");
    until("one topic less", || nodes[0].metadata().topic(promised.gone).is_none()).await;
    check(&nodes, &promised).await;
    until_status(&nodes[1], |shown| shown.contains("171 on 1") && !shown.contains("move")).await;
    // All stop, and come back with what they had.
    stop(&nodes).await;
    nodes.clear();
    let starts = (0..3).map(|place| start(joining(dir.path(), place, &addresses)));
    nodes = futures_util::future::join_all(starts).await;
    check(&nodes, &promised).await;
    stop(&nodes).await;
}
