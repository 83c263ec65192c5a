//! Answers of several streams: read together, from few places at a time, and small beside what they
//! were read from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Node, batch, config, options, text};
use base::Env;
use base::disk::{Disk, SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::Duration;
use futures_util::future::join_all;
use record::{StreamId, StreamOffset};
use replica::{FetchError, Plan, Planned, StoredBatch, Wish, read_plans};
use storage::{Backing, Chunk, Options};

const DIR: &str = "/node";

/// What is read at a time of one answer.
const READS: u64 = 4;
const LATENCY_MS: u64 = 10;

async fn start(disk: &SimDisk, log: Options) -> Node {
    let env = Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() };
    Node::start(&env, Path::new(DIR), log, config()).await
}

/// Options of a log that keeps nothing in memory.
fn cold() -> Options {
    Options { memory_bytes: 1, segment_bytes: 1 << 20, ..options() }
}

/// A node of so many streams with so many batches in each, in turn.
async fn written(disk: &SimDisk, log: Options, streams: u64, batches: usize) -> Node {
    let node = start(disk, log).await;
    node.create_streams(streams).await;
    for number in 0..batches {
        for stream in 1..=streams {
            node.append(stream, &batch(&format!("t-{stream}-{number}"), 1, 1_000, 0)).await.expect("appended");
        }
    }
    node
}

async fn plan(node: &Node, stream: u64) -> Plan<'_> {
    let wish = Wish { stream: StreamId(stream), from: StreamOffset(0), bytes_max: 1 << 20, at_least_one: true };
    match node.replica.plan_fetch(wish).expect("the stream is there") {
        Planned::Here(plan) => plan,
        Planned::InFiles(look_up) => look_up.find().await.expect("looked up"),
    }
}

async fn texts(batches: Vec<StoredBatch>) -> Vec<String> {
    let mut texts = Vec::new();
    for batch in batches {
        let chunk = batch.chunks.into_iter().next().expect("a chunk");
        texts.push(text(&chunk.into_bytes().await.expect("in memory")));
    }
    texts
}

fn slow(disk: &SimDisk) {
    disk.set_options(|options| options.read_latency = Duration::from_millis(LATENCY_MS));
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_answer_are_read_together() {
    const STREAMS: u64 = 16;
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let node = written(&disk, cold(), STREAMS, 1).await;
    slow(&disk);
    let plans: Vec<_> = join_all((1..=STREAMS).map(|stream| plan(&node, stream))).await;
    let before = base::time::now();
    let read = read_plans(&plans).await;
    let waited = base::time::now() - before;
    let expected = Duration::from_millis(STREAMS / READS * LATENCY_MS);
    assert!((expected..expected * 2).contains(&waited), "{waited:?}");
    for (stream, batches) in (1..).zip(read) {
        assert_eq!(texts(batches.expect("read")).await, [format!("t-{stream}-0")]);
    }
    drop(plans);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn few_answers_are_read_from_files_at_a_time() {
    const STREAMS: u64 = 8;
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    // No cache to speak of lets in the fewest: two.
    let node = written(&disk, Options { read_cache_bytes: 0, ..cold() }, STREAMS, 1).await;
    slow(&disk);
    let plans: Vec<_> = join_all((1..=STREAMS).map(|stream| plan(&node, stream))).await;
    let before = base::time::now();
    let read = join_all(plans.chunks(1).map(read_plans)).await;
    let waited = base::time::now() - before;
    let expected = Duration::from_millis(STREAMS / 2 * LATENCY_MS);
    assert!((expected..expected * 2).contains(&waited), "{waited:?}");
    assert!(read.iter().flatten().all(|batches| batches.as_ref().is_ok_and(|batches| batches.len() == 1)));
    drop(plans);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_keeps_no_more_than_twice_its_bytes_alive() {
    const BATCHES: usize = 60;
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    written(&disk, cold(), 40, BATCHES).await.stop().await;
    let node = start(&disk, cold()).await;
    let plans = [plan(&node, 7).await];
    let batches = read_plans(&plans).await.remove(0).expect("read");
    let (mut kept, mut wanted): (Vec<Backing>, _) = (Vec::new(), 0);
    for chunk in batches.iter().flat_map(|batch| &batch.chunks) {
        let Chunk::Memory(slices) = chunk else { continue };
        for slice in slices {
            wanted += slice.bytes().len();
            if !kept.contains(&slice.backing()) {
                kept.push(slice.backing());
            }
        }
    }
    let kept: usize = kept.into_iter().map(Backing::bytes).sum();
    assert!(wanted > BATCHES * 1_000 && kept <= 2 * wanted, "{wanted} bytes keep {kept} alive");
    let expected: Vec<_> = (0..BATCHES).map(|number| format!("t-7-{number}")).collect();
    assert_eq!(texts(batches).await, expected);
    drop(plans);
    node.stop().await;
}

/// Flips a bit of each place in the log that holds `text`.
fn damage(disk: &SimDisk, text: &str) {
    let log = Path::new(DIR).join("log");
    let files: Vec<PathBuf> =
        disk.read_dir(&log).expect("a directory").into_iter().map(|entry| log.join(entry.name)).collect();
    let mut found = 0;
    for file in files {
        let contents = disk.contents(&file);
        let places = contents.windows(text.len()).enumerate().filter(|(_, bytes)| *bytes == text.as_bytes());
        for (place, _) in places {
            disk.flip(&file, place as u64, 1);
            found += 1;
        }
    }
    assert_eq!(found, 1, "it lies in one place");
}

#[tokio::test(start_paused = true)]
async fn what_lies_before_damage_is_given_and_other_streams_too() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    // Neither is what was written in this life checked again, nor a full segment at a start.
    written(&disk, cold(), 2, 600).await.stop().await;
    damage(&disk, "t-1-13/");
    let node = start(&disk, cold()).await;
    let plans = [plan(&node, 1).await, plan(&node, 2).await];
    let mut read = read_plans(&plans).await.into_iter();
    let mut next = || read.next().expect("one for each").expect("read");
    let expected: Vec<_> = (0..13).map(|number| format!("t-1-{number}")).collect();
    assert_eq!(texts(next()).await, expected);
    assert_eq!(next().len(), 600);
    let there = node.replica.fetch(StreamId(1), StreamOffset(13), 1 << 20, true).await;
    assert!(matches!(there, Err(FetchError::Damaged { .. })), "{there:?}");
    drop(plans);
    node.stop().await;
}
