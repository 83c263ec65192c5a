//! Objects that replicas make of their log themselves: the same on every member, read as the log was, and at no moment is there
//! neither what they replace nor they.

use std::collections::BTreeSet;
use std::io::IoSlice;

use base::disk::OpenOptions;
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{ObjectKey, StreamId, StreamOffset};
use replica::{Config, Replica};
use shard::commands::DeleteRecords;
use storage::object::Objects;

use crate::catch_up::{Cluster, WAIT_MAX, assert_same, delete, id, read, real, seal, some_batch};
use crate::support::{Files, Node, append, batch};

/// Nearly all of the log is old.
pub(crate) fn settings(node: u64) -> Config {
    let mut settings = crate::catch_up::settings(node);
    settings.log_hot_bytes = 1 << 20;
    settings.object_bytes_min = 1;
    settings.object_bytes_max = 1 << 20;
    settings.checkpoint_age_max = Duration::from_millis(200);
    settings
}

pub(crate) async fn start(cluster: &Cluster, node: u64) -> (Node, Objects) {
    let files = cluster.files(node).await.expect("files");
    start_on(cluster, node, files).await
}

async fn start_on(cluster: &Cluster, node: u64, files: Files) -> (Node, Objects) {
    let objects = files.index.objects().clone();
    let node = cluster.start_with(node, files, settings(node)).await.expect("started");
    node.replica.allow_objects();
    (node, objects)
}

/// Streams 1 to 3, and a batch in parts now and then: several segments.
pub(crate) async fn fill(replica: &Replica, from: usize, count: usize) {
    for number in from..from + count {
        let stream = 1 + (number % 3) as u64;
        append(replica, stream, &some_batch(number)).await.expect("appended");
        if number % 40 == 17 {
            append(replica, 2, &batch(&format!("large{number}"), 1, 700 << 10, 0)).await.expect("appended");
        }
    }
    seal(replica).await;
}

