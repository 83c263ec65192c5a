//! Several members of one group: what one acknowledged all have, at the same offsets, whoever leads;
//! a member that was away is served from the log; one that was deposed gives up what nobody else has.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base::Env;
use base::time::{Duration, now, sleep, timeout};
use record::{LogIndex, NodeId};
use replica::{Config, Founding, ProposeError, Replica};
use shard::commands::{CreateStreams, NewStream};

use crate::support::{AppendFailure, Files, Node, SHARD, append, batch, options, text};
use crate::switchboard::Switchboard;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// Members of one group, each with files of its own.
struct Group {
    env: Env,
    dir: tempfile::TempDir,
    board: Switchboard,
    nodes: Vec<Option<Node>>,
    election_timeout: Option<(Duration, Duration)>,
}

fn id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

impl Group {
    /// A group of `count` voters, founded by the first.
    async fn found(count: usize) -> Self {
        Self::found_with(count, None).await
    }

    async fn found_with(count: usize, election_timeout: Option<(Duration, Duration)>) -> Self {
        let mut group = Self {
            env: Env::real(),
            dir: tempfile::tempdir().expect("a directory"),
            board: Switchboard::default(),
            nodes: Vec::new(),
            election_timeout,
        };
        for place in 0..count {
            group.nodes.push(None);
            group.start(place).await;
        }
        let first = group.replica(0);
        for place in 1..count {
            first.add_learner(id(place)).await.expect("a learner");
        }
        first.change_voters(&(0..count).map(id).collect()).await.expect("voters");
        let members = first.members();
        assert_eq!(members.voters, [(0..count).map(id).collect::<BTreeSet<_>>()]);
        assert!(members.learners.is_empty());
        group
    }

    fn path(&self, place: usize) -> PathBuf {
        self.dir.path().join(place.to_string())
    }

    async fn start(&mut self, place: usize) {
        let files = Files::open(&self.env, &self.path(place), options()).await.expect("files");
        let mut config = Config::new(id(place), SHARD);
        config.election_timeout = self.election_timeout.unwrap_or(config.election_timeout);
        let founding = if place == 0 { Founding::Alone } else { Founding::Invited };
        let replica = files.start_member(&self.env, config, self.board.of(id(place)), founding).await.expect("started");
        self.board.plug(id(place), replica.clone());
        self.nodes[place] = Some(Node { log: files.log, replica });
    }

    async fn stop(&mut self, place: usize) {
        self.board.unplug(id(place));
        self.nodes[place].take().expect("a running node").stop().await;
    }

