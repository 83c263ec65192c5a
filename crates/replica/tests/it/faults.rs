//! A disk that fills and a disk that fails under one replica.

use std::path::Path;
use std::sync::Arc;

use crate::support::{AppendFailure, Files, Node, SHARD, batch, config, options, text};
use base::Env;
use base::disk::{SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{StreamId, StreamOffset, TimestampMs};
use replica::ProposeError;
use shard::commands::DeleteStreams;
use shard::{EntryBuilder, Outcome};
use storage::{CommitLog, Entry, EntryKind, LogId, Payload};

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_appends_reads_go_on_and_room_lets_them_in_again() {
    let _simulated = base::task::simulate();
    // Writes take time, so that the log's look at the free space is not outrun.
    let latency_max = Duration::from_millis(20);
    let disk = SimDisk::new(1, SimDiskOptions { capacity_bytes: 80 << 20, latency_max, ..SimDiskOptions::default() });
    let mut log = options();
    log.reserve_bytes = 30 << 20;
    let node = Node::start(&env(&disk), Path::new("/node"), log, config()).await;
    node.create_streams(2).await;
    let large = batch("x", 1, 500_000, 0);
    let mut appended = 0;
    let refusal = loop {
        match node.append(1, &large).await {
            Ok(_) => appended += 1,
            Err(failure) => break failure,
        }
        assert!(appended < 200, "the disk is full by now");
    };
    assert_eq!(refusal, AppendFailure::Propose(ProposeError::DiskFull));
    assert!(appended > 10);
    assert_eq!(node.read_all(1, 1 << 20).await.len(), appended);
    let deleted = node.replica.propose(DeleteStreams { streams: vec![StreamId(2)] }.into()).await;
    assert_eq!(deleted, Ok(Outcome::DeleteStreams { deleted: 1 }), "what frees room is let through");
    disk.set_options(|options| options.capacity_bytes = 400 << 20);
    let resumed = timeout(Duration::from_secs(60), async {
        while node.append(1, &large).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    resumed.await.expect("appends are taken again by themselves");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_acknowledges_nothing_and_is_told() {
    let _simulated = base::task::simulate();
    for operations in 0..12 {
        let disk = SimDisk::new(operations, SimDiskOptions::default());
        let node = Node::start(&env(&disk), Path::new("/node"), options(), config()).await;
        node.create_streams(1).await;
        let mut failure = node.log.failure();
        disk.fail_after(operations);
        let mut acknowledged = 0;
        while node.append(1, &batch(&format!("t-{acknowledged}"), 1, 100, 0)).await.is_ok() {
            acknowledged += 1;
            assert!(acknowledged < 100, "the disk fails by now");
        }
        let told = timeout(Duration::from_secs(60), failure.wait_for(Option::is_some)).await;
        assert!(told.expect("in time").expect("the log is there").is_some());
        drop(node);
        disk.crash();
        let node = Node::start(&env(&disk), Path::new("/node"), options(), config()).await;
        assert!(node.read_all(1, 1 << 20).await.len() >= acknowledged);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_entry_takes_only_its_shard_out_of_service() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(3, SimDiskOptions::default());
    let env = env(&disk);
    let node = Node::start(&env, Path::new("/node"), options(), config()).await;
    node.create_streams(1).await;
    node.stop().await;
    // An entry with a command that no version has, as damage that passed every checksum would be.
    let mut builder = EntryBuilder::new();
    let tick = shard::Command::from(shard::commands::Tick {});
    builder.push(&tick, None);
    let mut head = builder.finish(TimestampMs(0)).remove(0).to_vec();
    let place = head.windows(2).rposition(|bytes| bytes == [tick.number(), 1]).unwrap();
    head[place] = u8::MAX;
    let (log, _) = CommitLog::open(Arc::clone(&env.disk), Path::new("/node/log"), options()).await.unwrap();
    let shard = log.shard(SHARD);
    let last = shard.log_state().last.unwrap();
    let id = LogId { term: last.term, index: last.index.next() };
    let entry = Entry { id, kind: EntryKind::Commands, payload: Payload::from(Bytes::from(head)) };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result: std::io::Result<()>| sender.send(result.is_ok()).expect("waited for"));
    shard.append(vec![entry], done).unwrap();
    assert!(receiver.await.unwrap());
    log.close().await;
    // A checkpoint that is due at any moment must not take the broken entry as applied.
    let mut eager = config();
    (eager.replay_target, eager.checkpoint_pause_min) = (Duration::ZERO, Duration::from_millis(100));
    for settings in [eager.clone(), eager, config()] {
        let node = Node::start(&env, Path::new("/node"), options(), settings).await;
        let failure = node.replica.failure().borrow().clone().expect("out of service").to_string();
        assert!(failure.contains(&format!("entry {}", id.index)), "{failure}");
        assert!(!node.replica.is_leader());
        let refused = node.append(1, &batch("t", 1, 10, 0)).await;
        assert_eq!(refused, Err(AppendFailure::Propose(ProposeError::Stopped)));
        node.stop().await;
    }
}

/// What still runs of the runtime's tasks, when those that were told to end had their turn.
async fn running_tasks() -> usize {
    sleep(Duration::from_millis(2)).await;
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_leaves_nothing_running_and_lets_go_of_the_log() {
    let _simulated = base::task::simulate();
    let mut hurried = config();
    hurried.recovery_wait_max = Duration::ZERO;
    let mut failed = 0;
    // Operations of the disk until it fails, for a node that was there before and for a new one.
    for (operations, is_new) in (0..16).flat_map(|operations| [(operations, false), (operations, true)]) {
        let disk = SimDisk::new(operations, SimDiskOptions::default());
        let env = env(&disk);
        if !is_new {
            let node = Node::start(&env, Path::new("/node"), options(), config()).await;
            node.create_streams(1).await;
            node.append(1, &batch("x", 1, 100, 0)).await.expect("appended");
            node.stop().await;
        }
        let before = running_tasks().await;
        let files = Files::open(&env, Path::new("/node"), options()).await.expect("opened");
        let opened = running_tasks().await;
        let settings = if operations == 15 { hurried.clone() } else { config() };
        if operations < 15 {
            disk.fail_after(operations);
        }
        let started = timeout(Duration::from_secs(60), files.start(&env, settings)).await;
        match started.expect("a start that fails does so at once") {
            Ok(replica) => replica.shutdown().await,
            Err(_) => failed += 1,
        }
        assert!(running_tasks().await <= opened, "after {operations} operations, new: {is_new}");
        files.log.close().await;
        assert_eq!(running_tasks().await, before, "after {operations} operations, new: {is_new}");
    }
    assert!(failed > 4, "{failed} of the starts failed");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_of_cold_places_waits_for_several_at_a_time_and_keeps_their_order() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(5, SimDiskOptions::default());
    let mut log = options();
    log.memory_bytes = 1;
    let node = Node::start(&env(&disk), Path::new("/node"), log, config()).await;
    node.create_streams(1).await;
    // Each in an entry of its own, none in memory.
    for number in 0..64 {
        node.append(1, &batch(&format!("t-{number}"), 1, 1_000, 0)).await.expect("appended");
    }
    disk.set_options(|options| options.read_latency = Duration::from_millis(10));
    let before = base::time::now();
    let fetched = node.replica.fetch(StreamId(1), StreamOffset(0), 1 << 20, true).await.expect("fetched");
    let waited = base::time::now() - before;
    assert_eq!(fetched.batches.len(), 64);
    for (number, found) in fetched.batches.into_iter().enumerate() {
        let bytes = found.chunks.into_iter().next().expect("a chunk").into_bytes().await.expect("in memory");
        assert_eq!(text(&bytes), format!("t-{number}"));
    }
    // Four at a time, of 64 that take 10 ms each.
    let expected = Duration::from_millis(64 / 4 * 10);
    assert!((expected..expected * 2).contains(&waited), "{waited:?}");
    node.stop().await;
}
