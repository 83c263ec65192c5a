//! E12 classic groups.

use base::time::Duration;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::offsets::{commit, commit_codes};
use crate::support::{Client, Node, text, topic_name};

pub(crate) fn join(group: &str, member: &str, metadata: &[u8]) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::copy_from_slice(metadata));
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins with the handshake of KIP-394.
pub(crate) async fn joined(client: &mut Client, version: i16, group: &str, metadata: &[u8]) -> JoinGroupResponse {
    let first = client.call(version, &join(group, "", metadata)).await;
    if first.error_code != 79 {
        return first;
    }
    client.call(version, &join(group, &first.member_id, metadata)).await
}

pub(crate) fn sync(group: &str, generation: i32, member: &str, assignments: &[(&str, Bytes)]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment.clone())
    });
    SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect())
}

fn old(request: SyncGroupRequest) -> SyncGroupRequest {
    request.with_protocol_type(None).with_protocol_name(None)
}

pub(crate) fn heartbeat(group: &str, generation: i32, member: &str) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id(generation)
        .with_member_id(text(member))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_every_version_joins_syncs_beats_and_leaves() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=9 {
        let group = format!("g{version}");
        let first = client.call(version, &join(&group, "", b"wishes")).await;
        assert_eq!(first.error_code, if version >= 4 { 79 } else { 0 }, "version {version}");
        assert!(first.member_id.starts_with("test-"));
        let joined =
            if version >= 4 { client.call(version, &join(&group, &first.member_id, b"wishes")).await } else { first };
        assert_eq!((joined.error_code, joined.generation_id, &joined.leader), (0, 1, &joined.member_id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        assert_eq!(&joined.members[0].metadata[..], b"wishes");
        let member = joined.member_id.to_string();
        let sync_version = version.min(5);
        let request = sync(&group, 1, &member, &[(&member, Bytes::from_static(b"share"))]);
        let request = if sync_version >= 5 { request } else { old(request) };
        let synced = client.call(sync_version, &request).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"share"[..]));
        assert_eq!(client.call(version.min(4), &heartbeat(&group, 1, &member)).await.error_code, 0);
        assert_eq!(client.call(3, &heartbeat(&group, 2, &member)).await.error_code, 22);
        assert_eq!(client.call(3, &heartbeat(&group, 1, "stranger")).await.error_code, 25);
        let leave_version = version.min(5);
        let leave = LeaveGroupRequest::default().with_group_id(text(&group).into());
        let leave = if leave_version >= 3 {
            leave.with_members(vec![
                MemberIdentity::default().with_member_id(text(&member)),
                MemberIdentity::default().with_member_id(text("stranger")),
            ])
        } else {
            leave.with_member_id(text(&member))
        };
        let left = client.call(leave_version, &leave).await;
        assert_eq!(left.error_code, 0);
        if leave_version >= 3 {
            assert_eq!(left.members.iter().map(|member| member.error_code).collect::<Vec<_>>(), [0, 25]);
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_the_leader_sees_everyone_and_assignments_arrive_byte_for_byte() {
    let node = Node::start().await;
    let (mut one, mut two) = (node.client().await, node.client().await);
    let first = joined(&mut one, 5, "g", b"first").await;
    assert_eq!(first.error_code, 0);
    let first_id = first.member_id.to_string();
    let synced = one.call(4, &old(sync("g", 1, &first_id, &[(&first_id, Bytes::from_static(b"all"))]))).await;
    assert_eq!(synced.error_code, 0);
    // The second joins; the first is told by its heartbeat and joins again.
    let asked = two.call(5, &join("g", "", b"second")).await;
    assert_eq!(asked.error_code, 79);
    let second_id = asked.member_id.to_string();
    two.send(5, &join("g", &second_id, b"second")).await;
    let mut code = 0;
    for _ in 0..200 {
        code = one.call(3, &heartbeat("g", 1, &first_id)).await.error_code;
        if code != 0 {
            break;
        }
        base::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(code, 27);
    let again = one.call(5, &join("g", &first_id, b"first")).await;
    let second = two.next::<JoinGroupRequest>(5, 0).await;
    assert_eq!((again.error_code, second.error_code), (0, 0));
    assert_eq!((again.generation_id, second.generation_id), (2, 2));
    assert_eq!(again.leader, second.leader);
    let (leader, follower) = if *again.leader == *first_id { (&again, &second) } else { (&second, &again) };
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty());
    // The follower asks first and waits for the leader.
    let large: Bytes =
        (0..300_000_u32).map(|index| u8::try_from(index % 255).expect("small")).collect::<Vec<_>>().into();
    let shares = [(&*first_id, Bytes::from_static(b"\x00\x01\xff")), (&*second_id, large.clone())];
    let (follower_client, leader_client, leader_id, follower_id) = if *again.leader == *first_id {
        (&mut two, &mut one, &first_id, &second_id)
    } else {
        (&mut one, &mut two, &second_id, &first_id)
    };
    follower_client.send(4, &old(sync("g", 2, follower_id, &[]))).await;
    let of_leader = leader_client.call(4, &old(sync("g", 2, leader_id, &shares))).await;
    let of_follower = follower_client.next::<SyncGroupRequest>(4, 0).await;
    assert_eq!((of_leader.error_code, of_follower.error_code), (0, 0));
    let of = |id: &str| shares.iter().find(|(member, _)| *member == id).map(|(_, share)| share.clone());
    assert!(Some(of_leader.assignment) == of(leader_id) && Some(of_follower.assignment) == of(follower_id));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_joins_that_are_refused_say_why() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let cases = [
        (26, join("g", "", b"").with_session_timeout_ms(100)),
        (26, join("g", "", b"").with_session_timeout_ms(100_000_000)),
        (24, join("", "", b"")),
        (23, join("g", "", b"").with_protocols(Vec::new())),
        (23, join("g", "", b"").with_protocol_type(StrBytes::new())),
        (25, join("g", "stranger", b"")),
    ];
    for (code, request) in cases {
        for version in [4, 9] {
            let response = client.call(version, &request).await;
            assert_eq!((response.error_code, response.generation_id), (code, -1), "{request:?}");
            assert_eq!(response.protocol_name.is_some(), version < 7);
        }
    }
    let member = joined(&mut client, 4, "g", b"").await;
    assert_eq!(member.error_code, 0);
    let connect = join("g", "", b"").with_protocol_type(text("connect"));
    assert_eq!(client.call(4, &connect).await.error_code, 23);
    let mut other = join("g", "", b"");
    other.protocols[0].name = text("roundrobin");
    assert_eq!(client.call(4, &other).await.error_code, 23);
    assert_eq!(client.call(5, &sync("g", 9, &member.member_id, &[])).await.error_code, 22);
    let wrong = sync("g", 1, &member.member_id, &[]).with_protocol_name(Some(text("roundrobin")));
    assert_eq!(client.call(5, &wrong).await.error_code, 23);
    assert_eq!(client.call(5, &old(sync("g", 1, &member.member_id, &[]))).await.error_code, 23);
    assert_eq!(client.call(3, &heartbeat("", 1, "m")).await.error_code, 24);
    assert_eq!(client.call(3, &heartbeat("no-group", 1, "m")).await.error_code, 25);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_a_static_member_that_comes_back_keeps_its_share() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let instance = |member: &str| join("g", member, b"wishes").with_group_instance_id(Some(text("i1")));
    let first = client.call(5, &instance("")).await;
    assert_eq!((first.error_code, first.generation_id), (0, 1));
    assert!(first.member_id.starts_with("i1-"));
    let id = first.member_id.to_string();
    let request = sync("g", 1, &id, &[(&id, Bytes::from_static(b"mine"))]).with_group_instance_id(Some(text("i1")));
    assert_eq!(client.call(5, &request).await.error_code, 0);
    let back = client.call(9, &instance("")).await;
    assert_eq!((back.error_code, back.generation_id), (0, 1), "no rebalance");
    assert_ne!(*back.member_id, *id);
    let request = sync("g", 1, &back.member_id, &[]).with_group_instance_id(Some(text("i1")));
    assert_eq!(&client.call(5, &request).await.assignment[..], b"mine");
    assert_eq!(client.call(5, &instance(&id)).await.error_code, 82, "the old incarnation is fenced");
    let gone = LeaveGroupRequest::default().with_group_id(text("g").into()).with_members(vec![
        MemberIdentity::default().with_group_instance_id(Some(text("i1"))),
        MemberIdentity::default().with_group_instance_id(Some(text("i2"))),
    ]);
    let left = client.call(3, &gone).await;
    assert_eq!(left.members.iter().map(|member| member.error_code).collect::<Vec<_>>(), [0, 25]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_described_listed_and_deleted() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    commit_codes(&mut client, 8, &commit("offsets-only", "t", &[(0, 1, None)])).await;
    let member = joined(&mut client, 5, "g", b"wishes").await.member_id.to_string();
    client.call(4, &old(sync("g", 1, &member, &[(&member, Bytes::from_static(b"share"))]))).await;
    for version in 0..=6 {
        let mut request = DescribeGroupsRequest::default().with_groups(vec![text("g").into(), text("none").into()]);
        if version >= 3 {
            request.include_authorized_operations = true;
        }
        let response = client.call(version, &request).await;
        let group = &response.groups[0];
        assert_eq!(
            (group.error_code, &*group.group_state, &*group.protocol_type, &*group.protocol_data),
            (0, "Stable", "consumer", "range")
        );
        let described = &group.members[0];
        assert_eq!(
            (&*described.member_id, &*described.client_id, &*described.client_host),
            (&*member, "test", "/127.0.0.1")
        );
        assert_eq!((&described.member_metadata[..], &described.member_assignment[..]), (&b"wishes"[..], &b"share"[..]));
        assert_eq!(group.authorized_operations, if version >= 3 { 3_400 } else { i32::MIN });
        let none = &response.groups[1];
        assert_eq!((&*none.group_state, none.error_code), ("Dead", if version >= 6 { 69 } else { 0 }));
    }
    let mut list = async |version, states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(state)).collect())
            .with_types_filter(types.iter().map(|kind| text(kind)).collect());
        let response = client.call(version, &request).await;
        let mut ids: Vec<_> = response.groups.iter().map(|group| group.group_id.to_string()).collect();
        ids.sort();
        ids
    };
    for version in 0..=5 {
        assert_eq!(list(version, &[], &[]).await, ["g", "offsets-only"]);
    }
    assert_eq!(list(5, &["stable"], &["Classic"]).await, ["g"]);
    assert_eq!(list(4, &["Empty"], &[]).await, ["offsets-only"]);
    assert_eq!(list(5, &["Foo"], &[]).await, [""; 0]);
    assert_eq!(list(5, &[], &["consumer"]).await, [""; 0]);
    for version in 0..=2 {
        let names = vec![text("g").into(), text("none").into(), text("none").into()];
        let response = client.call(version, &DeleteGroupsRequest::default().with_groups_names(names)).await;
        let mut codes: Vec<_> =
            response.results.iter().map(|result| (result.group_id.to_string(), result.error_code)).collect();
        codes.sort();
        assert_eq!(codes, [("g".to_owned(), 68), ("none".to_owned(), 69)]);
    }
    let delete = |group: &str| {
        let partition = OffsetDeleteRequestPartition::default();
        let topic = OffsetDeleteRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let missing = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("missing"))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        OffsetDeleteRequest::default().with_group_id(text(group).into()).with_topics(vec![topic, missing])
    };
    let deleted = client.call(0, &delete("offsets-only")).await;
    let codes: Vec<_> = deleted.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!((deleted.error_code, codes), (0, vec![0, 3]));
    let none = client.call(0, &delete("none")).await;
    assert_eq!((none.error_code, none.topics.len()), (69, 0));
    node.stop().await;
}

