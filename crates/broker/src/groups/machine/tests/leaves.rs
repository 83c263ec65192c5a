//! Leaving, by oneself or by an administrator.

use super::*;

#[test]
fn a_member_that_leaves_rebalances_the_others() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    assert_eq!(driver.leave(&[identity(&ids[1])]), [Ok(())]);
    assert_eq!(driver.heartbeat(&ids[0], generation), Err(HeartbeatError::RebalanceInProgress));
    assert_eq!(driver.heartbeat(&ids[1], generation), Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn the_last_member_that_leaves_empties_the_group() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let generation = driver.machine.generation();
    assert_eq!(driver.leave(&[identity(&ids[0])]), [Ok(())]);
    assert_eq!(driver.machine.state(), GroupState::Empty);
    assert_eq!(driver.machine.generation(), generation + 1);
}

#[test]
fn each_member_of_the_request_has_its_own_answer() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), static_join("", "i")]);
    let fixed = ids.iter().find(|id| id.starts_with("i-")).expect("the static member").clone();
    let dynamic = ids.iter().find(|id| !id.starts_with("i-")).expect("the dynamic member").clone();
    let answers = driver.leave(&[
        identity("stranger"),
        static_identity("someone-else", "i"),
        static_identity("", "unknown"),
        identity(""),
        static_identity(&fixed, "i"),
        identity(&dynamic),
    ]);
    assert_eq!(
        answers,
        [
            Err(LeaveMemberError::UnknownMemberId),
            Err(LeaveMemberError::FencedInstanceId),
            Err(LeaveMemberError::UnknownMemberId),
            Err(LeaveMemberError::UnknownMemberId),
            Ok(()),
            Ok(()),
        ]
    );
    assert_eq!(driver.machine.state(), GroupState::Empty);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id_alone() {
    let mut driver = Driver::new();
    driver.stable(vec![static_join("", "i")]);
    assert_eq!(driver.leave(&[static_identity("", "i")]), [Ok(())]);
    assert_eq!(driver.machine.state(), GroupState::Empty);
}

#[test]
fn an_id_given_out_in_the_handshake_can_be_given_back() {
    let mut driver = Driver::new();
    let ticket = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(ticket).clone() else { panic!() };
    assert_eq!(driver.leave(&[identity(&member_id)]), [Ok(())]);
    assert!(driver.machine.is_idle());
}

/// Kafka's log says of it "Preparing to rebalance ... (reason: explicit `LeaveGroup` request ...)".
#[test]
fn an_id_that_is_given_back_unused_rebalances_the_others_as_in_kafka() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let generation = driver.machine.generation();
    let ticket = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(ticket).clone() else { panic!() };
    assert_eq!(driver.heartbeat(&ids[0], generation), Ok(()));
    assert_eq!(driver.leave(&[identity(&member_id)]), [Ok(())]);
    assert_eq!(driver.heartbeat(&ids[0], generation), Err(HeartbeatError::RebalanceInProgress));
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let waiting = driver.join(join(&ids[1], &["range", "more"]));
    driver.leave(&[identity(&ids[1])]);
    assert_eq!(*driver.join_error(waiting), JoinGroupError::UnknownMemberId);
}

#[test]
fn a_leave_lets_a_waiting_rebalance_complete() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let waiting = driver.join(join(&ids[0], &[]));
    driver.leave(&[identity(&ids[1])]);
    assert_eq!(driver.joined(waiting).members.len(), 1);
}

#[test]
fn a_group_that_nobody_was_told_about_leaves_no_trace() {
    let mut driver =
        Driver::with(Settings { initial_rebalance_delay_ms: DELAY_MS, members_max: 9, record_bytes_max: 1 << 20 });
    let ticket = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(ticket).clone() else { panic!() };
    driver.join(join(&member_id, &[]));
    driver.leave(&[identity(&member_id)]);
    driver.pass(2 * DELAY_MS as u64);
    assert_eq!(driver.machine.state(), GroupState::Empty);
    assert_eq!(driver.persists, 0);
    assert!(!driver.machine.exists());
}
