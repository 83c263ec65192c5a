//! Entries that were durable are gone: the start is refused with what and where, and goes on without
//! them when that is accepted.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Node, SHARD, batch, config, options, text};
use base::Env;
use base::disk::{Disk, OpenOptions, SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, sleep};
use record::{LogIndex, StreamId, StreamOffset};
use replica::FetchError;
use shard::commands::{DeleteStreams, Seal};
use storage::inspect::inspect;

const DIR: &str = "/node";

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() }
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join("log").join(name)
}

async fn start(disk: &SimDisk) -> Result<Node, String> {
    let mut log = options();
    (log.segment_bytes, log.memory_bytes) = (1 << 20, 0);
    Node::start_damaged(&env(disk), Path::new(DIR), log, config()).await
}

/// A refused start names the shard and `file`, again and again; then the loss is accepted.
async fn accept(disk: &SimDisk, file: &str) -> Node {
    for _ in 0..2 {
        let error = start(disk).await.err().expect("the start is refused");
        for part in ["shard 1", file, "ACCEPT-LOSS", "entries"] {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
    disk.open(&path("ACCEPT-LOSS"), OpenOptions::create_new()).expect("the disk answers");
    start(disk).await.expect("the disk answers")
}

/// Where each entry of the shard begins, by index.
async fn entries(disk: &SimDisk) -> Vec<(u64, PathBuf, u64)> {
    let mut found = Vec::new();
    let mut note = |entry: &storage::inspect::EntryReport<'_>| {
        assert_eq!(entry.shard, SHARD);
        found.push((entry.meta.id.index.0, entry.file.to_owned(), entry.position));
    };
    inspect(disk, &path(""), &mut note).await.expect("the disk answers");
    found
}

async fn inspected(disk: &SimDisk) -> Vec<String> {
    let report = inspect(disk, &path(""), &mut |_| ()).await.expect("the disk answers");
    report.damage.iter().map(ToString::to_string).collect()
}

async fn zero_from(disk: &SimDisk, file: &Path, position: u64) {
    let len = disk.contents(file).len() - usize::try_from(position).expect("a small file");
    let file = disk.open(file, OpenOptions::read_write()).expect("the disk answers");
    file.write_at(position, &[IoSlice::new(&vec![0; len])]).await.expect("the disk answers");
    file.sync_data().await.expect("the disk answers");
}

/// The first record's text of the batch at each offset, or none where it is damaged.
async fn texts(node: &Node, count: i64) -> Vec<Option<String>> {
    let mut texts = Vec::new();
    for offset in 0..count {
        match node.replica.fetch(StreamId(1), StreamOffset(offset), 1, true).await {
            Ok(fetched) => {
                let chunk = fetched.batches[0].chunks[0].clone();
                texts.push(Some(text(&chunk.into_bytes().await.expect("the disk answers"))));
            }
            Err(FetchError::Damaged { reason, .. }) => {
                assert!(reason.contains(".segment") && reason.contains("damage"), "{reason}");
                texts.push(None);
            }
            Err(error) => panic!("{error}"),
        }
    }
    texts
}

fn expected(range: std::ops::Range<i64>, lost: std::ops::Range<i64>) -> Vec<Option<String>> {
    range.map(|number| (!lost.contains(&number)).then(|| format!("t-{number}"))).collect()
}

async fn append(node: &Node, number: i64, bytes: usize) {
    let appended = node.append(1, &batch(&format!("t-{number}"), 1, bytes, 0)).await.expect("appended");
    assert_eq!(appended.base_offset, StreamOffset(number));
}

async fn written(count: i64, bytes: usize) -> (SimDisk, Node) {
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let node = start(&disk).await.expect("the disk answers");
    node.create_streams(1).await;
    for number in 0..count {
        append(&node, number, bytes).await;
    }
    (disk, node)
}

#[tokio::test(start_paused = true)]
async fn a_log_that_ends_before_its_checkpoint_goes_on_behind_it() {
    let _simulated = base::task::simulate();
    let (disk, node) = written(10, 1_000).await;
    node.stop().await;
    // As if nothing but the checkpoint knew.
    disk.remove(&path("SYNCED")).expect("the disk answers");
    let (_, file, position) = entries(&disk).await[8].clone();
    let (lost_from, _, _) = entries(&disk).await[8];
    let last = entries(&disk).await.last().expect("the disk answers").0;
    zero_from(&disk, &file, position).await;
    let node = accept(&disk, "0000000001.segment").await;
    let lost = 10 - i64::try_from(last - lost_from + 1).expect("the disk answers")..10;
    assert_eq!(texts(&node, 10).await, expected(0..10, lost.clone()));
    append(&node, 10, 1_000).await;
    node.stop().await;
    disk.crash();
    let node = start(&disk).await.expect("it was accepted once");
    assert_eq!(texts(&node, 11).await, expected(0..11, lost));
    append(&node, 11, 1_000).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_of_live_data_that_is_gone_below_the_purge_mark_is_damage() {
    let _simulated = base::task::simulate();
    // The oldest one, and one in the middle.
    for name in ["0000000001.segment", "0000000002.segment"] {
        let (disk, node) = written(60, 50_000).await;
        node.replica.checkpoint().await;
        append(&node, 60, 1_000).await;
        node.stop().await;
        disk.remove(&path(name)).expect("the disk answers");
        assert!(inspected(&disk).await.iter().any(|damage| damage.contains(name)));
        let node = accept(&disk, name).await;
        let found = texts(&node, 61).await;
        let lost = found.iter().filter(|text| text.is_none()).count();
        assert!((10..30).contains(&lost), "{found:?}");
        assert_eq!((found[0].is_none(), found[60].is_none()), (name.contains('1'), false));
        append(&node, 61, 1_000).await;
        node.stop().await;
        assert_eq!(inspected(&disk).await, [""; 0], "what was given up is told as such");
        let node = start(&disk).await.expect("it was accepted once");
        assert_eq!(texts(&node, 61).await, found);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_replay_needs_ends_the_log_before_it() {
    let _simulated = base::task::simulate();
    let (disk, node) = written(5, 1_000).await;
    node.replica.checkpoint().await;
    for number in 5..10 {
        append(&node, number, 1_000).await;
    }
    disk.crash();
    drop(node);
    let all = entries(&disk).await;
    let (_, file, position) = &all[all.len() - 3];
    disk.flip(file, position + 500, 1);
    let node = accept(&disk, "0000000001.segment").await;
    assert_eq!(node.read_all(1, 1 << 20).await.len(), 7);
    assert_eq!(texts(&node, 7).await, expected(0..7, 0..0));
    append(&node, 7, 1_000).await;
    node.stop().await;
    let node = start(&disk).await.expect("it was accepted once");
    assert_eq!(texts(&node, 8).await, expected(0..8, 0..0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_let_go_on_purpose_is_not_lost() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let mut node = start(&disk).await.expect("the disk answers");
    node.create_streams(3).await;
    // Each round begins with data that dies before it is sealed, and has more that dies afterwards.
    for round in 0..4 {
        for stream in [2, 1, 3] {
            for _ in 0..if stream == 1 { 1 } else { 25 } {
                node.append(stream, &batch(&format!("t-{round}"), 1, 50_000, 0)).await.expect("appended");
            }
        }
        node.replica.propose(DeleteStreams { streams: vec![StreamId(2)] }.into()).await.expect("deleted");
        if round % 2 == 0 {
            node.replica.propose(Seal { through: LogIndex(u64::MAX) }.into()).await.expect("sealed");
        }
        node.replica.propose(DeleteStreams { streams: vec![StreamId(3)] }.into()).await.expect("deleted");
        node.replica.checkpoint().await;
        sleep(Duration::from_secs(1)).await;
        node.stop().await;
        node = start(&disk).await.expect("the disk answers");
        node.create_streams_of(&[2, 3]).await;
    }
    let stats = node.log.stats();
    assert!(stats.segments < 10, "{stats:?}: of 10 MB little is left in segments of 1 MiB");
    let found = texts(&node, 4).await;
    assert_eq!(found, expected(0..4, 0..0));
    node.stop().await;
}