/// Its place among the connections is free at once; its member stays for its session, as in Kafka.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_while_others_are_waited_for_leaves_its_connection() {
    let node = Node::start().await;
    let mut one = node.client().await;
    let first = joined(&mut one, 0, "g", b"first").await.member_id.to_string();
    assert_eq!(one.call(3, &old(sync("g", 1, &first, &[(&first, Bytes::from_static(b"all"))]))).await.error_code, 0);
    // A join waits until the first joins again, a sync for the leader's.
    let mut two = node.client().await;
    two.send(0, &join("g", "", b"second")).await;
    while one.call(3, &heartbeat("g", 1, &first)).await.error_code != 27 {}
    drop(two);
    assert!(come_to(&node, 1).await, "the join waits on");
    let members = one.call(0, &join("g", &first, b"first")).await.members;
    assert_eq!(members.len(), 2);
    let second = members.iter().find(|member| *member.member_id != *first).expect("another one").member_id.clone();
    let mut two = node.client().await;
    two.send(3, &old(sync("g", 2, &second, &[]))).await;
    assert!(come_to(&node, 2).await);
    drop(two);
    assert!(come_to(&node, 1).await, "the sync waits on");
    assert_eq!(one.call(3, &old(sync("g", 2, &first, &[]))).await.error_code, 0);
    node.stop().await;
}

/// Whether there are so many connections after some time.
async fn come_to(node: &Node, connections: usize) -> bool {
    for _ in 0..200 {
        if node.broker.connections().count() == connections {
            return true;
        }
        base::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
