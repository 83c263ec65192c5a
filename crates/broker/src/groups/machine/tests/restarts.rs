//! What a group is after its node was lost.

use super::*;

#[test]
fn a_stable_group_goes_on_after_a_restart_without_rebalance() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    driver.pass(SESSION_MS as u64 - 1);
    driver.restart();
    driver.pass(SESSION_MS as u64 - 1);
    for id in &ids {
        assert_eq!(driver.heartbeat(id, generation), Ok(()), "sessions began anew");
    }
    let again = driver.join(join(&ids[1], &[]));
    assert_eq!(driver.joined(again).generation, generation);
    let sync = driver.sync(&ids[1], generation, &[]);
    assert_eq!(driver.synced(sync).protocol, "range");
}

#[test]
fn assignments_survive_a_restart_byte_for_byte() {
    let mut driver = Driver::new();
    let first = driver.join(join("", &[]));
    let id = driver.joined(first).member_id.clone();
    driver.sync(&id, 1, &[(&id, "\u{0}\u{1}opaque")]);
    driver.restart();
    let again = driver.sync(&id, 1, &[]);
    assert_eq!(driver.synced(again).assignment, "\u{0}\u{1}opaque");
}

#[test]
fn a_generation_that_waits_for_its_assignment_still_does_after_a_restart() {
    let mut driver = Driver::new();
    let first = driver.join(join("", &[]));
    let id = driver.joined(first).member_id.clone();
    driver.restart();
    assert_eq!(driver.machine.state(), GroupState::CompletingRebalance);
    let sync = driver.sync(&id, 1, &[(&id, "a")]);
    assert_eq!(driver.synced(sync).assignment, "a");
}

#[test]
fn a_rebalance_goes_on_after_a_restart() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    driver.leave(&[identity(&ids[1])]);
    driver.restart();
    assert_eq!(driver.heartbeat(&ids[0], generation), Err(HeartbeatError::RebalanceInProgress));
    let again = driver.join(join(&ids[0], &[]));
    assert_eq!(driver.joined(again).generation, generation + 1);
    assert_eq!(driver.heartbeat(&ids[1], generation), Err(HeartbeatError::UnknownMemberId), "it has left for good");
}

#[test]
fn members_that_do_not_come_back_after_a_restart_expire() {
    let mut driver = Driver::new();
    driver.stable(vec![join("", &[]), static_join("", "a")]);
    driver.restart();
    driver.pass(SESSION_MS as u64);
    assert_eq!(driver.machine.state(), GroupState::Empty);
}

#[test]
fn a_record_brings_back_the_same_record() {
    let mut driver = Driver::new();
    driver.stable(vec![join("", &["range", "sticky"]), static_join("", "a")]);
    let record = driver.machine.record();
    driver.restart();
    assert_eq!(driver.machine.record(), record);
}
