//! What takes a replica out of service: files beside the log that cannot be written, and tasks that
//! panic. Whoever waits is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Env;
use base::disk::{SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, WallClock, sleep, timeout};
use record::LogIndex;
use replica::{OutOfService, ProposeError};
use shard::Outcome;
use shard::commands::Seal;

use crate::support::{AppendFailure, Node, batch, config, options};

const NODE: &str = "/node";

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() }
}

async fn written(disk: &SimDisk) -> Node {
    let node = Node::start(&env(disk), Path::new(NODE), options(), config()).await;
    node.create_streams(1).await;
    for _ in 0..5 {
        node.append(1, &batch("x", 1, 1_000, 0)).await.expect("appended");
    }
    // The log falls silent: what is written next is no part of it.
    sleep(Duration::from_secs(2)).await;
    node
}

/// What the log and the replica say of why they stopped.
async fn told(node: &Node) -> (String, OutOfService) {
    let mut log = node.log.failure();
    let of_log = timeout(Duration::from_secs(60), log.wait_for(Option::is_some)).await.expect("in time");
    let of_log = of_log.expect("the log is there").as_ref().expect("it failed").to_string();
    let mut replica = node.replica.failure();
    let of_replica = timeout(Duration::from_secs(60), replica.wait_for(Option::is_some)).await.expect("in time");
    (of_log, of_replica.expect("the replica is there").clone().expect("it failed"))
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_the_disk_refuses_stops_the_node() {
    let _simulated = base::task::simulate();
    for operations in 0..3 {
        let disk = SimDisk::new(operations, SimDiskOptions::default());
        let node = written(&disk).await;
        disk.fail_after(operations);
        node.replica.checkpoint().await;
        let (log, replica) = told(&node).await;
        assert!(log.contains("write a checkpoint in /node/checkpoints: input/output error"), "{log}");
        assert!(matches!(replica, OutOfService::Files { .. }), "{replica}");
        let refused = node.append(1, &batch("x", 1, 100, 0)).await.err();
        assert_eq!(refused, Some(AppendFailure::Propose(ProposeError::Stopped)));
        drop(node);
        disk.crash();
        let node = Node::start(&env(&disk), Path::new(NODE), options(), config()).await;
        assert_eq!(node.read_all(1, 1 << 20).await.len(), 5);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_file_that_the_disk_refuses_stops_the_node() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let node = written(&disk).await;
    // The write and the sync of the entry with the seal pass.
    disk.fail_after(2);
    let sealed = node.replica.propose(Seal { through: LogIndex(u64::MAX) }.into()).await;
    assert!(matches!(sealed, Ok(Outcome::Seal { sealed: Some(_) })), "{sealed:?}");
    let (log, _) = told(&node).await;
    assert!(log.contains("write the index in /node/index: input/output error"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn files_that_find_no_room_are_written_when_there_is_some() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let node = written(&disk).await;
    disk.set_options(|options| options.capacity_bytes = 0);
    let checkpoint = node.replica.checkpoint();
    let checkpoint = timeout(Duration::from_secs(30), checkpoint).await;
    assert!(node.log.failure().borrow().is_none() && node.replica.failure().borrow().is_none());
    disk.set_options(|options| options.capacity_bytes = u64::MAX);
    sleep(Duration::from_secs(5)).await;
    node.append(1, &batch("x", 1, 100, 0)).await.expect("appends are taken");
    node.replica.checkpoint().await;
    drop(checkpoint);
    assert!(node.log.failure().borrow().is_none() && node.replica.failure().borrow().is_none());
    let files = storage::checkpoint::furthest(&disk, Path::new("/node/checkpoints")).await.unwrap();
    assert!(files.is_some(), "the checkpoint was written");
    node.stop().await;
}

/// Panics when it is asked once it is told to.
#[derive(Debug, Default)]
struct Broken(AtomicBool);

impl WallClock for Broken {
    fn now_ms(&self) -> i64 {
        assert!(!self.0.load(Ordering::Relaxed), "the clock is broken on purpose");
        1_000
    }
}

#[tokio::test(start_paused = true)]
async fn a_proposer_that_panics_takes_its_shard_out_of_service_and_nobody_waits() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let clock = Arc::<Broken>::default();
    let env = Env { wall_clock: Arc::clone(&clock) as Arc<dyn WallClock>, ..env(&disk) };
    let node = Node::start(&env, Path::new(NODE), options(), config()).await;
    node.create_streams(1).await;
    clock.0.store(true, Ordering::Relaxed);
    let proposals: Vec<_> = (0..20).map(|_| node.replica.propose(Seal { through: LogIndex(0) }.into())).collect();
    for proposal in proposals {
        let outcome = timeout(Duration::from_secs(10), proposal).await.expect("it is told");
        assert!(matches!(outcome, Err(ProposeError::Unknown | ProposeError::Stopped)), "{outcome:?}");
    }
    let mut failure = node.replica.failure();
    let failure = timeout(Duration::from_secs(10), failure.wait_for(Option::is_some)).await.expect("in time");
    let failure = failure.expect("the replica is there").clone();
    assert!(matches!(failure, Some(OutOfService::Panicked { task: "proposer", .. })), "{failure:?}");
    assert_eq!(node.append(1, &batch("x", 1, 10, 0)).await, Err(AppendFailure::Propose(ProposeError::Stopped)));
    assert!(node.log.failure().borrow().is_none(), "other shards go on");
    timeout(Duration::from_secs(60), node.stop()).await.expect("it can be stopped");
}
