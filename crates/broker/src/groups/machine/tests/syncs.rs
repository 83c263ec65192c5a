//! Syncing: assignments reach their members byte for byte, once, and in time.

use super::*;

/// Two members of a generation that nobody has synced yet; the leader's id first.
fn completing() -> (Driver, String, String) {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    driver.join(join(&ids[0], &[]));
    driver.join(join(&ids[1], &[]));
    assert_eq!(driver.machine.state(), GroupState::CompletingRebalance);
    (driver, ids[0].clone(), ids[1].clone())
}

#[test]
fn a_follower_that_syncs_before_the_leader_waits_for_it() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    let early = driver.sync(&follower, generation, &[]);
    assert!(driver.waits(early));
    let persists = driver.persists;
    let lead = driver.sync(&leader, generation, &[(&leader, "a"), (&follower, "b")]);
    assert_eq!(driver.persists, persists + 1, "the assignment is durable first");
    assert_eq!(driver.synced(early).assignment, "b");
    assert_eq!(driver.synced(lead).assignment, "a");
    assert_eq!(driver.synced(lead).protocol, "range");
    assert_eq!(driver.synced(lead).protocol_type, "consumer");
}

#[test]
fn a_follower_that_syncs_after_the_leader_is_answered_at_once() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    driver.sync(&leader, generation, &[(&follower, "b")]);
    let late = driver.sync(&follower, generation, &[]);
    assert_eq!(driver.synced(late).assignment, "b");
}

#[test]
fn whoever_the_leader_leaves_out_gets_an_empty_assignment() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    let lead = driver.sync(&leader, generation, &[(&follower, "b"), ("stranger", "c")]);
    assert_eq!(driver.synced(lead).assignment, "");
}

#[test]
fn a_followers_assignment_is_ignored() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    let early = driver.sync(&follower, generation, &[(&follower, "mine")]);
    driver.sync(&leader, generation, &[(&follower, "b")]);
    assert_eq!(driver.synced(early).assignment, "b");
}

#[test]
fn a_sync_of_another_generation_is_refused() {
    let (mut driver, leader, _) = completing();
    let generation = driver.machine.generation();
    for wrong in [generation - 1, generation + 1] {
        let ticket = driver.sync(&leader, wrong, &[]);
        assert_eq!(*driver.sync_error(ticket), SyncGroupError::IllegalGeneration);
    }
}

#[test]
fn a_sync_of_a_stranger_is_refused() {
    let (mut driver, _, _) = completing();
    let ticket = driver.sync("stranger", driver.machine.generation(), &[]);
    assert_eq!(*driver.sync_error(ticket), SyncGroupError::UnknownMemberId);
}

#[test]
fn a_sync_that_names_another_protocol_is_refused() {
    let (mut driver, leader, _) = completing();
    let generation = driver.machine.generation();
    for (protocol_type, protocol) in [(Some("connect"), None), (None, Some("sticky"))] {
        let ticket = driver.ticket();
        let request = SyncGroup {
            group_id: "g".to_owned(),
            member: identity(&leader),
            generation,
            protocol_type: protocol_type.map(str::to_owned),
            protocol: protocol.map(str::to_owned),
            assignments: Vec::new(),
        };
        driver.step(Event::Sync { ticket, request });
        assert_eq!(*driver.sync_error(ticket), SyncGroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn a_sync_during_the_join_phase_is_refused_and_waiting_ones_are_sent_back() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    let early = driver.sync(&follower, generation, &[]);
    driver.join(join("", &[]));
    assert_eq!(*driver.sync_error(early), SyncGroupError::RebalanceInProgress);
    let late = driver.sync(&leader, generation, &[]);
    assert_eq!(*driver.sync_error(late), SyncGroupError::RebalanceInProgress);
}

#[test]
fn whoever_does_not_sync_within_the_rebalance_timeout_is_out() {
    let (mut driver, leader, follower) = completing();
    let generation = driver.machine.generation();
    driver.sync(&leader, generation, &[]);
    for _ in 0..REBALANCE_MS / 1_000 {
        driver.heartbeat(&leader, generation).expect("the group is stable");
        driver.heartbeat(&follower, generation).expect("the group is stable");
        driver.pass(1_000);
    }
    assert_eq!(driver.heartbeat(&follower, generation), Err(HeartbeatError::UnknownMemberId));
    assert_eq!(driver.heartbeat(&leader, generation), Err(HeartbeatError::RebalanceInProgress));
}

#[test]
fn an_assignment_too_large_for_the_record_is_refused() {
    let mut driver = Driver::with(Settings { initial_rebalance_delay_ms: 0, members_max: 9, record_bytes_max: 300 });
    let first = driver.join(join("", &[]));
    let id = driver.joined(first).member_id.clone();
    let ticket = driver.ticket();
    let request = SyncGroup {
        group_id: "g".to_owned(),
        member: identity(&id),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![(id, Bytes::from(vec![0; 300]))],
    };
    driver.step(Event::Sync { ticket, request });
    assert_eq!(*driver.sync_error(ticket), SyncGroupError::AssignmentTooLarge);
}
