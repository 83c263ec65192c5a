//! Groups on a real shard: members, assignments, offsets, and a restart between any two of their steps.

use std::pin::pin;

use base::time::{Duration, timeout};
use broker::Config;
use broker::groups::{
    CommitOffsetError, CommitOffsets, CommitOffsetsError, CoordinatorError, DeleteGroupError, DeleteOffsetError,
    DeleteOffsetsError, DescribeGroupError, FetchedOffset, GroupState, Heartbeat, HeartbeatError, JoinGroup,
    JoinGroupError, Joined, LeaveGroup, MemberIdentity, OffsetToCommit, SyncGroup, Synced,
};
use bytes::Bytes;
use record::TopicId;

use crate::harness::{Node, assert_waits};

const PATIENCE: Duration = Duration::from_secs(30);

fn identity(id: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.to_owned(), instance_id: None }
}

fn join(id: &str) -> JoinGroup {
    // Version 1, one topic named "a", no user data.
    let subscription = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01a\xff\xff\xff\xff");
    JoinGroup {
        group_id: "g".to_owned(),
        member: identity(id),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription)],
        requires_known_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

async fn sync(node: &Node, joined: &Joined, assignment: &'static [u8]) -> Synced {
    let assignments = match joined.leader == joined.member_id {
        true => joined.members.iter().map(|m| (m.member_id.clone(), Bytes::from_static(assignment))).collect(),
        false => Vec::new(),
    };
    let request = SyncGroup {
        group_id: "g".to_owned(),
        member: identity(&joined.member_id),
        generation: joined.generation,
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        assignments,
    };
    node.broker.groups().sync(request).await.expect("it is assigned")
}

async fn heartbeat(node: &Node, id: &str, generation: i32) -> Result<(), HeartbeatError> {
    let request = Heartbeat { group_id: "g".to_owned(), member: identity(id), generation };
    node.broker.groups().heartbeat(request).await
}

fn commit(member: MemberIdentity, generation: i32, topic: TopicId, offset: i64) -> CommitOffsets {
    let offset = OffsetToCommit { topic, partition: 0, offset, leader_epoch: 3, metadata: "note".to_owned() };
    CommitOffsets { group_id: "g".to_owned(), member, generation, offsets: vec![offset] }
}

/// A group of one stable member.
async fn stable(node: &Node) -> Joined {
    let joined = node.broker.groups().join(join("")).await.expect("it joins");
    assert_eq!(sync(node, &joined, b"mine").await.assignment, "mine");
    joined
}

#[tokio::test]
async fn two_members_share_a_group_through_a_rebalance() {
    let node = Node::start().await;
    let first = stable(&node).await;
    let mut second = pin!(node.broker.groups().join(join("")));
    assert_waits(second.as_mut()).await;
    assert_eq!(heartbeat(&node, &first.member_id, 1).await, Err(HeartbeatError::RebalanceInProgress));
    let first = node.broker.groups().join(join(&first.member_id)).await.expect("it rejoins");
    let second = timeout(PATIENCE, second).await.expect("it is answered").expect("it joins");
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(second.leader, first.member_id);
    let mut follower = pin!(sync(&node, &second, b""));
    assert_waits(follower.as_mut()).await;
    assert_eq!(sync(&node, &first, b"half").await.assignment, "half");
    assert_eq!(timeout(PATIENCE, follower).await.expect("it is answered").assignment, "half");
    let described = node.broker.groups().describe("g").await.expect("it is described");
    assert_eq!((described.state, described.members.len()), (GroupState::Stable, 2));
    assert_eq!(described.members[0].assignment, "half");
    assert_eq!(node.broker.groups().list().await.len(), 1);
}

#[tokio::test]
async fn a_stable_group_sees_no_rebalance_over_a_restart() {
    let node = Node::start().await;
    let joined = stable(&node).await;
    let node = node.restart().await;
    assert_eq!(heartbeat(&node, &joined.member_id, joined.generation).await, Ok(()));
    assert_eq!(sync(&node, &joined, b"ignored").await.assignment, "mine");
    assert_eq!(node.broker.groups().describe("g").await.expect("described").state, GroupState::Stable);
}

