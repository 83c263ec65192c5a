//! What is damaged on a disk is found before it is asked for, and repaired where somebody has it.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use base::disk::{OpenOptions, read_exact_at};
use base::time::{Duration, sleep, timeout};
use record::{ObjectKey, StreamId, StreamOffset};
use replica::Config;

use crate::catch_up::{Cluster, WAIT_MAX, assert_same, id, real};
use crate::made::{fill, read_all, settings, settled, start};

fn object_path(cluster: &Cluster, node: u64, key: ObjectKey) -> PathBuf {
    cluster.path(node).join("objects").join(format!("{:016x}.object", key.0))
}

/// Turns a bit of a file over.
async fn flip(cluster: &Cluster, path: &Path, place: u64) {
    let file = cluster.env.disk.open(path, OpenOptions::read_write()).expect("opened");
    let byte = read_exact_at(&*file, place, 1).await.expect("read")[0];
    file.write_at(place, &[IoSlice::new(&[byte ^ 4])]).await.expect("written");
}

/// All of a file; nothing if it is not there.
async fn contents(cluster: &Cluster, path: &Path) -> Vec<u8> {
    let Ok(file) = cluster.env.disk.open(path, OpenOptions::read()) else { return Vec::new() };
    let bytes = usize::try_from(file.len().expect("known")).expect("small");
    file.read_at(0, bytes).await.expect("read").to_vec()
}

/// Returns when a file has these contents.
async fn has_contents(cluster: &Cluster, path: &Path, whole: &[u8]) {
    let repaired = async {
        while contents(cluster, path).await != whole {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, repaired).await.expect("it is as it was");
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, so).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_repaired_from_another_member() {
    let (_dir, cluster) = real();
    let (first, of_first) = start(&cluster, 1).await;
    first.create_streams(3).await;
    let (second, _) = start(&cluster, 2).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    first.replica.change_voters(&(1..=2).map(id).collect()).await.expect("voters");
    fill(&first.replica, 0, 150).await;
    let key = *settled(&first.replica, 1).await.first().expect("one at least");
    assert_same(&first, &second).await;
    settled(&second.replica, 1).await;
    let path = object_path(&cluster, 2, key);
    let whole = contents(&cluster, &path).await;
    let size = whole.len() as u64;
    // In the header, in data, in the index, in the trailer.
    for place in [3, size / 3, size - 5_000, size - 9] {
        flip(&cluster, &path, place).await;
        assert_ne!(contents(&cluster, &path).await, whole);
        has_contents(&cluster, &path, &whole).await;
    }
    let file = cluster.env.disk.open(&path, OpenOptions::read_write()).expect("opened");
    file.set_len(size / 2).expect("cut");
    has_contents(&cluster, &path, &whole).await;
    cluster.env.disk.remove(&path).expect("removed");
    has_contents(&cluster, &path, &whole).await;
    until("no damage is known", || second.replica.objects().damaged == 0).await;
    assert_same(&first, &second).await;
    assert_eq!(of_first.verify(key).await.expect("it is whole").bytes, size);
    cluster.stop(2, second).await;
    cluster.stop(1, first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_else_has_stays_and_only_what_is_damaged_cannot_be_read() {
    let (_dir, cluster) = real();
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(3).await;
    fill(&node.replica, 0, 150).await;
    let keys = settled(&node.replica, 1).await;
    let before = read_all(&node).await;
    let path = object_path(&cluster, 1, *keys.first().expect("one at least"));
    let place = contents(&cluster, &path).await.len() as u64 / 3;
    flip(&cluster, &path, place).await;
    until("it is found", || node.replica.objects().damaged == 1).await;
    let mut damaged = 0;
    for (stream, batches) in (1..).map(StreamId).zip(&before) {
        for (offset, bytes) in batches {
            match node.replica.fetch(stream, StreamOffset(*offset), 1, true).await {
                Ok(fetched) => assert_eq!(fetched.batches[0].bytes as usize, bytes.len()),
                Err(replica::FetchError::Damaged { .. }) => damaged += bytes.len(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!((1..=1 << 20).contains(&damaged), "{damaged} bytes");
    flip(&cluster, &path, place).await;
    until("it is known to be whole", || node.replica.objects().damaged == 0).await;
    assert_eq!(read_all(&node).await, before);
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_log_and_of_its_index_is_found_unasked() {
    for is_index in [false, true] {
        let (_dir, cluster) = real();
        let nothing_is_old = |number| Config { log_hot_bytes: u64::MAX, ..settings(number) };
        let start = async |number| {
            let files = cluster.files(number).await.expect("files");
            cluster.start_with(number, files, nothing_is_old(number)).await.expect("started")
        };
        let first = start(1).await;
        first.create_streams(3).await;
        let mut others = vec![start(2).await, start(3).await];
        for number in 2..=3 {
            first.replica.add_learner(id(number)).await.expect("a learner");
        }
        first.replica.change_voters(&(1..=3).map(id).collect()).await.expect("voters");
        for number in 0..6 {
            fill(&first.replica, 60 * number, 60).await;
        }
        let second = others.remove(0);
        assert_same(&first, &second).await;
        let folder = cluster.path(2).join(if is_index { "index" } else { "log" });
        let suffix = if is_index { ".index" } else { ".segment" };
        let entries = cluster.env.disk.read_dir(&folder).expect("listed");
        let names = entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(suffix));
        let oldest = folder.join(names.min().expect("one at least"));
        assert!(!second.replica.is_damaged());
        // What lies between the frames of a log is not compared.
        let places = if is_index { vec![100] } else { (1..10).map(|number| number * 90_000).collect() };
        for place in places {
            flip(&cluster, &oldest, place).await;
        }
        until("it is found", || second.replica.is_damaged()).await;
        assert!(!first.replica.is_damaged());
        cluster.stop(2, second).await;
        cluster.stop(3, others.remove(0)).await;
        cluster.stop(1, first).await;
    }
}
