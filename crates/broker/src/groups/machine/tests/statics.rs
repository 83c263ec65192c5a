//! Static members (KIP-345).

use super::*;

#[test]
fn a_static_member_that_comes_back_keeps_its_assignment_without_rebalance_kip_345() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![static_join("", "a"), static_join("", "b")]);
    let generation = driver.machine.generation();
    let follower = &ids[1];
    let instance = driver.machine.members[follower].instance_id.clone().expect("static");
    let persists = driver.persists;
    let back = driver.join(static_join("", &instance));
    let joined = driver.joined(back).clone();
    assert_eq!(joined.generation, generation);
    assert_ne!(joined.member_id, *follower);
    assert_eq!(driver.machine.state(), GroupState::Stable);
    assert_eq!(driver.persists, persists + 1, "the new member id is durable before it is told");
    let sync = driver.sync_as(static_identity(&joined.member_id, &instance), generation, &[]);
    assert_eq!(driver.synced(sync).protocol, "range");
}

#[test]
fn the_old_member_id_of_a_static_member_is_fenced() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![static_join("", "a")]);
    let generation = driver.machine.generation();
    driver.join(static_join("", "a"));
    let old = static_identity(&ids[0], "a");
    let now = driver.now;
    assert_eq!(driver.machine.heartbeat(now, &old, generation), Err(HeartbeatError::FencedInstanceId));
    assert_eq!(driver.machine.check_commit(now, &old, generation), Err(CommitOffsetsError::FencedInstanceId));
    let sync = driver.sync_as(old.clone(), generation, &[]);
    assert_eq!(*driver.sync_error(sync), SyncGroupError::FencedInstanceId);
    let join = driver.join(static_join(&ids[0], "a"));
    assert_eq!(*driver.join_error(join), JoinGroupError::FencedInstanceId);
}

#[test]
fn a_static_leader_that_comes_back_does_not_assign_again() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![static_join("", "a")]);
    let old_client = driver.join(static_join("", "a"));
    assert_eq!(driver.joined(old_client).leader, ids[0], "the old id, so that the member thinks it follows");
    assert!(driver.joined(old_client).members.is_empty());
    let new_client = driver.join(JoinGroup { supports_skipping_assignment: true, ..static_join("", "a") });
    let joined = driver.joined(new_client);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    assert!(joined.skip_assignment, "KIP-814");
}

#[test]
fn a_static_member_that_changes_the_protocol_rebalances_the_group() {
    let mut driver = Driver::new();
    driver.stable(vec![static_join("", "a")]);
    let mut changed = static_join("", "a");
    changed.protocols.insert(0, ("sticky".to_owned(), Bytes::new()));
    let generation = driver.machine.generation();
    let back = driver.join(changed);
    assert_eq!(driver.joined(back).generation, generation + 1);
    assert_eq!(driver.joined(back).protocol, "sticky");
}

#[test]
fn a_static_member_that_comes_back_before_the_assignment_rebalances_the_group() {
    let mut driver = Driver::new();
    let first = driver.join(static_join("", "a"));
    assert_eq!(driver.machine.state(), GroupState::CompletingRebalance);
    let second = driver.join(static_join("", "a"));
    assert_eq!(driver.joined(second).generation, driver.joined(first).generation + 1);
}

#[test]
fn whoever_waits_under_the_old_id_of_a_static_member_is_fenced() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![static_join("", "a"), join("", &[])]);
    let fixed = ids.iter().find(|id| id.starts_with("a-")).expect("the static member").clone();
    let mut changed = static_join(&fixed, "a");
    changed.protocols.push(("more".to_owned(), Bytes::new()));
    let waiting = driver.join(changed);
    assert!(driver.waits(waiting));
    let back = driver.join(static_join("", "a"));
    assert_eq!(*driver.join_error(waiting), JoinGroupError::FencedInstanceId);
    assert!(driver.waits(back));
}

#[test]
fn a_static_member_stays_over_a_rebalance_until_its_session_ends() {
    let mut driver = Driver::new();
    let lasting = JoinGroup { session_timeout_ms: 10 * REBALANCE_MS, ..static_join("", "a") };
    let ids = driver.stable(vec![lasting, join("", &[])]);
    let dynamic = ids.iter().find(|id| !id.starts_with("a-")).expect("the dynamic member").clone();
    let again = driver.join(join(&dynamic, &["range", "more"]));
    driver.pass(REBALANCE_MS as u64);
    let joined = driver.joined(again);
    assert_eq!(joined.members.len(), 2, "the static member may still come back");
    assert_eq!(joined.leader, dynamic);
}

#[test]
fn an_instance_id_of_nobody_is_unknown() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let ticket = driver.join(static_join(&ids[0], "nobody"));
    assert_eq!(*driver.join_error(ticket), JoinGroupError::UnknownMemberId);
}

#[test]
fn a_static_member_that_starts_again_while_the_group_gathers_does_not_expire() {
    let mut driver = Driver::new();
    // The other member keeps its session and does not join again before its time is up.
    let other = JoinGroup { session_timeout_ms: 10 * REBALANCE_MS, ..join("", &[]) };
    driver.stable(vec![other]);
    let first = driver.join(static_join("", "a"));
    let again = driver.join(static_join("", "a"));
    assert_eq!(*driver.join_error(first), JoinGroupError::FencedInstanceId);
    driver.pass(2 * SESSION_MS as u64);
    assert!(driver.waits(again), "it waits for the others");
    driver.pass(REBALANCE_MS as u64);
    assert_eq!(driver.joined(again).members.len(), 1);
}