#[tokio::test]
async fn a_session_that_ends_empties_the_group_durably() {
    let node = Node::with(Config {
        group_initial_rebalance_delay_ms: 0,
        group_min_session_timeout_ms: 1,
        ..Config::default()
    })
    .await;
    let request = JoinGroup { session_timeout_ms: 50, ..join("") };
    let joined = node.broker.groups().join(request).await.expect("it joins");
    let emptied = async {
        while node.broker.groups().describe("g").await.expect("it is described").state != GroupState::Empty {
            base::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("the session ends");
    let node = node.restart().await;
    let gone = heartbeat(&node, &joined.member_id, joined.generation).await;
    assert_eq!(gone, Err(HeartbeatError::UnknownMemberId));
    let next = node.broker.groups().join(join("")).await.expect("it joins");
    assert!(next.generation > joined.generation, "generations go on over restarts");
}

#[tokio::test]
async fn leaving_is_durable() {
    let node = Node::start().await;
    let joined = stable(&node).await;
    let request = LeaveGroup { group_id: "g".to_owned(), members: vec![identity(&joined.member_id)] };
    assert_eq!(node.broker.groups().leave(request).await, Ok(vec![Ok(())]));
    let node = node.restart().await;
    assert_eq!(node.broker.groups().describe("g").await.expect("described").state, GroupState::Empty);
}

#[tokio::test]
async fn bad_joins_are_refused() {
    let node = Node::start().await;
    let groups = node.broker.groups();
    let nameless = JoinGroup { group_id: String::new(), ..join("") };
    assert_eq!(groups.join(nameless).await, Err(JoinGroupError::InvalidGroupId));
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let request = JoinGroup { session_timeout_ms, ..join("") };
        assert_eq!(groups.join(request).await, Err(JoinGroupError::InvalidSessionTimeout));
    }
    assert_eq!(groups.join(join("stranger")).await, Err(JoinGroupError::UnknownMemberId));
    let handshake = JoinGroup { requires_known_member_id: true, ..join("") };
    let Err(JoinGroupError::MemberIdRequired { member_id }) = groups.join(handshake).await else { panic!() };
    assert_eq!(groups.join(join(&member_id)).await.expect("it joins").member_id, member_id);
}

#[tokio::test]
async fn members_of_a_broker_that_stops_are_sent_away() {
    let node = Node::start().await;
    stable(&node).await;
    let mut waiting = pin!(node.broker.groups().join(join("")));
    assert_waits(waiting.as_mut()).await;
    node.broker.shutdown().await;
    let sent = timeout(PATIENCE, waiting).await.expect("it is answered");
    let away = JoinGroupError::Coordinator(CoordinatorError::NotCoordinator { leader: None });
    assert_eq!(sent, Err(away.clone()));
    assert_eq!(node.broker.groups().join(join("")).await, Err(away));
}

#[tokio::test]
async fn offsets_are_committed_by_members_and_read_back_after_a_restart() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let topic = node.broker.topics().resolve("a").expect("it exists").id;
    let joined = stable(&node).await;
    let member = identity(&joined.member_id);
    let groups = node.broker.groups();
    assert_eq!(groups.commit(commit(member.clone(), joined.generation, topic, 5)).await, Ok(vec![Ok(())]));
    let stale = groups.commit(commit(member.clone(), joined.generation - 1, topic, 6)).await;
    assert_eq!(stale, Err(CommitOffsetsError::IllegalGeneration));
    let outside = groups.commit(commit(MemberIdentity::default(), -1, topic, 6)).await;
    assert_eq!(outside, Err(CommitOffsetsError::UnknownMemberId));
    let node = node.restart().await;
    let fetched = node.broker.groups().fetch_offsets("g", Some(&[(topic, 0), (topic, 1)])).await.expect("read");
    let committed = FetchedOffset { topic, partition: 0, offset: 5, leader_epoch: 3, metadata: "note".to_owned() };
    let none = FetchedOffset { topic, partition: 1, offset: -1, leader_epoch: -1, metadata: String::new() };
    assert_eq!(fetched, [committed.clone(), none]);
    assert_eq!(node.broker.groups().fetch_offsets("g", None).await, Ok(vec![committed]));
    assert_eq!(node.broker.groups().fetch_offsets("nobody", None).await, Ok(vec![]));
}

