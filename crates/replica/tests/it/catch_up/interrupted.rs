//! Installs that end at any request and go on with another donor, and what is held for them meanwhile.

use std::path::Path;

use base::disk::{Disk, SimDisk, SimDiskOptions};
use base::time::{Duration, now, sleep, timeout};
use replica::{InstallError, ProposeError};

use super::donors::{Direct, ENTRIES, End, FILE};
use super::{Cluster, append, assert_same, env_of, fill, pull, purged, real, some_batch};
use crate::support::AppendFailure;

/// Whoever asks again lets go of what it asked for before.
const PULLER: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_goes_on_with_another_donor_wherever_it_was_interrupted() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let second = cluster.install(2, &first.replica).await;
    let whole = {
        let files = cluster.files(100).await.expect("files");
        let donor = Direct::new(&first.replica);
        pull(&files, PULLER, &donor).await.expect("installed");
        (donor.asked(), donor.bytes(ENTRIES), donor.bytes(FILE))
    };
    assert!(whole.0 >= 6, "begin, files, entries, checkpoint, end: {whole:?}");
    // The end of all is not waited for: it may go wrong.
    for at in 0..whole.0 - 1 {
        for hangs in [false, true] {
            let node = 200 + 2 * at as u64 + u64::from(hangs);
            let files = cluster.files(node).await.expect("files");
            let end = if hangs { End::Hangs(at) } else { End::Fails(at) };
            let cut = Direct::ending(&first.replica, end);
            match timeout(if hangs { Duration::from_millis(500) } else { super::WAIT_MAX }, pull(&files, PULLER, &cut))
                .await
            {
                Ok(ended) => assert!(matches!(ended, Err(InstallError::Donor(_))), "at {at}: {ended:?}"),
                Err(_) => assert!(hangs, "at {at}"),
            }
            assert!(files.install_parts().marker.exists(), "at {at}");
            // As after a start.
            let files = if at % 2 == 0 {
                files.log.close().await;
                cluster.files(node).await.expect("files")
            } else {
                files
            };
            assert!(files.install_parts().marker.exists(), "at {at}");
            let rest = Direct::new(&second.replica);
            pull(&files, PULLER, &rest).await.expect("installed");
            assert!(!files.install_parts().marker.exists());
            let (entries, file) = (cut.bytes(ENTRIES) + rest.bytes(ENTRIES), cut.bytes(FILE) + rest.bytes(FILE));
            // Each answer has a few bytes besides what it carries.
            assert!(entries <= whole.1 + 200, "at {at}: entries were pulled twice: {entries}, {}", whole.1);
            assert!(file <= whole.2 + 200, "at {at}: files were pulled twice: {file}, {}", whole.2);
            let node = cluster.start_on(node, files).await.expect("started");
            assert_same(&first, &node).await;
            node.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_for_a_pull_is_let_go_when_the_disk_is_full() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(3, SimDiskOptions { capacity_bytes: 1 << 30, ..SimDiskOptions::default() });
    let cluster = Cluster::new(env_of(&disk, 1), Path::new("/nodes"));
    let first = cluster.start(1).await;
    fill(&first).await;
    let puller = SimDisk::new(4, SimDiskOptions::default());
    let files = Cluster::new(env_of(&puller, 2), Path::new("/nodes")).files(PULLER).await.expect("files");
    let cut = Direct::ending(&first.replica, End::Hangs(2));
    let since = now();
    timeout(Duration::from_secs(1), pull(&files, PULLER, &cut)).await.expect_err("no answer to the third request");
    let held = first.replica.applied();
    let batch = some_batch(1);
    let one = || append(&first.replica, 1, &batch);
    for _ in 0..20 {
        one().await.expect("appended");
        first.replica.checkpoint().await;
    }
    let behind = first.replica.applied();
    sleep(Duration::from_secs(20)).await;
    assert!(first.replica.purged_index() <= held, "it is held");
    let has = disk.free_bytes(Path::new("/nodes")).expect("told");
    // Less than a segment.
    disk.set_options(|options| options.capacity_bytes = has.total - has.available + (512 << 10));
    let refused = loop {
        if let Err(error) = one().await {
            break error;
        }
    };
    assert_eq!(refused, AppendFailure::Propose(ProposeError::DiskFull));
    purged(&first.replica, behind).await;
    assert!(since.elapsed() < Duration::from_secs(50), "not because nobody asked for a minute");
    disk.set_options(|options| options.capacity_bytes = 1 << 30);
    // It is told that nothing is held any more, and begins anew.
    pull(&files, PULLER, &Direct::new(&first.replica)).await.expect("installed");
}
