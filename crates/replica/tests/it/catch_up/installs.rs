//! Installs on new nodes and on former members, from leaders and followers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::disk::OpenOptions;
use base::task::spawn;
use base::time::{Duration, now, sleep, timeout};
use record::LogIndex;
use replica::{InstallError, InstallPhase, InstallProgress, install, let_go};

use super::donors::Direct;
use super::{
    Cluster, WAIT_MAX, assert_same, delete, fill, id, log_options, pull, purged, real, seal, settings, some_batch,
};
use crate::support::{Node, append, batch};

async fn leader_of(nodes: &[&Node]) -> usize {
    let started = now();
    loop {
        if let Some(place) = nodes.iter().position(|node| node.replica.is_leader()) {
            return place;
        }
        assert!(started.elapsed() < WAIT_MAX, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Appends, at whoever leads among `nodes`.
async fn append_some(nodes: &[&Node], count: usize) {
    for number in 0..count {
        let appended = async {
            while append(&nodes[leader_of(nodes).await].replica, 1, &some_batch(number)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(WAIT_MAX, appended).await.expect("somebody leads");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_what_is_purged_and_is_a_voter_in_the_end() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let purged = first.replica.purged_index();
    assert!(purged > LogIndex(100), "a lone member purges: {purged}");
    let second = cluster.install(2, &first.replica).await;
    assert_same(&first, &second).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    append_some(&[&first], 5).await;
    assert_same(&first, &second).await;
    first.replica.change_voters(&BTreeSet::from([id(1), id(2)])).await.expect("voters");
    // The third gets it from one that got it itself.
    let third = cluster.install(3, &second.replica).await;
    first.replica.add_learner(id(3)).await.expect("a learner");
    assert_same(&first, &third).await;
    first.replica.change_voters(&(1..=3).map(id).collect()).await.expect("voters");
    let progress = first.replica.progress().expect("it leads");
    assert_eq!(progress.len(), 3);
    assert!(progress[&id(3)].was_heard(WAIT_MAX) && progress[&id(3)].matched.is_some(), "{progress:?}");
    assert!(second.replica.progress().is_none());
    cluster.stop(1, first).await;
    append_some(&[&second, &third], 5).await;
    assert_same(&second, &third).await;
    // And after a start of their own.
    cluster.stop(2, second).await;
    let second = cluster.start(2).await;
    append_some(&[&second, &third], 5).await;
    assert_same(&second, &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_for_too_long_installs_and_votes_again() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    first.create_streams(4).await;
    let (second, third) = (cluster.start(2).await, cluster.start(3).await);
    for node in [2, 3] {
        first.replica.add_learner(id(node)).await.expect("a learner");
    }
    first.replica.change_voters(&(1..=3).map(id).collect()).await.expect("voters");
    append_some(&[&first], 20).await;
    super::reach(&third.replica, first.replica.applied()).await;
    cluster.stop(3, third).await;
    let away_at = first.replica.applied();
    for number in 0..8 {
        append(&first.replica, 3, &batch(&format!("dead{number}"), 1, 250 << 10, 0)).await.expect("appended");
    }
    seal(&first.replica).await;
    delete(&first.replica, &[3]).await;
    append_some(&[&first], 60).await;
    purged(&first.replica, away_at.next()).await;
    purged(&second.replica, away_at.next()).await;
    let third = cluster.start(3).await;
    // It is told, in vain, and nothing breaks.
    sleep(Duration::from_millis(600)).await;
    assert!(third.replica.needs_install(first.replica.purged_index()));
    assert!(third.replica.applied() <= away_at && third.replica.failure().borrow().is_none());
    cluster.stop(3, third).await;
    let third = cluster.install(3, &second.replica).await;
    append_some(&[&first], 5).await;
    assert!(!third.replica.needs_install(first.replica.purged_index()));
    assert_same(&first, &third).await;
    // With the second away its word is needed.
    cluster.stop(2, second).await;
    append_some(&[&first, &third], 5).await;
    assert_same(&first, &third).await;
    cluster.stop(1, first).await;
    let second = cluster.start(2).await;
    append_some(&[&second, &third], 5).await;
    assert_same(&second, &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_donor_goes_on_meanwhile() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (replica, stopped) = (first.replica.clone(), Arc::clone(&stop));
    let busy = spawn("writer", async move {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            append(&replica, 1, &some_batch(number)).await.expect("appended");
            match number {
                15 => delete(&replica, &[2]).await,
                30 => delete(&replica, &[4]).await,
                _ if number % 10 == 0 => seal(&replica).await,
                _ if number % 7 == 0 => replica.checkpoint().await,
                _ => {}
            }
            number += 1;
        }
    });
    let files = cluster.files(2).await.expect("files");
    let progress = InstallProgress::default();
    let donor = Direct::new(&first.replica);
    install(&settings(2), &files.install_parts(), &donor, &progress, Some(2 << 20)).await.expect("installed");
    assert_eq!(progress.phase(), InstallPhase::Done);
    assert!(progress.bytes() > 500_000 && progress.bytes_total() >= progress.bytes());
    let second = cluster.start_on(2, files).await.expect("started");
    first.replica.add_learner(id(2)).await.expect("a learner");
    stop.store(true, Ordering::Relaxed);
    busy.await.expect("no panic");
    assert_same(&first, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_file_is_refused_and_another_donor_helps() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let second = cluster.install(2, &first.replica).await;
    let index = cluster.path(1).join("index");
    let name = cluster.env.disk.read_dir(&index).expect("a folder").pop().expect("an index file").name;
    let file = cluster.env.disk.open(&index.join(&name), OpenOptions::read_write()).expect("the file");
    let byte = file.read_at(90, 1).await.expect("read")[0];
    file.write_at(90, &[std::io::IoSlice::new(&[byte ^ 1])]).await.expect("written");
    let files = cluster.files(3).await.expect("files");
    let refused = pull(&files, 3, &Direct::new(&first.replica)).await;
    assert!(matches!(refused, Err(InstallError::Answer(_))), "{refused:?}");
    assert!(!files.install_parts().index.files().iter().any(|file| name.starts_with(&format!("{:010}", file.0))));
    assert!(files.install_parts().marker.exists());
    pull(&files, 3, &Direct::new(&second.replica)).await.expect("installed");
    assert!(!files.install_parts().marker.exists());
    let third = cluster.start_on(3, files).await.expect("started");
    assert_same(&second, &third).await;
}

/// Changes a byte of the first record with that text, wherever in the log of a node that runs it lies.
async fn spoil(cluster: &Cluster, node: u64, text: &str) {
    let disk = &cluster.env.disk;
    let log = cluster.path(node).join("log");
    for entry in disk.read_dir(&log).expect("a folder") {
        // One that is dead goes meanwhile.
        let Ok(file) = disk.open(&log.join(&entry.name), OpenOptions::read_write()) else { continue };
        let contents = file.read_at(0, usize::try_from(entry.len).expect("small")).await.expect("read");
        let found = contents.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            file.write_at(at as u64, &[std::io::IoSlice::new(b"#")]).await.expect("written");
            return;
        }
    }
    panic!("{text} is in no file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_bad_under_a_running_donor_is_not_taken_over() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    // What is still in memory is as it was.
    while first.log.stats().memory_bytes > log_options().memory_bytes as u64 {
        append_some(&[&first], 1).await;
    }
    // Written by this process, so a reader is given it as it lies there.
    spoil(&cluster, 1, "t10/0/").await;
    let files = cluster.files(2).await.expect("files");
    let refused = pull(&files, 2, &Direct::new(&first.replica)).await;
    assert!(matches!(refused, Err(InstallError::Later(replica::Later::Damaged))), "{refused:?}");
    assert!(files.install_parts().marker.exists(), "nothing starts on what is there of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_donor_that_is_behind_says_so() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let second = cluster.install(2, &first.replica).await;
    // The second is no member and learns nothing more.
    append_some(&[&first], 5).await;
    first.replica.checkpoint().await;
    let third = cluster.install(3, &first.replica).await;
    cluster.stop(3, third).await;
    let files = cluster.files(3).await.expect("files");
    let refused = pull(&files, 3, &Direct::new(&second.replica)).await;
    assert!(matches!(refused, Err(InstallError::Later(replica::Later::Behind))), "{refused:?}");
    pull(&files, 3, &Direct::new(&first.replica)).await.expect("installed");
    let third = cluster.start_on(3, files).await.expect("started");
    assert_same(&first, &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_let_go_holds_nothing_and_can_come_back() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let second = cluster.install(2, &first.replica).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    append_some(&[&first], 5).await;
    assert_same(&first, &second).await;
    first.replica.remove_learner(id(2)).await.expect("let go");
    cluster.stop(2, second).await;
    // Twice: it may be interrupted.
    for _ in 0..2 {
        let files = cluster.files(2).await.expect("files");
        let parts = files.install_parts();
        let_go(&parts).await.expect("nothing is left");
        assert!(parts.checkpoints.chain().is_none() && parts.index.files().is_empty());
        let state = parts.log.log_state();
        assert_eq!((state.last, state.purged), (None, None));
        assert!(parts.marker.exists(), "nothing starts on it by itself");
        files.log.close().await;
    }
    append_some(&[&first], 5).await;
    let second = cluster.install(2, &first.replica).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    append_some(&[&first], 5).await;
    assert_same(&first, &second).await;
    cluster.stop(2, second).await;
    let second = cluster.start(2).await;
    assert_same(&first, &second).await;
}