/// Returns when a node has made all objects of the state and let go of all that they replaced.
pub(crate) async fn settled(replica: &Replica, objects_min: usize) -> BTreeSet<ObjectKey> {
    let made = async {
        loop {
            let counts = replica.objects();
            let keys: BTreeSet<ObjectKey> = replica.state().objects().iter().map(|object| object.key).collect();
            if counts.here == keys.len() && counts.missing == 0 && counts.leaving == 0 && keys.len() >= objects_min {
                return keys;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, made).await.unwrap_or_else(|_| panic!("{:?} of {objects_min}", replica.objects()))
}

/// Returns when the index has no file in whose place an object is.
async fn files_gone(files: &storage::index_file::IndexStore, replica: &Replica) {
    let gone = async {
        loop {
            let live = replica.state().live_files();
            if files.files().iter().all(|file| live.contains(file)) {
                return;
            }
            replica.checkpoint().await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, gone).await.expect("the files go");
}

pub(crate) async fn read_all(node: &Node) -> Vec<Vec<(i64, Bytes)>> {
    let mut all = Vec::new();
    for stream in 1..=3 {
        all.push(read(node, StreamId(stream)).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_ranges_become_objects_and_the_log_is_freed() {
    let (_dir, cluster) = real();
    let files = cluster.files(1).await.expect("files");
    let index = files.index.clone();
    let (node, objects) = start_on(&cluster, 1, files).await;
    node.create_streams(3).await;
    fill(&node.replica, 0, 200).await;
    let before = read_all(&node).await;
    let keys = settled(&node.replica, 2).await;
    files_gone(&index, &node.replica).await;
    assert_eq!(read_all(&node).await, before);
    for key in &keys {
        objects.verify(*key).await.expect("it is whole");
    }
    // All but the newest segments are free to be used again.
    let recycled = async {
        let mut number = 1_000;
        while node.log.stats().segments_recycled == 0 {
            fill(&node.replica, number, 20).await;
            number += 20;
        }
    };
    timeout(WAIT_MAX, recycled).await.expect("segments come back");
    let before = read_all(&node).await;
    cluster.stop(1, node).await;
    let (node, objects) = start(&cluster, 1).await;
    assert_eq!(read_all(&node).await, before);
    // What is deleted takes its objects with it.
    delete(&node.replica, &[1, 3]).await;
    let end = node.replica.state().stream(StreamId(2)).expect("it is there").next_offset();
    let front = node.replica.front(StreamId(2), StreamOffset(end.0 - 1), false).await.expect("found");
    node.replica.propose(DeleteRecords { fronts: vec![front] }.into()).await.expect("deleted");
    settled(&node.replica, 0).await;
    let left = node.replica.state().objects().len();
    assert!(objects.keys().len() == left && left <= 1, "{left}");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_make_the_same_objects() {
    let (_dir, cluster) = real();
    let (first, of_first) = start(&cluster, 1).await;
    first.create_streams(3).await;
    let mut others = Vec::new();
    for number in 2..=3 {
        others.push(start(&cluster, number).await);
        first.replica.add_learner(id(number)).await.expect("a learner");
    }
    first.replica.change_voters(&(1..=3).map(id).collect()).await.expect("voters");
    fill(&first.replica, 0, 150).await;
    let keys = settled(&first.replica, 1).await;
    for (node, objects) in &others {
        assert_same(&first, node).await;
        settled(&node.replica, keys.len()).await;
        for key in &keys {
            let summary = of_first.verify(*key).await.expect("it is whole");
            assert_eq!(objects.verify(*key).await.expect("it is whole"), summary);
            let bytes = of_first.raw(*key, 0, u64::MAX).await.expect("read").expect("here");
            assert_eq!(objects.raw(*key, 0, u64::MAX).await.expect("read").expect("here"), bytes);
        }
        assert_same(&first, node).await;
    }
    // One that lost an object, with its log long gone, brings it from another one.
    let lost = *keys.first().expect("one at least");
    let (second, of_second) = others.remove(0);
    cluster.stop(2, second).await;
    of_second.remove(lost).await.expect("removed");
    let (second, of_second) = start(&cluster, 2).await;
    settled(&second.replica, keys.len()).await;
    assert!(of_second.contains(lost));
    assert_same(&first, &second).await;
    cluster.stop(2, second).await;
    for (number, (node, _)) in (3..).zip(others) {
        cluster.stop(number, node).await;
    }
    cluster.stop(1, first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_is_brought_objects_and_log() {
    let (_dir, cluster) = real();
    let (first, _) = start(&cluster, 1).await;
    first.create_streams(3).await;
    fill(&first.replica, 0, 150).await;
    let keys = settled(&first.replica, 1).await;
    first.replica.checkpoint().await;
    let files = cluster.files(2).await.expect("files");
    crate::catch_up::pull(&files, 2, &crate::catch_up::Direct::new(&first.replica)).await.expect("installed");
    let here = files.index.objects().clone();
    for key in &keys {
        here.verify(*key).await.expect("it was brought");
    }
    let (second, _) = start_on(&cluster, 2, files).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    append(&first.replica, 1, &some_batch(7)).await.expect("appended");
    assert_same(&first, &second).await;
    settled(&second.replica, keys.len()).await;
    cluster.stop(2, second).await;
    cluster.stop(1, first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_objects_become_a_larger_one_everywhere() {
    let (_dir, cluster) = real();
    let start = async |number| {
        let files = cluster.files(number).await.expect("files");
        let objects = files.index.objects().clone();
        let settings = Config { object_bytes_min: 3 << 20, object_bytes_max: 6 << 20, ..settings(number) };
        let node = cluster.start_with(number, files, settings).await.expect("started");
        node.replica.allow_objects();
        (node, objects)
    };
    let (first, of_first) = start(1).await;
    first.create_streams(3).await;
    let (second, of_second) = start(2).await;
    first.replica.add_learner(id(2)).await.expect("a learner");
    first.replica.change_voters(&(1..=2).map(id).collect()).await.expect("voters");
    let ranges = |replica: &Replica| -> Vec<u32> {
        replica.state().objects().iter().map(|object| object.last.0 - object.first.0 + 1).collect()
    };
    let merged = async {
        let mut number = 0_usize;
        // Each is of one range or two at first: it takes several objects to have so many.
        while ranges(&first.replica).iter().all(|ranges| *ranges < 6) {
            for stream in [1, 2, 3, 1, 2] {
                append(&first.replica, stream, &batch(&format!("m{number}"), 2, 120 << 10, 0)).await.expect("appended");
                number += 1;
            }
            seal(&first.replica).await;
        }
    };
    let merged = timeout(Duration::from_secs(15), merged).await;
    assert!(merged.is_ok(), "{:?} {:?}", first.replica.objects(), first.replica.state().objects());
    assert_same(&first, &second).await;
    let keys = settled(&first.replica, 1).await;
    assert_eq!(settled(&second.replica, 1).await, keys);
    assert_same(&first, &second).await;
    for key in &keys {
        let summary = of_first.verify(*key).await.expect("it is whole");
        assert_eq!(of_second.verify(*key).await.expect("it is whole"), summary);
    }
    assert_eq!(of_first.keys().len(), keys.len(), "what was put together is gone");
    cluster.stop(2, second).await;
    cluster.stop(1, first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mostly_died_is_written_anew() {
    let (_dir, cluster) = real();
    let (node, objects) = start(&cluster, 1).await;
    node.create_streams(4).await;
    fill(&node.replica, 0, 120).await;
    let before = read(&node, StreamId(3)).await;
    let keys = settled(&node.replica, 1).await;
    delete(&node.replica, &[1, 2]).await;
    let rewritten = async {
        while keys.iter().any(|key| objects.contains(*key)) {
            append(&node.replica, 4, &some_batch(5)).await.expect("appended");
            seal(&node.replica).await;
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_MAX, rewritten).await.expect("all are written anew");
    // So is what was built meanwhile, when it is looked at.
    let bytes_of = |batches: &[(i64, Bytes)]| batches.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    let shrunk = async {
        loop {
            let keys = settled(&node.replica, 1).await;
            let live = bytes_of(&before) + bytes_of(&read(&node, StreamId(4)).await);
            // What has no place for pages of its own takes the more.
            if objects.bytes() < live * 5 / 4 + keys.len() as u64 * (32 << 10) {
                return;
            }
            append(&node.replica, 4, &some_batch(5)).await.expect("appended");
            seal(&node.replica).await;
        }
    };
    timeout(WAIT_MAX, shrunk).await.expect("nothing is left of what died");
    assert_eq!(read(&node, StreamId(3)).await, before);
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_built_is_passed_over() {
    // In a run, of whichever stream.
    damaged_at(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_looked_at_is_passed_over() {
    // In the header.
    damaged_at(40).await;
}

/// A bit is wrong at that place of the oldest index file.
async fn damaged_at(place: u64) {
    let (_dir, cluster) = real();
    let files = cluster.files(1).await.expect("files");
    let nothing_is_old = Config { log_hot_bytes: u64::MAX, ..settings(1) };
    let node = cluster.start_with(1, files, nothing_is_old).await.expect("started");
    node.create_streams(3).await;
    for number in 0..6 {
        fill(&node.replica, 60 * number, 60).await;
    }
    let before = read_all(&node).await;
    let oldest = *node.replica.state().live_files().first().expect("some were sealed");
    cluster.stop(1, node).await;
    let path = cluster.path(1).join("index").join(format!("{:010}.index", oldest.0));
    let file = cluster.env.disk.open(&path, OpenOptions::read_write()).expect("opened");
    let byte = file.read_at(place, 1).await.expect("read")[0];
    file.write_at(place, &[IoSlice::new(&[byte ^ 1])]).await.expect("written");
    let (node, objects) = start(&cluster, 1).await;
    let keys = settled(&node.replica, 2).await;
    assert!(node.replica.state().objects().iter().all(|object| object.first > oldest));
    for key in keys {
        objects.verify(key).await.expect("it is whole");
    }
    // What is whole is read, and nothing else is.
    let mut damaged = 0;
    for (stream, batches) in (1..).map(StreamId).zip(before) {
        for (offset, bytes) in batches {
            match node.replica.fetch(stream, StreamOffset(offset), 1, true).await {
                Ok(fetched) => assert_eq!(fetched.batches[0].bytes as usize, bytes.len()),
                Err(replica::FetchError::Damaged { .. }) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!((1..=62).contains(&damaged), "{damaged}");
    // It comes back, and becomes an object, too.
    file.write_at(place, &[IoSlice::new(&[byte])]).await.expect("written");
    cluster.stop(1, node).await;
    let (node, _) = start(&cluster, 1).await;
    let built = async {
        while node.replica.state().live_files().contains(&oldest) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, built).await.expect("it is an object");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_entry_names_is_cleared_away() {
    let (_dir, cluster) = real();
    let (node, objects) = start(&cluster, 1).await;
    node.create_streams(3).await;
    fill(&node.replica, 0, 100).await;
    let keys = settled(&node.replica, 1).await;
    cluster.stop(1, node).await;
    let dir = cluster.path(1).join("objects");
    let name = |key: u64| dir.join(format!("{key:016x}.object"));
    let known = keys.first().expect("one at least").0;
    std::fs::copy(name(known), name(99)).expect("copied");
    for (path, bytes) in [(name(98), &b"none at all"[..]), (dir.join("notes.txt"), b"mine")] {
        let file = cluster.env.disk.open(&path, OpenOptions::replace()).expect("opened");
        file.write_at(0, &[IoSlice::new(bytes)]).await.expect("written");
    }
    drop(objects);
    let (node, objects) = start(&cluster, 1).await;
    let gone = async {
        while objects.contains(ObjectKey(98)) || objects.contains(ObjectKey(99)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, gone).await.expect("both go");
    assert!(keys.iter().all(|key| objects.contains(*key)) && dir.join("notes.txt").exists());
    cluster.stop(1, node).await;
}