    fn replica(&self, place: usize) -> Replica {
        self.nodes[place].as_ref().expect("a running node").replica.clone()
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.as_ref()?)))
    }

    /// The place of the one that leads, among `places`.
    async fn leader_of(&self, places: &[usize]) -> usize {
        let started = now();
        loop {
            for (place, node) in self.running() {
                if places.contains(&place) && node.replica.is_leader() {
                    return place;
                }
            }
            assert!(started.elapsed() < WAIT_MAX, "nobody leads");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn create_stream(&self, leader: usize) {
        let stream = NewStream {
            id: record::StreamId(1),
            epoch_start: record::LeaderEpoch(0),
            first_offset: record::StreamOffset(0),
        };
        self.replica(leader).propose(CreateStreams { streams: vec![stream] }.into()).await.expect("proposed");
    }

    /// All running members get to the furthest one's entry, with equal records.
    async fn assert_equal(&self, texts: &[String]) {
        let furthest = self.running().map(|(_, node)| node.replica.applied()).max().expect("a member");
        for (place, node) in self.running() {
            reach(&node.replica, furthest).await;
            let read: Vec<String> = node.read_all(1, 1 << 20).await.iter().map(|(_, bytes)| text(bytes)).collect();
            assert_eq!(read, texts, "member {}", place + 1);
        }
    }
}

async fn reach(replica: &Replica, index: LogIndex) {
    let reached = async {
        while replica.applied() < index {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(WAIT_MAX, reached).await.expect("the member catches up");
}

async fn append_texts(replica: &Replica, texts: &mut Vec<String>, count: usize, bytes: usize) {
    for _ in 0..count {
        let text = format!("t{}", texts.len());
        let appended = append(replica, 1, &batch(&text, 1, bytes, 0)).await.expect("appended");
        assert_eq!(usize::try_from(appended.base_offset.0).expect("an offset"), texts.len());
        texts.push(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_every_member() {
    let group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    append_texts(&group.replica(0), &mut texts, 200, 1_000).await;
    // One that travels in parts.
    append_texts(&group.replica(0), &mut texts, 1, 3 << 20).await;
    group.assert_equal(&texts).await;
    for place in [1, 2] {
        let refused = append(&group.replica(place), 1, &batch("x", 1, 10, 0)).await;
        assert_eq!(refused, Err(AppendFailure::Propose(ProposeError::NotLeader { leader: Some(id(0)) })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_gone_is_succeeded_when_its_lease_is_over_and_one_that_goes_on_is_not() {
    // Timers alone would take the lease and as long again.
    let lease = Duration::from_millis(800);
    let group = Group::found_with(3, Some((lease - Duration::from_millis(100), lease))).await;
    let replicas = [0, 1, 2].map(|place| group.replica(place));
    let term = |place: usize| replicas[place].leadership().borrow().term;
    let before = term(0);
    // It is heard of all the time.
    replicas[1].succeed(id(0), Duration::ZERO).await;
    assert!(replicas[0].is_leader() && term(0) == before && term(1) == before);

    group.board.isolate(id(0), &[id(1), id(2)]);
    let cut = now();
    let second = async {
        replicas[2].succeed(id(0), lease / 4).await;
    };
    let first = async {
        replicas[1].succeed(id(0), Duration::ZERO).await;
    };
    let elected = async {
        let leader = group.leader_of(&[1, 2]).await;
        (leader, cut.elapsed())
    };
    let ((), (), (leader, took)) = tokio::join!(first, second, elected);
    assert_eq!(leader, 1, "the first in turn");
    assert!((lease / 2..lease * 7 / 4).contains(&took), "{took:?}");
    assert_eq!(term(1).0, before.0 + 1, "one election");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_is_gone_and_it_comes_back_as_a_follower() {
    let mut group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    append_texts(&group.replica(0), &mut texts, 50, 1_000).await;
    for _ in 0..3 {
        let leader = group.leader_of(&[0, 1, 2]).await;
        let epoch = group.replica(leader).leadership().borrow().term;
        group.stop(leader).await;
        let rest: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
        let next = group.leader_of(&rest).await;
        assert!(group.replica(next).leadership().borrow().term > epoch);
        append_texts(&group.replica(next), &mut texts, 50, 1_000).await;
        group.start(leader).await;
    }
    group.assert_equal(&texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_is_served_from_the_files() {
    let mut group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    group.stop(2).await;
    // More than memory holds of the log, and several requests.
    append_texts(&group.replica(0), &mut texts, 60, 200_000).await;
    group.start(2).await;
    group.assert_equal(&texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_gives_up_what_nobody_else_has() {
    let group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    append_texts(&group.replica(0), &mut texts, 10, 1_000).await;
    group.board.isolate(id(0), &[id(1), id(2)]);
    let cut_off = group.replica(0);
    let lost = base::task::spawn("writer", async move { append(&cut_off, 1, &batch("lost", 1, 1_000, 0)).await });
    let next = group.leader_of(&[1, 2]).await;
    append_texts(&group.replica(next), &mut texts, 10, 1_000).await;
    // Whoever waits is told while the leader is still cut off.
    let lost = timeout(WAIT_MAX, lost).await.expect("an answer").expect("no panic");
    assert!(matches!(lost, Err(AppendFailure::Propose(ProposeError::Unknown))), "{lost:?}");
    group.board.heal();
    group.assert_equal(&texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_serves_what_is_committed_and_takes_nothing_until_it_has_one_again() {
    let group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    append_texts(&group.replica(0), &mut texts, 10, 1_000).await;
    for place in 0..3 {
        group.board.isolate(id(place), &[id(0), id(1), id(2)]);
    }
    let leader = group.replica(0);
    let (sent, sent_later) = (batch("unknown", 1, 1_000, 0), batch("refused", 1, 1_000, 0));
    let unknown = timeout(WAIT_MAX, append(&leader, 1, &sent)).await.expect("an answer");
    assert!(matches!(unknown, Err(AppendFailure::Propose(ProposeError::Unknown))), "{unknown:?}");
    let refused =
        timeout(Duration::from_millis(100), append(&leader, 1, &sent_later)).await.expect("an answer at once");
    assert!(matches!(refused, Err(AppendFailure::Propose(ProposeError::NotLeader { leader: None }))), "{refused:?}");
    assert!(leader.is_leader(), "it goes on serving");
    let node = group.nodes[0].as_ref().expect("a running node");
    let read: Vec<String> = node.read_all(1, 1 << 20).await.iter().map(|(_, bytes)| text(bytes)).collect();
    assert_eq!(read, texts);
    group.board.heal();
    let appended = async {
        loop {
            let next = group.leader_of(&[0, 1, 2]).await;
            if let Ok(appended) = append(&group.replica(next), 1, &batch("after", 1, 1_000, 0)).await {
                return appended;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let appended = timeout(WAIT_MAX, appended).await.expect("writes again");
    // Of what was unknown, and stands in the leader's log alone, either may come true.
    if appended.base_offset.0 == 11 {
        texts.push("unknown".to_owned());
    }
    texts.push("after".to_owned());
    group.assert_equal(&texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over_on_request() {
    let group = Group::found(3).await;
    group.create_stream(0).await;
    let mut texts = Vec::new();
    append_texts(&group.replica(0), &mut texts, 10, 1_000).await;
    group.replica(0).transfer_leader(id(2)).await.expect("asked");
    assert_eq!(group.leader_of(&[1, 2]).await, 2);
    append_texts(&group.replica(2), &mut texts, 10, 1_000).await;
    group.assert_equal(&texts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_members_that_are_gone() {
    let mut group = Group::found(3).await;
    group.create_stream(0).await;
    for place in 0..3 {
        group.board.isolate(id(place), &[id(0), id(1), id(2)]);
    }
    let leader = group.replica(0);
    let waits = base::task::spawn("writer", async move { append(&leader, 1, &batch("x", 1, 1_000, 0)).await });
    sleep(Duration::from_millis(50)).await;
    let config = Config::new(id(0), SHARD);
    timeout(config.shutdown_wait_max / 2, group.stop(0)).await.expect("nobody answers any more");
    let told = timeout(WAIT_MAX, waits).await.expect("it is told").expect("no panic");
    let unknown = Err(AppendFailure::Propose(ProposeError::Unknown));
    assert!(told == unknown || told == Err(AppendFailure::Propose(ProposeError::Stopped)), "{told:?}");
}
