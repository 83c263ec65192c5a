//! Joining: the handshake, the first members, who leads, which protocol, who is turned away.

use super::*;

fn with_delay() -> Driver {
    Driver::with(Settings { initial_rebalance_delay_ms: DELAY_MS, members_max: usize::MAX, record_bytes_max: 1 << 20 })
}

#[test]
fn a_dynamic_member_is_first_given_an_id_kip_394() {
    let mut driver = Driver::new();
    let first = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(first).clone() else { panic!() };
    assert!(member_id.starts_with("client-"));
    assert!(!driver.machine.is_idle(), "the id is remembered");
    let second = driver.join(JoinGroup { requires_known_member_id: true, ..join(&member_id, &[]) });
    assert_eq!(driver.joined(second).member_id, member_id);
    assert_eq!(driver.joined(second).generation, 1);
}

#[test]
fn an_id_given_out_is_forgotten_after_the_session_timeout() {
    let mut driver = Driver::new();
    let first = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(first).clone() else { panic!() };
    driver.pass(SESSION_MS as u64);
    assert!(driver.machine.is_idle());
    let late = driver.join(join(&member_id, &[]));
    assert_eq!(*driver.join_error(late), JoinGroupError::UnknownMemberId);
}

#[test]
fn a_pending_member_holds_up_the_rebalance_until_it_joins() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    let handshake = driver.join(JoinGroup { requires_known_member_id: true, ..join("", &[]) });
    let JoinGroupError::MemberIdRequired { member_id } = driver.join_error(handshake).clone() else { panic!() };
    let leader = driver.join(join(&ids[0], &[]));
    assert!(driver.waits(leader), "someone is about to join");
    let newcomer = driver.join(join(&member_id, &[]));
    assert_eq!(driver.joined(leader).generation, 2);
    assert_eq!(driver.joined(newcomer).generation, 2);
}

#[test]
fn an_unknown_member_id_is_refused() {
    let mut driver = Driver::new();
    let ticket = driver.join(join("nobody", &[]));
    assert_eq!(*driver.join_error(ticket), JoinGroupError::UnknownMemberId);
    driver.stable(vec![join("", &[])]);
    let ticket = driver.join(join("nobody", &[]));
    assert_eq!(*driver.join_error(ticket), JoinGroupError::UnknownMemberId);
}

#[test]
fn the_first_members_are_waited_for_by_the_initial_delay_and_again_while_more_come() {
    let mut driver = with_delay();
    let one = driver.join(join("", &[]));
    driver.pass(DELAY_MS as u64 - 1);
    assert!(driver.waits(one));
    let two = driver.join(join("", &[]));
    driver.pass(1);
    assert!(driver.waits(one), "a newcomer extends the delay");
    driver.pass(DELAY_MS as u64);
    assert_eq!(driver.joined(one).generation, 1);
    assert_eq!(driver.joined(two).generation, 1);
}

#[test]
fn the_initial_delay_never_exceeds_the_rebalance_timeout() {
    let mut driver = with_delay();
    let first = driver.join(JoinGroup { rebalance_timeout_ms: 5_000, ..join("", &[]) });
    for _ in 0..4 {
        driver.join(JoinGroup { rebalance_timeout_ms: 5_000, ..join("", &[]) });
        driver.pass(1_250);
    }
    assert_eq!(driver.joined(first).generation, 1, "5 s after the first join");
}

#[test]
fn only_the_leader_gets_the_members_metadata() {
    let mut driver = with_delay();
    let one = driver.join(join("", &[]));
    let two = driver.join(join("", &[]));
    driver.pass(2 * DELAY_MS as u64);
    let (first, second) = (driver.joined(one), driver.joined(two));
    assert_eq!(first.leader, first.member_id);
    assert_eq!(second.leader, first.member_id);
    assert_eq!(first.members.len(), 2);
    assert_eq!(first.members[0].metadata, "range");
    assert!(second.members.is_empty());
}

