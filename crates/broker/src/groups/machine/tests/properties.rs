//! Any sequence of requests and any passing of time: the machine's own assertions hold, nobody is answered twice,
//! nobody waits for ever, and its durable record brings back the same group.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Join { member: usize, protocols: usize, handshake: bool, instance: Option<usize> },
    Sync { member: usize, back: i32 },
    Heartbeat { member: usize, back: i32 },
    Commit { member: usize, back: i32 },
    Leave { member: usize },
    LeaveInstance { instance: usize },
    Pass { milliseconds: u64 },
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let instance = proptest::option::weighted(0.3, 0..3_usize);
    let action = prop_oneof![
        6 => (0..6_usize, 0..4_usize, any::<bool>(), instance).prop_map(|(member, protocols, handshake, instance)| {
            Action::Join { member, protocols, handshake, instance }
        }),
        6 => (0..6_usize, 0..2_i32).prop_map(|(member, back)| Action::Sync { member, back }),
        2 => (0..6_usize, 0..2_i32).prop_map(|(member, back)| Action::Heartbeat { member, back }),
        1 => (0..6_usize, -1..2_i32).prop_map(|(member, back)| Action::Commit { member, back }),
        2 => (0..6_usize).prop_map(|member| Action::Leave { member }),
        1 => (0..3_usize).prop_map(|instance| Action::LeaveInstance { instance }),
        3 => (0..20_000_u64).prop_map(|milliseconds| Action::Pass { milliseconds }),
        1 => Just(Action::Restart),
    ];
    proptest::collection::vec(action, 1..120)
}

const PROTOCOLS: [&[&str]; 4] = [&["range"], &["range", "sticky"], &["sticky", "range"], &["other"]];

/// The id of a member that exists, once was given out, or never was.
fn some_id(driver: &Driver, given: &[String], member: usize) -> String {
    let known: Vec<&String> = driver.machine.members.keys().chain(driver.machine.pending.keys()).collect();
    match known.get(member) {
        Some(id) => (*id).clone(),
        None => given.get(member).cloned().unwrap_or_default(),
    }
}

fn identity_of(driver: &Driver, id: &str) -> MemberIdentity {
    let instance_id = driver.machine.members.get(id).and_then(|member| member.instance_id.clone());
    MemberIdentity { member_id: id.to_owned(), instance_id }
}

/// The latest generation that any member knows.
fn told(driver: &Driver) -> i32 {
    let joined = driver.replies.values().filter_map(|reply| match reply {
        Reply::Join(Ok(joined)) => Some(joined.generation),
        _ => None,
    });
    joined.max().unwrap_or(0)
}

fn run(actions: Vec<Action>) {
    let mut driver =
        Driver::with(Settings { initial_rebalance_delay_ms: DELAY_MS, members_max: 5, record_bytes_max: 10_000 });
    let mut given = Vec::new();
    let mut asked = Vec::new();
    let mut generation = 0;
    for action in actions {
        match action {
            Action::Join { member, protocols, handshake, instance } => {
                let id = some_id(&driver, &given, member);
                let mut request = join(&id, PROTOCOLS[protocols]);
                request.member = identity_of(&driver, &id);
                if let Some(instance) = instance {
                    request.member.instance_id = Some(format!("i{instance}"));
                }
                request.requires_known_member_id = handshake;
                asked.push(driver.join(request));
            }
            Action::Sync { member, back } => {
                let id = some_id(&driver, &given, member);
                let (identity, generation) = (identity_of(&driver, &id), driver.machine.generation() - back);
                asked.push(driver.sync_as(identity, generation, &[(&id, "assignment")]));
            }
            Action::Heartbeat { member, back } => {
                let id = some_id(&driver, &given, member);
                let (now, identity) = (driver.now, identity_of(&driver, &id));
                let generation = driver.machine.generation() - back;
                let _ = driver.machine.heartbeat(now, &identity, generation);
            }
            Action::Commit { member, back } => {
                let id = some_id(&driver, &given, member);
                let (now, identity) = (driver.now, identity_of(&driver, &id));
                let generation = driver.machine.generation() - back;
                let _ = driver.machine.check_commit(now, &identity, generation);
            }
            Action::Leave { member } => {
                let id = some_id(&driver, &given, member);
                let identity = identity_of(&driver, &id);
                driver.leave(&[identity]);
            }
            Action::LeaveInstance { instance } => {
                driver.leave(&[static_identity("", &format!("i{instance}"))]);
            }
            Action::Pass { milliseconds } => driver.pass(milliseconds),
            Action::Restart => {
                asked.retain(|ticket| driver.replies.contains_key(ticket));
                driver.restart();
                // A generation that nobody was told of may come again.
                generation = generation.min(driver.machine.generation());
                assert!(told(&driver) <= driver.machine.generation(), "what was told is not forgotten");
            }
        }
        given = driver
            .replies
            .values()
            .filter_map(|reply| match reply {
                Reply::Join(Ok(joined)) => Some(joined.member_id.clone()),
                Reply::Join(Err(JoinGroupError::MemberIdRequired { member_id })) => Some(member_id.clone()),
                _ => None,
            })
            .collect();
        assert!(driver.machine.generation() >= generation, "generations only rise");
        generation = driver.machine.generation();
    }
    // Left alone, every session ends and nobody waits any more.
    driver.pass(24 * 3_600_000);
    assert_eq!(driver.machine.state(), GroupState::Empty);
    assert!(driver.machine.is_idle());
    assert!(asked.iter().all(|ticket| driver.replies.contains_key(ticket)), "everyone was answered");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_requests_keeps_the_group_consistent_and_answers_everyone(actions in actions()) {
        run(actions);
    }
}
