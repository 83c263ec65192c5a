//! Installs on a disk that loses, tears and reorders whatever was not synced, cut off at any time.

use std::path::Path;

use base::disk::{SimDisk, SimDiskOptions};
use base::random::{Random, SeededRandom};
use base::time::{Duration, timeout};

use super::donors::Direct;
use super::{Cluster, WAIT_MAX, append, assert_same, delete, env_of, fill, id, pull, purged, seal, some_batch};
use crate::support::{Files, Node, batch};

/// What one life of the two nodes has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The donor gets its data.
    Fill,
    /// The second node installs, unless it is cut off.
    Install,
    /// The second node follows for a while, then the donor goes on without it.
    Follow,
}

struct Disks {
    donor: SimDisk,
    second: SimDisk,
}

async fn live(disks: &Disks, random: &SeededRandom, task: Task) -> Result<bool, String> {
    let mut donors = Cluster::new(env_of(&disks.donor, random.next_u64()), Path::new("/donor"));
    let mut seconds = Cluster::new(env_of(&disks.second, random.next_u64()), Path::new("/second"));
    seconds.board = donors.board.clone();
    let first = donors.try_start(1).await?;
    // With a learner it is not alone, and is elected.
    let mut leadership = first.replica.leadership();
    let led = timeout(WAIT_MAX, leadership.wait_for(|leadership| leadership.is_self)).await;
    drop(led.map_err(|_| "nobody leads")?);
    let mut done = true;
    match task {
        Task::Fill => fill(&first).await,
        Task::Install => {
            let cut_at = Duration::from_micros(random.below(1 << (10 + random.below(8))));
            done = match timeout(cut_at, install(&seconds, &first)).await {
                // Now and then it is cut off right behind its end.
                Ok(files) => random.below(4) > 0 && compare(&seconds, &first, files?).await.map(|()| true)?,
                Err(_) => false,
            };
        }
        Task::Follow => {
            let second = seconds.try_start(2).await?;
            first.replica.add_learner(id(2)).await.map_err(|error| error.to_string())?;
            for number in 0..5 {
                append(&first.replica, 1, &some_batch(number)).await.map_err(|error| format!("{error:?}"))?;
            }
            assert_same(&first, &second).await;
            seconds.stop(2, second).await;
            let away_at = first.replica.applied();
            first.create_streams_of(&[9]).await;
            for number in 0..8 {
                let dead = batch(&format!("dead{number}"), 1, 250 << 10, 0);
                append(&first.replica, 9, &dead).await.map_err(|error| format!("{error:?}"))?;
            }
            seal(&first.replica).await;
            delete(&first.replica, &[2, 9]).await;
            for number in 0..60 {
                append(&first.replica, 1, &some_batch(number)).await.map_err(|error| format!("{error:?}"))?;
            }
            purged(&first.replica, away_at.next()).await;
        }
    }
    donors.board.unplug(id(1));
    if done {
        first.stop().await;
    }
    donors.board = Default::default();
    Ok(done)
}

async fn install(seconds: &Cluster, first: &Node) -> Result<Files, String> {
    let files = seconds.files(2).await?;
    let parts = files.install_parts();
    if parts.marker.exists() || parts.checkpoints.chain().is_none() || behind(&files, first) {
        pull(&files, 2, &Direct::new(&first.replica)).await.map_err(|error| format!("{error:?}"))?;
    }
    Ok(files)
}

async fn compare(seconds: &Cluster, first: &Node, files: Files) -> Result<(), String> {
    let second = seconds.start_on(2, files).await?;
    if second.replica.applied() == first.replica.applied() {
        assert_same(first, &second).await;
    }
    first.replica.add_learner(id(2)).await.map_err(|error| error.to_string())?;
    assert_same(first, &second).await;
    seconds.stop(2, second).await;
    Ok(())
}

fn behind(files: &Files, first: &Node) -> bool {
    files.install_parts().log.log_state().last.is_none_or(|last| last.index < first.replica.purged_index())
}

/// One life on a runtime of its own, as of a process.
fn life(disks: &Disks, random: &SeededRandom, task: Task) -> Result<bool, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let lived = runtime.block_on(live(disks, random, task));
    if !matches!(lived, Ok(true)) {
        disks.second.crash();
    }
    drop(runtime);
    lived
}

/// How often it was cut off.
fn run(seed: u64) -> Result<u64, String> {
    let _simulated = base::task::simulate();
    let random = SeededRandom::new(seed);
    let latency_max = Duration::from_micros(100 + random.below(3_000));
    let second = SimDisk::new(seed, SimDiskOptions { latency_max, ..SimDiskOptions::default() });
    let disks = Disks { donor: SimDisk::new(seed, SimDiskOptions::default()), second };
    let mut cuts = 0;
    life(&disks, &random, Task::Fill)?;
    for task in [Task::Install, Task::Follow, Task::Install] {
        let mut lives = 0;
        while !life(&disks, &random, task)? {
            (cuts, lives) = (cuts + 1, lives + 1);
            if lives > 100 {
                return Err(format!("{task:?} never comes to its end"));
            }
        }
    }
    Ok(cuts)
}

#[test]
fn an_install_that_is_cut_off_at_any_time_comes_to_the_same_state() {
    let seeds = std::env::var("CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut cuts = 0;
    for seed in 0..seeds {
        match run(seed) {
            Ok(more) => cuts += more,
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    assert!(cuts > 2 * seeds, "installs were cut off: {cuts}");
}