#[tokio::test]
async fn a_consumer_without_group_management_commits_to_a_group_of_its_own() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let topic = node.broker.topics().resolve("a").expect("it exists").id;
    let groups = node.broker.groups();
    let mut request = commit(MemberIdentity::default(), -1, topic, 7);
    request.offsets.push(OffsetToCommit { partition: 9, ..request.offsets[0].clone() });
    request.offsets.push(OffsetToCommit { metadata: "x".repeat(4_097), ..request.offsets[0].clone() });
    let answers = groups.commit(request).await.expect("it is committed");
    assert_eq!(answers[0], Ok(()));
    assert_eq!(answers[1], Err(CommitOffsetError::UnknownTopicOrPartition));
    assert_eq!(answers[2], Err(CommitOffsetError::OffsetMetadataTooLarge));
    let with_generation =
        groups.commit(CommitOffsets { group_id: "other".to_owned(), ..commit(identity("m"), 3, topic, 7) });
    assert_eq!(with_generation.await, Err(CommitOffsetsError::GroupIdNotFound));
    let as_member = groups.commit(commit(identity("m"), 3, topic, 7)).await;
    assert_eq!(as_member, Err(CommitOffsetsError::UnknownMemberId), "the group exists by its offsets");
    let described = groups.describe("g").await.expect("it exists by its offsets");
    assert_eq!((described.state, described.protocol_type.as_str()), (GroupState::Empty, ""));
    assert_eq!(groups.list().await[0].group_id, "g");
}

#[tokio::test]
async fn only_groups_without_members_are_deleted() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let topic = node.broker.topics().resolve("a").expect("it exists").id;
    let groups = node.broker.groups();
    assert_eq!(groups.delete("g").await, Err(DeleteGroupError::GroupIdNotFound));
    let joined = stable(&node).await;
    groups.commit(commit(identity(&joined.member_id), joined.generation, topic, 5)).await.expect("committed");
    assert_eq!(groups.delete("g").await, Err(DeleteGroupError::NonEmptyGroup));
    let request = LeaveGroup { group_id: "g".to_owned(), members: vec![identity(&joined.member_id)] };
    groups.leave(request).await.expect("it leaves");
    assert_eq!(groups.delete("g").await, Ok(()));
    assert_eq!(groups.fetch_offsets("g", None).await, Ok(vec![]));
    let gone = DescribeGroupError::GroupIdNotFound { group_id: "g".to_owned() };
    assert_eq!(gone.to_string(), "Group g not found.");
    assert_eq!(groups.describe("g").await, Err(gone));
    let anew = groups.join(join("")).await.expect("the name is free");
    assert_eq!(anew.generation, 1);
}

#[tokio::test]
async fn a_group_of_consumers_keeps_the_offsets_of_topics_it_is_subscribed_to() {
    let node = Node::start().await;
    node.create("a", 1).await;
    node.create("b", 1).await;
    let id = |name: &str| node.broker.topics().resolve(name).expect("it exists").id;
    let (a, b) = (id("a"), id("b"));
    let groups = node.broker.groups();
    assert_eq!(groups.delete_offsets("g", &[(a, 0)]).await, Err(DeleteOffsetsError::GroupIdNotFound));
    let joined = stable(&node).await;
    for topic in [a, b] {
        groups.commit(commit(identity(&joined.member_id), joined.generation, topic, 5)).await.expect("committed");
    }
    let answers = groups.delete_offsets("g", &[(a, 0), (b, 0), (b, 7)]).await.expect("answered");
    assert_eq!(answers[0], Err(DeleteOffsetError::GroupSubscribedToTopic));
    assert_eq!(answers[1], Ok(()));
    assert_eq!(answers[2], Err(DeleteOffsetError::UnknownTopicOrPartition));
    let left = groups.fetch_offsets("g", None).await.expect("read");
    assert_eq!(left.iter().map(|offset| offset.topic).collect::<Vec<_>>(), [a]);
}

