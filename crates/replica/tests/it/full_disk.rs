//! Groups on a disk that has no room for data.

use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::disk::{SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, sleep, timeout};
use replica::ProposeError;
use shard::Outcome;
use shard::commands::CommitOffsets;

use crate::catch_up::delete;
use crate::support::{AppendFailure, Node, batch, config, options};

#[tokio::test(start_paused = true)]
async fn groups_go_on_out_of_the_reserve_and_never_use_it_up() {
    let _simulated = base::task::simulate();
    let latency_max = Duration::from_millis(20);
    let disk = SimDisk::new(2, SimDiskOptions { capacity_bytes: 60 << 20, latency_max, ..SimDiskOptions::default() });
    let env = Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() };
    let mut log = options();
    log.reserve_bytes = 30 << 20;
    let mut config = config();
    config.full_disk_bytes_max = 64 << 10;
    let node = Node::start(&env, Path::new("/node"), log, config).await;
    node.create_streams(1).await;
    let large = batch("x", 1, 500_000, 0);
    let full = AppendFailure::Propose(ProposeError::DiskFull);
    let mut appended = 0;
    while node.append(1, &large).await != Err(full.clone()) {
        appended += 1;
        assert!(appended < 200, "the disk is full by now");
    }
    let commit = || CommitOffsets { group_id: "g".to_owned(), check: None, offsets: Vec::new() };
    let mut committed = 0;
    let refusal = loop {
        match node.replica.propose(commit().into()).await {
            Ok(outcome) => assert_eq!(outcome, Outcome::CommitOffsets(Ok(()))),
            Err(error) => break error,
        }
        committed += 1;
        assert!(committed < 1_000, "the groups' part is used up by now");
    };
    assert_eq!(refusal, ProposeError::DiskFull);
    assert!(committed > 10, "{committed} passed");
    assert_eq!(node.append(1, &large).await, Err(full), "data is refused all the time");
    node.stop().await;
}

/// Half of what each segment has is deleted, all of it hot: no segment comes back by itself, and there is no room but the reserve.
#[tokio::test(start_paused = true)]
async fn what_was_deleted_beside_what_lives_is_freed_out_of_the_reserve() {
    let _simulated = base::task::simulate();
    let latency_max = Duration::from_millis(20);
    let disk = SimDisk::new(3, SimDiskOptions { capacity_bytes: 160 << 20, latency_max, ..SimDiskOptions::default() });
    let env = Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() };
    let mut log = options();
    log.reserve_bytes = 32 << 20;
    let mut config = config();
    config.seal_bytes = 8 << 20;
    config.log_hot_bytes = 1 << 30;
    let node = Node::start(&env, Path::new("/node"), log, config).await;
    node.replica.allow_objects();
    node.create_streams(2).await;
    let large = batch("x", 1, 250_000, 0);
    let full = AppendFailure::Propose(ProposeError::DiskFull);
    let mut appended = 0;
    while node.append(1 + appended % 2, &large).await != Err(full.clone()) {
        appended += 1;
        assert!(appended < 2_000, "the disk is full by now");
    }
    assert!(appended > 300, "{appended} were taken");
    let kept = node.read_all(2, 1 << 20).await;
    delete(&node.replica, &[1]).await;
    let room = async {
        while node.append(2, &large).await == Err(full.clone()) {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(120), room).await.expect("writes are taken again");
    let refill = async {
        for _ in 1..appended / 3 {
            while node.append(2, &large).await == Err(full.clone()) {
                sleep(Duration::from_secs(1)).await;
            }
        }
    };
    timeout(Duration::from_secs(120), refill).await.expect("there is room for most of what was deleted");
    let now = node.read_all(2, 1 << 20).await;
    assert_eq!(now[..kept.len()], kept);
    assert_eq!(now.len() as u64, kept.len() as u64 + appended / 3);
    node.stop().await;
}
