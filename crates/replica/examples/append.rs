//! Appends of 1 KiB by many proposers at once: through proposer, Raft and the full shard, and beside
//! it the bare commit log with one frame per append.
//!
//! `cargo run --release -p replica --example append -- DIR SECONDS BODY_BYTES PROPOSERS...`

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "figures for people, and files that are the bench's own"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Env;
use base::task::spawn;
use base::time::{Duration, now, sleep};
use bytes::Bytes;
use parking_lot::Mutex;
use record::{
    BatchBuilder, BatchSummary, Compression, LeaderEpoch, LogIndex, NodeId, ProducerEpoch, ProducerId, ProducerStamp,
    Sequence, ShardId, StreamId, StreamOffset, Term, TimestampMs, validate,
};
use replica::{Alone, Config, Founding, Pace, Parts, Replica};
use shard::Outcome;
use shard::commands::{CreateStreams, NewStream};
use smallvec::smallvec;
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::object::{DiskStore, Objects};
use storage::{CommitLog, Entry, EntryKind, LogId, Options, Payload, ShardLog};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAMS: u64 = 16;

struct Run {
    dir: PathBuf,
    seconds: u64,
    body_bytes: usize,
    proposers: usize,
}

fn main() {
    if let Err(error) = base::memory::disable_transparent_huge_pages() {
        eprint(&format!("transparent huge pages stay on: {error}"));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seconds, body_bytes, proposers @ ..] = &arguments[..] else {
        eprint("usage: append DIR SECONDS BODY_BYTES PROPOSERS...");
        return;
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let only = std::env::var("ONLY").unwrap_or_default();
    for proposers in proposers {
        let run = |kind: &str| Run {
            dir: Path::new(dir).join(format!("{kind}-{proposers}")),
            seconds: number(seconds) as u64,
            body_bytes: number(body_bytes),
            proposers: number(proposers),
        };
        if only != "shard" {
            measure("bare", run("bare"));
        }
        if only != "bare" {
            measure("shard", run("shard"));
        }
    }
}

fn eprint(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn measure(kind: &str, run: Run) {
    let _ = std::fs::remove_dir_all(&run.dir);
    let workers = 2;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("a runtime");
    let cpu = cpu_seconds();
    let mut latencies = runtime.block_on(async {
        match kind {
            "bare" => bare(&run).await,
            _ => shard(&run).await,
        }
    });
    let cpu = cpu_seconds() - cpu;
    drop(runtime);
    latencies.sort_unstable();
    let count = latencies.len();
    let at = |part: f64| latencies[((count as f64 * part) as usize).min(count - 1)];
    let seconds = run.seconds as f64;
    eprint(&format!(
        "{kind:>6} {:>5} proposers {:>9.0}/s {:>7.1} MB/s  p50 {:>6} us  p99 {:>6} us  cpu {:>6.2} us each",
        run.proposers,
        count as f64 / seconds,
        count as f64 * run.body_bytes as f64 / seconds / 1e6,
        at(0.5),
        at(0.99),
        cpu * 1e6 / count as f64
    ));
    let _ = std::fs::remove_dir_all(&run.dir);
}

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::default() }
}

async fn bare(run: &Run) -> Vec<u32> {
    let env = Env::real();
    let (log, _) = CommitLog::open(Arc::clone(&env.disk), &run.dir.join("log"), options()).await.expect("a log");
    let shard = log.shard(ShardId(1));
    let next = Arc::new(Mutex::new(1_u64));
    let body = Bytes::from(vec![b'.'; run.body_bytes]);
    let latencies = closed_loop(run, |_| {
        let (shard, next, body) = (shard.clone(), Arc::clone(&next), body.clone());
        move || append_frame(shard.clone(), Arc::clone(&next), body.clone())
    })
    .await;
    log.close().await;
    latencies
}