#[tokio::test]
async fn many_groups_come_and_go() {
    let node = Node::start().await;
    let groups = node.broker.groups();
    for index in 0..300 {
        let group_id = format!("g-{index}");
        let joined = groups.join(JoinGroup { group_id: group_id.clone(), ..join("") }).await.expect("it joins");
        let request = LeaveGroup { group_id, members: vec![identity(&joined.member_id)] };
        assert_eq!(groups.leave(request).await, Ok(vec![Ok(())]));
    }
    assert_eq!(groups.list().await.len(), 300);
    assert!(groups.list().await.iter().all(|group| group.state == GroupState::Empty));
}

#[tokio::test]
async fn groups_that_only_gave_out_ids_make_room_for_others() {
    let config = Config { group_initial_rebalance_delay_ms: 0, groups_max: 3, ..Config::default() };
    let node = Node::with(config).await;
    let handshake = |group: &str| JoinGroup { group_id: group.to_owned(), requires_known_member_id: true, ..join("") };
    let mut ids = Vec::new();
    for number in 0..20 {
        let answer = node.broker.groups().join(handshake(&format!("idle-{number}"))).await;
        let Err(JoinGroupError::MemberIdRequired { member_id }) = answer else { panic!("{answer:?}") };
        ids.push(member_id);
    }
    let joined = stable(&node).await;
    assert_eq!(heartbeat(&node, &joined.member_id, joined.generation).await, Ok(()));
    let late = JoinGroup { group_id: "idle-0".to_owned(), ..join(&ids[0]) };
    assert_eq!(node.broker.groups().join(late).await, Err(JoinGroupError::UnknownMemberId));
    assert_eq!(heartbeat(&node, &joined.member_id, joined.generation).await, Ok(()), "members are never let go");
}

#[tokio::test]
async fn a_shard_holds_only_so_many_groups_and_only_names_of_some_length() {
    let node = Node::with(Config { groups_per_shard_max: 2, ..Config::default() }).await;
    node.create("a", 1).await;
    let topic = node.broker.topics().resolve("a").expect("it exists").id;
    let commit_to =
        |group: String| CommitOffsets { group_id: group, ..commit(MemberIdentity::default(), -1, topic, 7) };
    let mut refused = 0;
    for number in 0..8 {
        match node.broker.groups().commit(commit_to(format!("g-{number}"))).await {
            Ok(answers) => assert_eq!(answers, [Ok(())]),
            Err(CommitOffsetsError::Coordinator(CoordinatorError::Unavailable(_))) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    // Two shards with two groups each.
    assert!(refused >= 4, "{refused} refused");
    let first = node.broker.groups().commit(commit_to("g-0".to_owned())).await;
    assert_eq!(first, Ok(vec![Ok(())]), "a group that is there goes on");
    let long = node.broker.groups().commit(commit_to("x".repeat(2_000))).await;
    assert_eq!(long, Err(CommitOffsetsError::InvalidGroupId));
    let long = node.broker.groups().join(JoinGroup { group_id: "x".repeat(2_000), ..join("") }).await;
    assert_eq!(long, Err(JoinGroupError::InvalidGroupId));
    let named = JoinGroup { client_id: "ä".repeat(5_000), requires_known_member_id: true, ..join("") };
    let named = JoinGroup { group_id: "g-0".to_owned(), ..named };
    let Err(JoinGroupError::MemberIdRequired { member_id }) = node.broker.groups().join(named).await else { panic!() };
    assert!(member_id.len() < 300, "{} bytes", member_id.len());
}