#[test]
fn the_protocol_with_most_votes_among_those_that_all_support_wins() {
    let mut driver = with_delay();
    let one = driver.join(join("", &["sticky", "range", "mine"]));
    driver.join(join("", &["range", "sticky"]));
    driver.join(join("", &["other", "range", "sticky"]));
    driver.pass(3 * DELAY_MS as u64);
    assert_eq!(driver.joined(one).protocol, "range");
}

#[test]
fn inconsistent_protocols_are_refused() {
    let mut driver = Driver::new();
    let none = driver.join(JoinGroup { protocols: Vec::new(), ..join("", &[]) });
    assert_eq!(*driver.join_error(none), JoinGroupError::InconsistentGroupProtocol);
    let untyped = driver.join(JoinGroup { protocol_type: String::new(), ..join("", &[]) });
    assert_eq!(*driver.join_error(untyped), JoinGroupError::InconsistentGroupProtocol);
    driver.stable(vec![join("", &["range"])]);
    let other = driver.join(join("", &["sticky"]));
    assert_eq!(*driver.join_error(other), JoinGroupError::InconsistentGroupProtocol);
    let connect = driver.join(JoinGroup { protocol_type: "connect".to_owned(), ..join("", &[]) });
    assert_eq!(*driver.join_error(connect), JoinGroupError::InconsistentGroupProtocol);
}

#[test]
fn an_empty_group_takes_another_protocol_type() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[])]);
    driver.leave(&[identity(&ids[0])]);
    assert_eq!(driver.machine.state(), GroupState::Empty);
    assert_eq!(driver.machine.listed().protocol_type, "consumer");
    let connect = driver.join(JoinGroup { protocol_type: "connect".to_owned(), ..join("", &[]) });
    assert_eq!(driver.joined(connect).protocol_type, "connect");
}

#[test]
fn a_newcomer_rebalances_a_stable_group_and_waits_for_the_others() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    let newcomer = driver.join(join("", &[]));
    assert!(driver.waits(newcomer));
    assert_eq!(driver.heartbeat(&ids[0], generation), Err(HeartbeatError::RebalanceInProgress));
    let one = driver.join(join(&ids[0], &[]));
    assert!(driver.waits(one));
    let two = driver.join(join(&ids[1], &[]));
    for ticket in [newcomer, one, two] {
        assert_eq!(driver.joined(ticket).generation, generation + 1);
    }
}

#[test]
fn whoever_does_not_rejoin_in_time_is_out() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let generation = driver.machine.generation();
    let newcomer = driver.join(join("", &[]));
    let one = driver.join(join(&ids[0], &[]));
    for _ in 0..REBALANCE_MS / 1_000 {
        let _ = driver.heartbeat(&ids[1], generation);
        driver.pass(1_000);
    }
    assert_eq!(driver.joined(one).members.len(), 2);
    assert_eq!(driver.joined(newcomer).generation, generation + 1);
    assert_eq!(driver.heartbeat(&ids[1], generation), Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn the_longest_rebalance_timeout_of_all_members_counts() {
    let mut driver = Driver::new();
    let slow = JoinGroup { rebalance_timeout_ms: 2 * REBALANCE_MS, session_timeout_ms: 500_000, ..join("", &[]) };
    let ids = driver.stable(vec![slow]);
    let newcomer = driver.join(join("", &[]));
    driver.pass(REBALANCE_MS as u64 + 1);
    assert!(driver.waits(newcomer));
    driver.pass(REBALANCE_MS as u64);
    assert_eq!(driver.joined(newcomer).members.len(), 1, "{} is out", ids[0]);
}

#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let follower = driver.join(join(&ids[1], &["range", "sticky"]));
    driver.pass(REBALANCE_MS as u64);
    assert_eq!(driver.joined(follower).leader, ids[1]);
}

