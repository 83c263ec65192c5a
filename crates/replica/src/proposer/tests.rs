//! The proposer against a consensus that accepts, refuses and loses entries by a seed.

use std::collections::BTreeMap;

use base::random::{Random, SeededRandom};
use base::task::{JoinHandle, spawn, yield_now};
use base::time::RealWallClock;
use shard::commands::{AbandonParts, UploadId};
use shard::{Command, EntryCommands, Outcome};
use smallvec::smallvec;
use tokio::sync::mpsc;

use super::*;
use crate::pending::{Pending, ProposeResult};
use crate::raft::types::Answers;

const TERM: Term = Term(7);
/// More than any test has under way.
const ENTRIES_MAX: usize = 64;

/// What becomes of the next entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accept,
    RefuseLease,
    RefuseLeader,
    Lose,
    AcceptAndLose,
}

/// Decides in the order of the calls, as the consensus core does.
struct Fake {
    entries: mpsc::Sender<(Vec<u64>, Flight)>,
}

impl Consensus for Fake {
    async fn write(&self, term: Term, commands: Commands, flight: Flight) {
        assert_eq!(term, TERM);
        let _ = self.entries.try_send((numbers(&commands), flight));
    }
}

fn command(number: u64) -> Command {
    AbandonParts { uploads: vec![UploadId(number)] }.into()
}

fn numbers(commands: &Commands) -> Vec<u64> {
    let mut decoded = EntryCommands::parse(&commands.0.buffers()[0]).unwrap();
    let mut numbers = Vec::new();
    while let Some(placed) = decoded.next_command().unwrap() {
        let Command::AbandonParts(AbandonParts { uploads }) = placed.command else { panic!("another command") };
        numbers.push(uploads[0].0);
    }
    numbers
}

fn outcomes(numbers: &[u64]) -> Answers {
    Answers(numbers.iter().map(|number| Outcome::AbandonParts { abandoned: u32::try_from(*number).unwrap() }).collect())
}

struct Setup {
    shared: Arc<Shared>,
    entries: mpsc::Receiver<(Vec<u64>, Flight)>,
    task: JoinHandle<()>,
}

fn setup(window: usize, queue_bytes_max: usize) -> Setup {
    let shared = Arc::new(Shared::new(queue_bytes_max, 1_000));
    let (sender, entries) = mpsc::channel(ENTRIES_MAX);
    let limits =
        Limits { entry_bytes_max: 1 << 20, entries_in_flight_max: window, lease_wait_max: Duration::from_millis(100) };
    let proposer =
        Proposer::new(Arc::clone(&shared), Arc::new(Fake { entries: sender }), Arc::new(RealWallClock), limits);
    shared.set_gate(Gate::Open { term: TERM });
    Setup { shared, entries, task: spawn("proposer", proposer.run()) }
}