async fn append_frame(shard: ShardLog, next: Arc<Mutex<u64>>, body: Bytes) {
    let (sender, receiver) = oneshot::channel();
    {
        let mut next = next.lock();
        let entry = Entry {
            id: LogId { term: Term(1), index: LogIndex(*next) },
            kind: EntryKind::Commands,
            payload: Payload::from(body),
        };
        *next += 1;
        let done = Box::new(move |result: std::io::Result<()>| {
            let _ = sender.send(result.is_ok());
        });
        shard.append_each(vec![entry], done).expect("taken");
    }
    assert!(receiver.await.expect("answered"));
}

async fn shard(run: &Run) -> Vec<u32> {
    let env = Env::real();
    let (log, _) = CommitLog::open(Arc::clone(&env.disk), &run.dir.join("log"), options()).await.expect("a log");
    let checkpoints = CheckpointStore::open(Arc::clone(&env.disk), &run.dir.join("checkpoints")).await.expect("opened");
    let store = Arc::new(DiskStore::new(Arc::clone(&env.disk), run.dir.clone()));
    let objects = Objects::open(store, "objects".into(), ShardId(1), 4 << 20).await.expect("opened");
    let index =
        IndexStore::open(Arc::clone(&env.disk), &run.dir.join("index"), 4 << 20, objects).await.expect("opened");
    let parts = Parts {
        log: log.shard(ShardId(1)),
        disk_state: log.disk_state(),
        checkpoints,
        index,
        pace: Arc::new(Pace::new(None, 1 << 20)),
        transport: Arc::new(Alone),
        founding: Founding::Alone,
    };
    let config = Config::new(NodeId(1), ShardId(1));
    let replica = Box::pin(Replica::start(env, config, parts)).await.expect("started");
    let streams = (1..=STREAMS)
        .map(|id| NewStream { id: StreamId(id), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) })
        .collect();
    replica.propose(CreateStreams { streams }.into()).await.expect("created");
    let (summary, batch) = batch(run.body_bytes);
    let latencies = closed_loop(run, |number| {
        let (replica, batch) = (replica.clone(), batch.clone());
        let mut sequence = 0;
        move || {
            let stamp = ProducerStamp {
                id: ProducerId(number as i64),
                epoch: ProducerEpoch(0),
                base_sequence: Sequence(sequence),
            };
            sequence += 1;
            let summary = BatchSummary { producer: Some(stamp), ..summary };
            append_batch(replica.clone(), StreamId(1 + number as u64 % STREAMS), summary, batch.clone())
        }
    })
    .await;
    replica.shutdown().await;
    let stats = log.stats();
    eprint(&format!(
        "        {} entries, {} writes, {} syncs, {:.2} bytes to the device per byte",
        stats.entries,
        stats.writes,
        stats.syncs,
        stats.bytes_written as f64 / stats.payload_bytes as f64
    ));
    log.close().await;
    latencies
}

async fn append_batch(replica: Replica, stream: StreamId, summary: BatchSummary, batch: Bytes) {
    match replica.append(smallvec![stream], summary, batch).await {
        Ok(Outcome::Append(results)) => assert!(results[0].is_ok(), "{results:?}"),
        other => panic!("{other:?}"),
    }
}

/// A batch of one record, about `bytes` long.
fn batch(bytes: usize) -> (BatchSummary, Bytes) {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'.'; bytes.saturating_sub(80).max(1)];
    builder.push(TimestampMs(1_700_000_000_000), None, Some(&value), &[]).expect("fits");
    let batch = builder.build().expect("a batch");
    (validate(&batch).expect("valid"), batch)
}

/// Every proposer has one operation under way, for the run's time; gives all latencies in us.
async fn closed_loop<P, F, O>(run: &Run, mut proposer: P) -> Vec<u32>
where
    P: FnMut(usize) -> F,
    F: FnMut() -> O + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..run.proposers)
        .map(|number| {
            let mut operation = proposer(number);
            let stop = Arc::clone(&stop);
            spawn("proposer", async move {
                let mut latencies = Vec::with_capacity(100_000);
                while !stop.load(Ordering::Relaxed) {
                    let begin = now();
                    operation().await;
                    latencies.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                latencies
            })
        })
        .collect();
    sleep(Duration::from_secs(run.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for task in tasks {
        all.append(&mut task.await.expect("no panic"));
    }
    all
}

/// User and system time of the process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}