#[test]
fn a_follower_with_the_same_metadata_is_told_the_generation_again() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let again = driver.join(join(&ids[1], &[]));
    assert_eq!(driver.joined(again).generation, driver.machine.generation());
    assert!(driver.joined(again).members.is_empty());
    assert_eq!(driver.machine.state(), GroupState::Stable);
}

#[test]
fn a_leader_that_joins_again_rebalances_the_group() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let again = driver.join(join(&ids[0], &[]));
    assert!(driver.waits(again));
    assert_eq!(driver.machine.state(), GroupState::PreparingRebalance);
}

#[test]
fn changed_metadata_rebalances_the_group() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    driver.join(join(&ids[1], &["range", "more"]));
    assert_eq!(driver.machine.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_join_that_was_answered_and_comes_again_is_answered_again() {
    let mut driver = Driver::new();
    let first = driver.join(join("", &[]));
    let id = driver.joined(first).member_id.clone();
    let again = driver.join(join(&id, &[]));
    assert_eq!(driver.joined(again), driver.joined(first));
}

#[test]
fn a_repeated_join_takes_the_place_of_the_earlier_one() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let earlier = driver.join(join(&ids[0], &[]));
    let later = driver.join(join(&ids[0], &[]));
    assert_eq!(*driver.join_error(earlier), JoinGroupError::RebalanceInProgress);
    driver.join(join(&ids[1], &[]));
    assert!(driver.joined(later).generation > 0);
}

#[test]
fn a_group_has_at_most_group_max_size_members() {
    let mut driver =
        Driver::with(Settings { initial_rebalance_delay_ms: 0, members_max: 2, record_bytes_max: 1 << 20 });
    driver.stable(vec![join("", &[]), join("", &[])]);
    let third = driver.join(join("", &[]));
    assert_eq!(*driver.join_error(third), JoinGroupError::GroupMaxSizeReached);
    assert_eq!(driver.machine.state(), GroupState::Stable, "the others are left alone");
}

#[test]
fn the_last_to_rejoin_are_turned_away_when_the_group_is_over_its_size() {
    let mut driver = Driver::new();
    let ids = driver.stable(vec![join("", &[]), join("", &[]), join("", &[])]);
    driver.machine.settings.members_max = 2;
    let one = driver.join(join(&ids[0], &[]));
    driver.join(join(&ids[1], &[]));
    let three = driver.join(join(&ids[2], &[]));
    assert_eq!(*driver.join_error(three), JoinGroupError::GroupMaxSizeReached);
    assert_eq!(driver.joined(one).members.len(), 2);
}

#[test]
fn a_member_whose_metadata_does_not_fit_the_record_is_turned_away() {
    let mut driver = Driver::with(Settings { initial_rebalance_delay_ms: 0, members_max: 9, record_bytes_max: 1_000 });
    let mut large = join("", &[]);
    large.protocols[0].1 = Bytes::from(vec![0; 1_000]);
    let ticket = driver.join(large);
    assert_eq!(*driver.join_error(ticket), JoinGroupError::GroupMaxSizeReached);
}

#[test]
fn a_new_member_that_waits_too_long_is_told_to_start_over() {
    let mut driver = Driver::new();
    let keeper = JoinGroup { rebalance_timeout_ms: 1_000_000, session_timeout_ms: 1_000_000, ..join("", &[]) };
    driver.stable(vec![keeper]);
    let newcomer = driver.join(join("", &[]));
    driver.pass(NEW_MEMBER_JOIN_TIMEOUT_MS as u64);
    assert_eq!(*driver.join_error(newcomer), JoinGroupError::UnknownMemberId);
}

#[test]
fn a_generation_is_durable_before_its_members_are_told() {
    let mut driver = Driver::new();
    let before = driver.persists;
    let ticket = driver.join(join("", &[]));
    assert_eq!(driver.joined(ticket).generation, 1);
    assert_eq!(driver.persists, before + 1);
}