fn propose(shared: &Shared, number: u64) -> Pending {
    let (answer, pending) = Pending::new();
    match shared.queue.push(smallvec![Item::without_body(command(number), 1_000, answer).unwrap()]) {
        Ok(()) => pending,
        Err(error) => Pending::refused(error),
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_an_entry_is_under_way_is_gathered_in_order() {
    let Setup { shared, mut entries, task } = setup(1, 1 << 20);
    let first = propose(&shared, 1);
    let (numbers, flight) = entries.recv().await.unwrap();
    assert_eq!(numbers, [1]);
    let rest: Vec<Pending> = (2..6).map(|number| propose(&shared, number)).collect();
    yield_now().await;
    assert!(entries.try_recv().is_err(), "the window is one entry");
    flight.end(EntryEnd::Applied(outcomes(&[1])));
    assert_eq!(first.await, Ok(Outcome::AbandonParts { abandoned: 1 }));
    let (numbers, flight) = entries.recv().await.unwrap();
    assert_eq!(numbers, [2, 3, 4, 5]);
    flight.end(EntryEnd::Applied(outcomes(&numbers)));
    for (number, pending) in (2..).zip(rest) {
        assert_eq!(pending.await, Ok(Outcome::AbandonParts { abandoned: number }));
    }
    shared.set_gate(Gate::Stopped);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn entries_refused_for_want_of_a_lease_are_tried_again_in_order() {
    let Setup { shared, mut entries, .. } = setup(2, 1 << 20);
    let one = propose(&shared, 1);
    let (_, first) = entries.recv().await.unwrap();
    let two = propose(&shared, 2);
    let (_, second) = entries.recv().await.unwrap();
    let three = propose(&shared, 3);
    second.end(EntryEnd::Refused(Refusal::LeaseExpired));
    yield_now().await;
    assert!(entries.try_recv().is_err(), "nothing moves before the fate of all is known");
    first.end(EntryEnd::Refused(Refusal::LeaseExpired));
    for expected in [1, 2, 3] {
        let (numbers, flight) = entries.recv().await.unwrap();
        assert_eq!(numbers, [expected]);
        flight.end(EntryEnd::Applied(outcomes(&numbers)));
    }
    for pending in [one, two, three] {
        assert!(pending.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_is_not_tried_again_behind_an_accepted_one() {
    for lost in [false, true] {
        let Setup { shared, mut entries, .. } = setup(2, 1 << 20);
        let one = propose(&shared, 1);
        let (_, first) = entries.recv().await.unwrap();
        let two = propose(&shared, 2);
        let (_, second) = entries.recv().await.unwrap();
        let three = propose(&shared, 3);
        first.end(EntryEnd::Refused(Refusal::LeaseExpired));
        if lost {
            drop(second);
            assert_eq!(two.await, Err(ProposeError::Unknown));
        } else {
            second.end(EntryEnd::Applied(outcomes(&[2])));
            assert!(two.await.is_ok());
        }
        assert_eq!(one.await, Err(ProposeError::NotLeader { leader: None }));
        assert_eq!(three.await, Err(ProposeError::NotLeader { leader: None }), "what is behind shares its fate");
        assert!(entries.try_recv().is_err());
        let four = propose(&shared, 4);
        let (numbers, flight) = entries.recv().await.unwrap();
        assert_eq!(numbers, [4]);
        flight.end(EntryEnd::Applied(outcomes(&numbers)));
        assert!(four.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nobody_waits_and_nothing_is_handed_over_twice() {
    let Setup { shared, mut entries, .. } = setup(3, 1 << 20);
    let mut flights = Vec::new();
    let mut pending = Vec::new();
    for number in 1..=3 {
        pending.push(propose(&shared, number));
        flights.push(entries.recv().await.unwrap().1);
    }
    let behind = propose(&shared, 4);
    let third = flights.pop().unwrap();
    third.end(EntryEnd::Refused(Refusal::LeaseExpired));
    yield_now().await;
    shared.close_without_majority();
    let [one, two, three] = pending.try_into().unwrap();
    assert_eq!(one.await, Err(ProposeError::Unknown));
    assert_eq!(two.await, Err(ProposeError::Unknown));
    assert_eq!(three.await, Err(ProposeError::NotLeader { leader: None }), "it was in no log");
    assert_eq!(behind.await, Err(ProposeError::NotLeader { leader: None }));
    // A majority is back before the fate of those is told.
    shared.set_gate(Gate::Open { term: TERM });
    let five = propose(&shared, 5);
    let (numbers, flight) = entries.recv().await.unwrap();
    assert_eq!(numbers, [5]);
    let [first, second] = <[Flight; 2]>::try_from(flights).unwrap();
    first.end(EntryEnd::Applied(outcomes(&[1])));
    second.end(EntryEnd::Refused(Refusal::LeaseExpired));
    flight.end(EntryEnd::Applied(outcomes(&numbers)));
    assert!(five.await.is_ok());
    yield_now().await;
    assert!(entries.try_recv().is_err(), "what was told as unknown is never handed over again");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_stalled_since_something_ended_last() {
    let Setup { shared, mut entries, .. } = setup(2, 1 << 20);
    let pause = Duration::from_secs(7);
    sleep(pause).await;
    assert_eq!(shared.stalled(), Duration::ZERO, "nothing is under way");
    let one = propose(&shared, 1);
    let (numbers_of_first, first) = entries.recv().await.unwrap();
    let two = propose(&shared, 2);
    let (numbers, second) = entries.recv().await.unwrap();
    sleep(pause).await;
    assert_eq!(shared.stalled(), pause);
    first.end(EntryEnd::Applied(outcomes(&numbers_of_first)));
    assert_eq!(shared.stalled(), Duration::ZERO);
    sleep(pause).await;
    assert_eq!(shared.stalled(), pause, "told or not");
    shared.give_up();
    assert_eq!(shared.stalled(), pause);
    second.end(EntryEnd::Applied(outcomes(&numbers)));
    assert_eq!(shared.stalled(), Duration::ZERO);
    assert!(one.await.is_ok());
    assert_eq!(two.await, Err(ProposeError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_never_comes_ends_in_a_refusal() {
    let Setup { shared, mut entries, .. } = setup(1, 1 << 20);
    let refusing = spawn("refusing", async move {
        while let Some((_, flight)) = entries.recv().await {
            flight.end(EntryEnd::Refused(Refusal::LeaseExpired));
        }
    });
    assert_eq!(propose(&shared, 1).await, Err(ProposeError::NotLeader { leader: None }));
    refusing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::disallowed_methods, reason = "the thread of the test waits, and the proposer's does not")]
async fn what_comes_as_the_gate_opens_is_handed_over() {
    let Setup { shared, mut entries, .. } = setup(1, 1 << 20);
    let (answer, mut pending) = Pending::new();
    let item = Item::without_body(command(1), 1_000, answer).unwrap();
    let entered = shared.queue.push_if(smallvec![item], |_| {
        // The proposer wakes for the closed gate, and waits for the queue, which is locked here.
        shared.set_gate(Gate::Closed { leader: None });
        std::thread::sleep(Duration::from_millis(100));
        shared.set_gate(Gate::Open { term: TERM });
        true
    });
    assert_eq!(entered, Ok(()));
    let flight = tokio::select! {
        entry = entries.recv() => entry.unwrap().1,
        refused = &mut pending => panic!("refused through an open gate: {refused:?}"),
    };
    flight.end(EntryEnd::Applied(outcomes(&[1])));
    assert!(pending.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_names_the_leader() {
    let Setup { shared, mut entries, .. } = setup(1, 1 << 20);
    let leader = Some(NodeId(3));
    shared.set_gate(Gate::Closed { leader });
    assert_eq!(propose(&shared, 1).await, Err(ProposeError::NotLeader { leader }));
    shared.set_gate(Gate::Open { term: TERM });
    let pending = propose(&shared, 2);
    let (_, flight) = entries.recv().await.unwrap();
    flight.end(EntryEnd::Refused(Refusal::NotLeader { leader }));
    assert_eq!(pending.await, Err(ProposeError::NotLeader { leader }));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_tells_when_there_is_room() {
    let Setup { shared, mut entries, .. } = setup(1, 300);
    let one = propose(&shared, 1);
    let (_, flight) = entries.recv().await.unwrap();
    let two = propose(&shared, 2);
    let three = propose(&shared, 3);
    assert_eq!(propose(&shared, 4).await, Err(ProposeError::Busy));
    let room = spawn("room", {
        let shared = Arc::clone(&shared);
        async move { shared.queue.room().await }
    });
    yield_now().await;
    assert!(!room.is_finished());
    flight.end(EntryEnd::Applied(outcomes(&[1])));
    let (numbers, flight) = entries.recv().await.unwrap();
    assert_eq!(numbers, [2, 3]);
    room.await.unwrap();
    flight.end(EntryEnd::Applied(outcomes(&numbers)));
    for pending in [one, two, three] {
        assert!(pending.await.is_ok());
    }
    assert_eq!(shared.queue.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_refuses_what_waits_and_ends_behind_what_is_under_way() {
    let Setup { shared, mut entries, task } = setup(1, 1 << 20);
    let one = propose(&shared, 1);
    let (_, flight) = entries.recv().await.unwrap();
    let two = propose(&shared, 2);
    shared.set_gate(Gate::Stopped);
    assert_eq!(two.await, Err(ProposeError::Stopped));
    assert_eq!(propose(&shared, 3).await, Err(ProposeError::Stopped));
    assert!(!task.is_finished());
    flight.end(EntryEnd::Applied(outcomes(&[1])));
    assert!(one.await.is_ok());
    task.await.unwrap();
}

/// Whatever consensus does: nothing enters the log twice, what is told to be there is there, what
/// is told to be refused is not, and the log has the order of arrival.
#[tokio::test(start_paused = true)]
async fn no_schedule_makes_an_entry_appear_twice_or_out_of_order() {
    for seed in 0..300 {
        let random = Arc::new(SeededRandom::new(seed));
        let Setup { shared, entries, task } = setup(1 + usize::try_from(random.below(8)).unwrap(), 1 << 20);
        let consensus = spawn("consensus", decide(entries, Arc::clone(&random)));
        let mut pendings = Vec::new();
        for number in 0..200 {
            pendings.push((number, propose(&shared, number)));
            for _ in 0..random.below(4) {
                yield_now().await;
            }
        }
        let mut told: BTreeMap<u64, ProposeResult> = BTreeMap::new();
        for (number, pending) in pendings {
            told.insert(number, pending.await);
        }
        shared.set_gate(Gate::Stopped);
        task.await.unwrap();
        let log = consensus.await.unwrap();
        assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {log:?}");
        for (number, result) in told {
            let there = log.binary_search(&number).is_ok();
            match result {
                Ok(outcome) => {
                    assert!(there, "seed {seed}: {number} was acknowledged");
                    assert_eq!(outcome, Outcome::AbandonParts { abandoned: u32::try_from(number).unwrap() });
                }
                Err(ProposeError::Unknown) => {}
                Err(error) => assert!(!there, "seed {seed}: {number} was refused with {error}"),
            }
        }
    }
}

/// Accepts, refuses and loses entries in runs; gives the commands that it accepted.
async fn decide(mut entries: mpsc::Receiver<(Vec<u64>, Flight)>, random: Arc<SeededRandom>) -> Vec<u64> {
    let mut log = Vec::new();
    let mut accepted: VecDeque<(Vec<u64>, Flight)> = VecDeque::new();
    let mut fate = Fate::Accept;
    while let Some((numbers, flight)) = entries.recv().await {
        for _ in 0..random.below(3) {
            yield_now().await;
        }
        if random.below(8) == 0 {
            fate = [Fate::Accept, Fate::RefuseLease, Fate::RefuseLeader, Fate::Lose, Fate::AcceptAndLose]
                [usize::try_from(random.below(5)).unwrap()];
        } else if random.below(3) == 0 {
            fate = Fate::Accept;
        }
        match fate {
            Fate::Accept => {
                log.extend(&numbers);
                accepted.push_back((numbers, flight));
            }
            Fate::RefuseLease => flight.end(EntryEnd::Refused(Refusal::LeaseExpired)),
            Fate::RefuseLeader => flight.end(EntryEnd::Refused(Refusal::NotLeader { leader: None })),
            Fate::Lose => drop(flight),
            Fate::AcceptAndLose => {
                log.extend(&numbers);
                flight.end(EntryEnd::Unknown);
            }
        }
        while !accepted.is_empty() && (entries.is_empty() || random.below(2) == 0) {
            let (numbers, flight) = accepted.pop_front().unwrap();
            flight.end(EntryEnd::Applied(outcomes(&numbers)));
            yield_now().await;
        }
    }
    log
}
