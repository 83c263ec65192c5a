//! One body of 1 KiB after another, each appended to many streams at once: what it costs on the device until all that is old is in
//! objects, and what is left of it then.
//!
//! `cargo run --release -p replica --example shared -- DIR RECORDS STREAMS`

#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "figures for people, and files that are the bench's own"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Env;
use base::time::{Duration, now, sleep};
use bytes::Bytes;
use record::{
    BatchBuilder, BatchSummary, Compression, LeaderEpoch, NodeId, ShardId, StreamId, StreamOffset, TimestampMs,
    validate,
};
use replica::{Alone, Config, Founding, Pace, Parts, Replica};
use shard::Outcome;
use shard::commands::{CreateStreams, NewStream};
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::object::{DiskStore, Objects};
use storage::{CommitLog, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY_BYTES: usize = 1024;
/// All is in objects when none grew for so long.
const QUIET: Duration = Duration::from_secs(12);
/// The smallest part of the log that may stay as it is.
const HOT_BYTES: u64 = 8 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, records, streams] = &arguments[..] else {
        print("usage: shared DIR RECORDS STREAMS");
        return;
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let dir = PathBuf::from(dir);
    let _ = std::fs::remove_dir_all(&dir);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(Box::pin(run(&dir, number(records), number(streams))));
    drop(runtime);
    let _ = std::fs::remove_dir_all(&dir);
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

async fn run(dir: &Path, records: u64, streams: u64) {
    let env = Env::real();
    let options = Options { reserve_bytes: 0, segment_bytes: 4 << 20, ..Options::default() };
    let (log, _) = CommitLog::open(Arc::clone(&env.disk), &dir.join("log"), options).await.expect("a log");
    let checkpoints = CheckpointStore::open(Arc::clone(&env.disk), &dir.join("checkpoints")).await.expect("opened");
    let store = Arc::new(DiskStore::new(Arc::clone(&env.disk), dir.to_owned()));
    let objects = Objects::open(store, "objects".into(), ShardId(1), 4 << 20).await.expect("opened");
    let index = IndexStore::open(Arc::clone(&env.disk), &dir.join("index"), 4 << 20, objects).await.expect("opened");
    let parts = Parts {
        log: log.shard(ShardId(1)),
        disk_state: log.disk_state(),
        checkpoints,
        index,
        pace: Arc::new(Pace::new(None, 1 << 20)),
        transport: Arc::new(Alone),
        founding: Founding::Alone,
    };
    let mut config = Config::new(NodeId(1), ShardId(1));
    config.log_hot_bytes = HOT_BYTES;
    let replica = Box::pin(Replica::start(env, config, parts)).await.expect("started");
    replica.allow_objects();
    let new = |id| NewStream { id: StreamId(id), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
    replica.propose(CreateStreams { streams: (1..=streams).map(new).collect() }.into()).await.expect("created");
    let (summary, body) = batch(BODY_BYTES);
    let (before, began) = (written(), now());
    for _ in 0..records {
        match replica.append((1..=streams).map(StreamId).collect(), summary, body.clone()).await {
            Ok(Outcome::Append(results)) => assert!(results.iter().all(Result::is_ok), "{results:?}"),
            other => panic!("{other:?}"),
        }
    }
    let appended = began.elapsed();
    settle(&dir.join("objects")).await;
    let each = |bytes: u64| bytes as f64 / records as f64;
    let (objects, log_bytes) = (bytes_below(&dir.join("objects")), bytes_below(&dir.join("log")));
    print(&format!(
        "written {:.0} bytes a record, {:.1} a stream; objects {:.0}, index {:.0}, log {:.0} bytes a record; count {}; appended {:.0}/s",
        each(written() - before),
        each(written() - before) / streams as f64,
        each(objects),
        each(bytes_below(&dir.join("index"))),
        each(log_bytes),
        replica.objects().here,
        records as f64 / appended.as_secs_f64()
    ));
    replica.shutdown().await;
    log.close().await;
}

/// Waits until no object grows.
async fn settle(objects: &Path) {
    let (mut last, mut since) = (0, now());
    while since.elapsed() < QUIET {
        sleep(Duration::from_millis(200)).await;
        let bytes = bytes_below(objects);
        if bytes != last {
            (last, since) = (bytes, now());
        }
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// What this process sent to the device.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).expect("write_bytes");
    line.trim().parse().expect("a number")
}

/// A batch of one record, about `bytes` long.
fn batch(bytes: usize) -> (BatchSummary, Bytes) {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'.'; bytes.saturating_sub(80).max(1)];
    builder.push(TimestampMs(1_700_000_000_000), None, Some(&value), &[]).expect("fits");
    let batch = builder.build().expect("a batch");
    (validate(&batch).expect("valid"), batch)
}