#[test]
fn a_member_with_a_flood_of_protocols_is_refused_and_many_of_an_ordinary_number_are_quick() {
    let settings = Settings { initial_rebalance_delay_ms: 0, members_max: usize::MAX, record_bytes_max: 16 << 20 };
    let mut driver = Driver::with(settings);
    let flood: Vec<String> = (0..200_000).map(|number| number.to_string()).collect();
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    let refused = driver.join(join("", &flood));
    assert_eq!(*driver.join_error(refused), JoinGroupError::InconsistentGroupProtocol);
    let ids = driver.stable(vec![join("", &flood[..100]), join("", &flood[50..150])]);
    assert_eq!(ids.len(), 2);
    assert_eq!(driver.machine.protocol.as_deref(), Some("50"), "of those that both support");
    let stranger = driver.join(join("", &flood[..50]));
    assert_eq!(*driver.join_error(stranger), JoinGroupError::InconsistentGroupProtocol);
}

#[test]
fn a_protocol_counts_once_per_member_however_often_it_is_named() {
    let mut driver = Driver::new();
    driver.stable(vec![join("", &["a", "a", "b"]), join("", &["b", "a", "a"])]);
    let third = driver.join(join("", &["c"]));
    assert_eq!(*driver.join_error(third), JoinGroupError::InconsistentGroupProtocol);
    assert_eq!(driver.machine.protocol.as_deref(), Some("a"));
}

#[test]
fn a_stranger_who_finds_no_room_disturbs_nobody() {
    let mut driver =
        Driver::with(Settings { initial_rebalance_delay_ms: 0, members_max: 2, record_bytes_max: 1 << 20 });
    let ids = driver.stable(vec![join("", &[]), join("", &[])]);
    let (generation, persists) = (driver.machine.generation, driver.persists);
    let stranger = driver.join(join("made-up", &[]));
    assert_eq!(*driver.join_error(stranger), JoinGroupError::GroupMaxSizeReached);
    assert_eq!(driver.machine.state, GroupState::Stable);
    assert_eq!(driver.persists, persists);
    for id in &ids {
        assert_eq!(driver.heartbeat(id, generation), Ok(()));
    }
}

#[test]
fn everything_that_a_member_adds_to_the_record_counts() {
    let settings = Settings { initial_rebalance_delay_ms: 0, members_max: usize::MAX, record_bytes_max: 4_096 };
    let mut driver = Driver::with(settings);
    driver.stable(vec![join("", &[])]);
    let long = "x".repeat(5_000);
    let named = driver.join(JoinGroup { client_id: long.clone(), ..join("", &[]) });
    assert_eq!(*driver.join_error(named), JoinGroupError::GroupMaxSizeReached);
    let fixed = driver.join(static_join("", &long));
    assert_eq!(*driver.join_error(fixed), JoinGroupError::GroupMaxSizeReached);
    assert_eq!(driver.machine.state, GroupState::Stable, "nobody is disturbed");
}

#[test]
fn assignments_of_the_last_generation_leave_room_for_who_joins() {
    let settings = Settings { initial_rebalance_delay_ms: 0, members_max: usize::MAX, record_bytes_max: 1_000 };
    let mut driver = Driver::with(settings);
    let first = driver.join(join("", &[]));
    let (id, generation) = (driver.joined(first).member_id.clone(), driver.joined(first).generation);
    let assignment: &'static str = Box::leak("a".repeat(800).into_boxed_str());
    let sync = driver.sync(&id, generation, &[(&id, assignment)]);
    assert_eq!(driver.synced(sync).assignment.len(), 800);
    let second = driver.join(join("", &[]));
    assert!(driver.waits(second), "it is let in");
    let mut record = Vec::new();
    shard::Command::from(shard::commands::PutGroup {
        group: driver.machine.record(),
        expected: shard::GroupVersion(1),
    })
    .encode(&mut record);
    assert!(record.len() <= 1_000, "{} bytes", record.len());
}
