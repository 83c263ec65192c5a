//! What the groups of a node take together has a bound, whichever groups it is taken by.

use base::time::{Duration, timeout};
use broker::Config;
use broker::groups::{
    CommitOffsets, CommitOffsetsError, CoordinatorError, GroupState, JoinGroup, JoinGroupError, Joined, LeaveGroup,
    MemberIdentity, OffsetToCommit, SyncGroup, SyncGroupError,
};
use bytes::Bytes;
use record::TopicId;

use crate::harness::Node;

const PATIENCE: Duration = Duration::from_secs(30);

fn join(group: &str, metadata_bytes: usize) -> JoinGroup {
    JoinGroup {
        group_id: group.to_owned(),
        member: MemberIdentity::default(),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "test".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from(vec![0; metadata_bytes]))],
        requires_known_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

fn sync(group: &str, joined: &Joined, assignment: usize) -> SyncGroup {
    SyncGroup {
        group_id: group.to_owned(),
        member: MemberIdentity { member_id: joined.member_id.clone(), instance_id: None },
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member_id.clone(), Bytes::from(vec![0; assignment]))],
    }
}

async fn leave(node: &Node, group: &str, joined: &Joined) {
    let members = vec![MemberIdentity { member_id: joined.member_id.clone(), instance_id: None }];
    let request = LeaveGroup { group_id: group.to_owned(), members };
    assert_eq!(node.broker.groups().leave(request).await, Ok(vec![Ok(())]));
}

fn config() -> Config {
    Config { group_initial_rebalance_delay_ms: 0, group_memory_bytes_max: 100_000, ..Config::default() }
}

#[tokio::test]
async fn members_of_all_groups_together_take_only_so_much() {
    let node = Node::with(config()).await;
    let groups = node.broker.groups();
    let mut joined = Vec::new();
    for number in 0..4 {
        joined.push(groups.join(join(&format!("g-{number}"), 20_000)).await.expect("there is room"));
    }
    assert_eq!(groups.join(join("g-4", 20_000)).await, Err(JoinGroupError::GroupMaxSizeReached));
    assert_eq!(groups.join(join("g-4", 1_000)).await.map(|joined| joined.generation), Ok(1), "a small one still fits");
    let too_much = groups.sync(sync("g-0", &joined[0], 20_000)).await;
    assert_eq!(too_much, Err(SyncGroupError::AssignmentTooLarge));
    groups.sync(sync("g-0", &joined[0], 1_000)).await.expect("there is room for a small assignment");
    // Who is in already may come again as it was.
    let again = JoinGroup {
        member: MemberIdentity { member_id: joined[1].member_id.clone(), instance_id: None },
        ..join("g-1", 20_000)
    };
    assert!(groups.join(again).await.is_ok());
    leave(&node, "g-2", &joined[2]).await;
    assert!(groups.join(join("g-5", 10_000)).await.is_ok(), "what was left is given out again");
}

#[tokio::test]
async fn ids_that_were_given_out_count_and_make_room_for_members() {
    let node = Node::with(config()).await;
    let groups = node.broker.groups();
    let mut first = None;
    for number in 0..1_000 {
        let request = JoinGroup { requires_known_member_id: true, ..join(&format!("idle-{}", number / 100), 10) };
        match groups.join(request).await {
            Err(JoinGroupError::MemberIdRequired { member_id }) => first = first.or(Some(member_id)),
            Err(JoinGroupError::GroupMaxSizeReached | JoinGroupError::Coordinator(CoordinatorError::Loading)) => {}
            other => panic!("{other:?}"),
        }
    }
    let first = MemberIdentity { member_id: first.expect("one was given out"), instance_id: None };
    let late = groups.join(JoinGroup { member: first, ..join("idle-0", 10) }).await;
    assert_eq!(late, Err(JoinGroupError::UnknownMemberId), "the oldest made room");
    groups.join(join("g", 20_000)).await.expect("members come before ids");
}

#[tokio::test]
async fn committed_offsets_of_all_groups_together_take_only_so_much() {
    let node = Node::with(Config { group_offset_bytes_max: 20_000, ..config() }).await;
    node.create("a", 1).await;
    let topic = node.broker.topics().resolve("a").expect("it exists").id;
    let groups = node.broker.groups();
    let mut stored = 0;
    let refused = loop {
        match groups.commit(commit(&format!("g-{stored}"), topic, stored, 1_000)).await {
            Ok(answers) => assert_eq!(answers, [Ok(())]),
            Err(error) => break error,
        }
        stored += 1;
        assert!(stored < 100, "offsets are not stored without end");
    };
    assert!(matches!(refused, CommitOffsetsError::Coordinator(CoordinatorError::Unavailable(_))), "{refused:?}");
    assert!(stored > 10);
    // Who has a position goes on.
    assert_eq!(groups.commit(commit("g-0", topic, 77, 1_000)).await, Ok(vec![Ok(())]));
    assert_eq!(groups.fetch_offsets("g-0", None).await.expect("it is read")[0].offset, 77);
    // After a restart what is there is counted.
    let node = node.restart().await;
    let refused = async {
        let mut number = 0;
        while node.broker.groups().commit(commit(&format!("new-{number}"), topic, 1, 1_000)).await.is_ok() {
            number += 1;
            base::time::sleep(Duration::from_millis(50)).await;
        }
        number
    };
    let added = timeout(PATIENCE, refused).await.expect("it is refused again");
    assert!(added < stored, "{added} were added to {stored}");
}

#[tokio::test]
async fn members_that_never_come_back_after_a_restart_are_taken_out_though_nobody_names_their_group() {
    let node = Node::with(Config { group_min_session_timeout_ms: 1, ..config() }).await;
    for group in ["one", "two", "three"] {
        let request = JoinGroup { session_timeout_ms: 1_500, ..join(group, 10) };
        let joined = node.broker.groups().join(request).await.expect("it joins");
        node.broker.groups().sync(sync(group, &joined, 10)).await.expect("it is assigned");
    }
    let node = node.restart().await;
    let emptied = async {
        while node.broker.groups().list().await.iter().any(|group| group.state != GroupState::Empty) {
            base::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("the sessions end");
    assert_eq!(node.broker.groups().list().await.len(), 3);
}

fn commit(group: &str, topic: TopicId, offset: i64, metadata_bytes: usize) -> CommitOffsets {
    let metadata = "x".repeat(metadata_bytes);
    CommitOffsets {
        group_id: group.to_owned(),
        member: MemberIdentity::default(),
        generation: -1,
        offsets: vec![OffsetToCommit { topic, partition: 0, offset, leader_epoch: -1, metadata }],
    }
}
