//! Sessions, and the checks of commits that keep them alive.

use super::*;

#[test]
fn a_session_without_heartbeats_ends_and_the_group_rebalances() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    for _ in 0..12 {
        driver.heartbeat(&ids[0], generation).ok();
        driver.pass(1_000);
    }
    assert_eq!(driver.heartbeat(&ids[1], generation), Err(HeartbeatError::UnknownMemberId));
    assert_eq!(driver.heartbeat(&ids[0], generation), Err(HeartbeatError::RebalanceInProgress));
}

#[test]
fn heartbeats_keep_a_group_stable() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    for _ in 0..100 {
        driver.pass(3_000);
        for id in &ids {
            assert_eq!(driver.heartbeat(id, generation), Ok(()));
        }
    }
}

#[test]
fn a_heartbeat_of_another_generation_is_refused() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let generation = driver.machine.generation();
    assert_eq!(driver.heartbeat(&ids[0], generation + 1), Err(HeartbeatError::IllegalGeneration));
    assert_eq!(driver.heartbeat("stranger", generation), Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn a_heartbeat_before_the_assignment_is_fine() {
    let mut driver = Driver::new();
    let ticket = driver.join(join("", &[]));
    let id = driver.joined(ticket).member_id.clone();
    assert_eq!(driver.machine.state(), GroupState::CompletingRebalance);
    assert_eq!(driver.heartbeat(&id, 1), Ok(()));
}

#[test]
fn a_member_that_waits_needs_no_heartbeat() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    let waiting = driver.join(join(&ids[0], &[]));
    for _ in 0..REBALANCE_MS / 1_000 {
        let _ = driver.heartbeat(&ids[1], generation);
        driver.pass(1_000);
    }
    assert_eq!(driver.joined(waiting).members.len(), 1);
}

#[test]
fn the_last_session_to_end_leaves_an_empty_group_of_the_next_generation() {
    let mut driver = Driver::new();
    driver.stable(vec![join("", &[])]);
    let (generation, persists) = (driver.machine.generation(), driver.persists);
    driver.pass(SESSION_MS as u64);
    assert_eq!(driver.machine.state(), GroupState::Empty);
    assert_eq!(driver.machine.generation(), generation + 1);
    assert_eq!(driver.persists, persists + 1);
    assert!(driver.machine.is_idle());
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let generation = driver.machine.generation();
    for _ in 0..20 {
        driver.pass(3_000);
        let now = driver.now;
        assert_eq!(driver.machine.check_commit(now, &identity(&ids[0]), generation), Ok(()));
    }
}

#[test]
fn commits_are_checked_against_member_and_generation() {
    let mut driver = Driver::new();
    let now = driver.now;
    let nobody = MemberIdentity::default();
    assert_eq!(driver.machine.check_commit(now, &nobody, -1), Ok(()), "a group without members takes any commit");
    assert_eq!(driver.machine.check_commit(now, &identity("m"), 3), Err(CommitOffsetsError::GroupIdNotFound));
    let ids = driver.stable(vec![join("", &[])]);
    let generation = driver.machine.generation();
    let mut check = |member: &MemberIdentity, generation| driver.machine.check_commit(now, member, generation);
    assert_eq!(check(&nobody, -1), Err(CommitOffsetsError::UnknownMemberId));
    assert_eq!(check(&identity("stranger"), generation), Err(CommitOffsetsError::UnknownMemberId));
    assert_eq!(check(&identity(&ids[0]), generation + 1), Err(CommitOffsetsError::IllegalGeneration));
    assert_eq!(check(&identity(&ids[0]), -1), Err(CommitOffsetsError::IllegalGeneration));
    assert_eq!(check(&static_identity(&ids[0], "i"), generation), Err(CommitOffsetsError::UnknownMemberId));
    assert_eq!(check(&identity(&ids[0]), generation), Ok(()));
}

#[test]
fn commits_are_taken_while_members_rejoin_but_not_before_the_assignment() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    driver.join(join(&ids[0], &[]));
    let now = driver.now;
    assert_eq!(driver.machine.state(), GroupState::PreparingRebalance);
    assert_eq!(driver.machine.check_commit(now, &identity(&ids[1]), generation), Ok(()));
    driver.join(join(&ids[1], &[]));
    assert_eq!(driver.machine.state(), GroupState::CompletingRebalance);
    let early = driver.machine.check_commit(now, &identity(&ids[1]), generation + 1);
    assert_eq!(early, Err(CommitOffsetsError::RebalanceInProgress));
}
