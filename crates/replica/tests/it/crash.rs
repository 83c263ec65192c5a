//! One replica on a disk that loses, tears and reorders whatever was not synced: whenever it is cut
//! off, every acknowledged append is there at its offset, once, in order, and offsets have no gap.
//! Idempotent producers send again what they had no answer to. With the syncs taken away the same
//! check finds losses.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::{AppendFailure, Batch, Node, append, batch_of, config, options, text};
use base::Env;
use base::disk::{SimDisk, SimDiskOptions};
use base::random::{Random, SeededRandom};
use base::task::spawn;
use base::time::{Duration, SimWallClock, sleep};
use bytes::Bytes;
use parking_lot::Mutex;
use record::{BatchHeader, ProducerEpoch, ProducerId, ProducerStamp, Sequence, StreamId};
use replica::{CompactionPolicy, Config};

const STREAMS: u64 = 4;
/// It is compacted: each writer is a key.
const KEYED: u64 = 4;
const WRITERS: u64 = 5;
const LIVES: i64 = 4;
const SEGMENT_BYTES: u64 = 1 << 20;
/// The wall clock at the beginning, and how much later each life begins.
const EPOCH_MS: i64 = 1_767_225_600_000;
const LIFE_MS: i64 = 60_000;
/// The seed that a process is to run for [`a_seed_decides_everything`], and what stands before what it says.
const SEED: &str = "CRASH_SEED";
const OUTCOME: &str = "outcome: ";

/// What was told to writers, over all lives.
#[derive(Debug, Default)]
struct Ledger {
    /// Text by stream and offset.
    acknowledged: BTreeMap<(u64, i64), String>,
    next_number: u64,
    /// The next sequence of a writer in a stream.
    sequences: BTreeMap<(u64, u64), i32>,
    /// What a writer sent and has no answer to: it sends that again before anything else.
    unsure: BTreeMap<u64, Sent>,
    /// Objects that were read at the end of each life.
    objects: usize,
    /// Those of them that compaction made.
    compacted: usize,
    /// The first refusal: none of these appends is one to be refused.
    refused: Option<String>,
}

/// One append of a writer.
#[derive(Debug, Clone)]
struct Sent {
    stream: u64,
    text: String,
    batch: Batch,
}

impl Ledger {
    /// The next append of `writer`, which is without an answer from now on.
    fn next(&mut self, writer: u64, random: &SeededRandom) -> Sent {
        if let Some(again) = self.unsure.get(&writer) {
            return again.clone();
        }
        self.next_number += 1;
        let stream = 1 + random.below(STREAMS);
        let bytes = if random.below(20) == 0 { 50_000 } else { 20 + below(random, 3_000) };
        let text = format!("w{writer}-{}", self.next_number);
        let records = 1 + below(random, 3);
        let key = format!("w{writer}");
        let mut batch = batch_of(Some(key.as_bytes()), &text, records, bytes, 0);
        // Some producers are not idempotent; they do not send again.
        if writer > 0 {
            let sequence = self.sequences.entry((writer, stream)).or_default();
            batch.summary.producer = Some(ProducerStamp {
                id: ProducerId(i64::try_from(writer).expect("small")),
                epoch: ProducerEpoch(0),
                base_sequence: Sequence(*sequence),
            });
            *sequence += i32::try_from(records).expect("few");
        }
        let sent = Sent { stream, text, batch };
        if writer > 0 {
            self.unsure.insert(writer, sent.clone());
        }
        sent
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn settings(random: &SeededRandom) -> Config {
    let mut settings = config();
    settings.seal_batches = 5 + below(random, 60);
    settings.replay_commands_per_second = 20 + random.below(200);
    settings.checkpoint_pause_min = Duration::from_millis(random.below(20));
    settings.checkpoint_deltas_max = 1 + below(random, 5);
    settings.capture_step_records = 1 + below(random, 5);
    settings.entries_in_flight_max = 1 + below(random, 8);
    // Little of the log stays as it is: from the first seals on objects are built.
    settings.log_hot_bytes = random.below(3) * SEGMENT_BYTES;
    settings.object_bytes_min = 1 + random.below(200_000);
    settings.object_bytes_max = 1 + random.below(2_000_000);
    // Small entries, so that some batches travel in parts.
    settings.entry_bytes_max = 20_000;
    settings
}

fn policy(random: &SeededRandom) -> CompactionPolicy {
    CompactionPolicy {
        dirty_ratio_min: [0.0, 0.3, 0.7][below(random, 3)],
        lag_ms_min: 0,
        lag_ms_max: i64::MAX,
        delete_retention_ms: 0,
        unsealed_bytes_max: u64::MAX,
        unsealed_age_ms_max: i64::MAX,
        keeps_deletes: false,
    }
}

fn below(random: &SeededRandom, bound: u64) -> usize {
    usize::try_from(random.below(bound)).expect("small")
}

/// Reads everything and compares it with what was acknowledged.
async fn check(node: &Node, ledger: &Shared) -> Result<(), String> {
    // More may come meanwhile.
    let acknowledged = ledger.lock().acknowledged.clone();
    let mut found = BTreeMap::new();
    let mut texts = BTreeSet::new();
    // Of each key of the stream that is compacted.
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for stream in 1..=STREAMS {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let batches =
            if stream == KEYED { node.read_left(stream, 30_000).await } else { node.read_all(stream, 30_000).await };
        let is_empty = |bytes: &Bytes| BatchHeader::parse(bytes).is_ok_and(|header| header.record_count == 0);
        for (offset, bytes) in batches.into_iter().filter(|(_, bytes)| !is_empty(bytes)) {
            let text = text(&bytes);
            let (writer, number) = text.split_once('-').ok_or("a text of ours")?;
            let number: u64 = number.parse().map_err(|_| "a number")?;
            if last.insert(writer.to_owned(), number).is_some_and(|before| before >= number) {
                return Err(format!("stream {stream}: {text} is out of order"));
            }
            if !texts.insert((stream, text.clone())) {
                return Err(format!("stream {stream}: {text} is there twice"));
            }
            found.insert((stream, offset), text);
        }
        if stream == KEYED {
            newest = last;
        }
    }
    for (place, expected) in &acknowledged {
        let is_superseded = || {
            let (writer, number) = expected.split_once('-').expect("a text of ours");
            let number: u64 = number.parse().expect("a number");
            place.0 == KEYED && !found.contains_key(place) && newest.get(writer).is_some_and(|newest| *newest > number)
        };
        if found.get(place) != Some(expected) && !is_superseded() {
            return Err(format!("{expected} was acknowledged at {place:?}, there is {:?}", found.get(place)));
        }
    }
    Ok(())
}

async fn write(replica: replica::Replica, writer: u64, random: Arc<SeededRandom>, ledger: Shared) {
    loop {
        let Sent { stream, text, batch } = ledger.lock().next(writer, &random);
        match append(&replica, stream, &batch).await {
            Ok(appended) => {
                let mut ledger = ledger.lock();
                ledger.acknowledged.insert((stream, appended.base_offset.0), text);
                ledger.unsure.remove(&writer);
            }
            Err(AppendFailure::Refused(error)) => {
                ledger.lock().refused.get_or_insert_with(|| format!("{text} to stream {stream}: {error}"));
                return;
            }
            Err(AppendFailure::Propose(_)) => return,
        }
        if random.below(4) == 0 {
            sleep(Duration::from_millis(random.below(5))).await;
        }
    }
}

/// One start of the node until the disk is cut off; the first check that fails is told.
fn life(number: i64, disk: &SimDisk, random: &Arc<SeededRandom>, ledger: &Shared) -> Result<(), String> {
    let last = number >= LIVES;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let result = runtime.block_on(async {
        let env = Env {
            wall_clock: Arc::new(SimWallClock::new(EPOCH_MS + number * LIFE_MS)),
            random: Arc::new(SeededRandom::new(random.next_u64())),
            disk: Arc::new(disk.clone()),
            network: Env::real().network,
        };
        let mut log = options();
        log.segment_bytes = SEGMENT_BYTES;
        let node = Node::try_start(&env, Path::new("/node"), log, settings(random)).await?;
        if node.replica.state().streams() == 0 {
            node.create_streams(STREAMS).await;
        }
        node.replica.allow_objects();
        node.replica.compact([(StreamId(KEYED), policy(random))].into());
        check(&node, ledger).await?;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| spawn("writer", write(node.replica.clone(), writer, Arc::clone(random), Arc::clone(ledger))))
            .collect();
        sleep(Duration::from_millis(1 + random.below(150))).await;
        if random.below(3) == 0 {
            node.replica.checkpoint().await;
        }
        sleep(Duration::from_millis(random.below(50))).await;
        check(&node, ledger).await?;
        let (objects, compacted) = (node.replica.objects().here, node.replica.state().compacted_objects().len());
        ledger.lock().objects += objects;
        ledger.lock().compacted += compacted;
        if last {
            // Nothing fails any more: it must still hold everything after an orderly stop.
            writers.iter().for_each(tokio::task::JoinHandle::abort);
            node.stop().await;
        }
        ledger.lock().refused.clone().map_or(Ok(()), Err)
    });
    if !last {
        disk.crash();
    }
    drop(runtime);
    result
}

/// Text by stream and offset.
type Texts = BTreeMap<(u64, i64), String>;

/// Gives what was acknowledged, and how many objects there were at the ends of the lives, compacted ones apart.
fn run(seed: u64, ignore_sync: bool) -> Result<(Texts, usize, usize), String> {
    let _simulated = base::task::simulate();
    let random = Arc::new(SeededRandom::new(seed));
    let latency_max = Duration::from_micros(random.below(4_000));
    let disk = SimDisk::new(seed, SimDiskOptions { latency_max, ignore_sync, ..SimDiskOptions::default() });
    let ledger = Shared::default();
    for number in 0..LIVES + 2 {
        life(number, &disk, &random, &ledger)?;
    }
    let mut ledger = ledger.lock();
    Ok((std::mem::take(&mut ledger.acknowledged), ledger.objects, ledger.compacted))
}

fn seeds() -> u64 {
    std::env::var("CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Every `step`th seed from `first` on; the two tests that share the seeds run beside each other.
fn run_many(first: u64, step: usize) {
    let (mut acknowledged, mut objects, mut compacted) = (0, 0, 0);
    for seed in (first..seeds()).step_by(step) {
        match run(seed, false) {
            Ok((all, some, of_one)) => {
                acknowledged += all.len();
                objects += some;
                compacted += of_one;
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    assert!(acknowledged > 1_000, "the writers got through: {acknowledged}");
    assert!(objects - compacted > 30, "objects were built: {objects}, {compacted} of them by compaction");
    assert!(compacted > 30, "streams were compacted: {compacted}");
}

#[test]
fn no_acknowledged_append_is_lost_whenever_the_disk_is_cut_off_in_even_seeds() {
    run_many(0, 2);
}

#[test]
fn no_acknowledged_append_is_lost_whenever_the_disk_is_cut_off_in_odd_seeds() {
    run_many(1, 2);
}

#[test]
fn without_the_syncs_the_same_check_finds_losses() {
    let found = (0..20).any(|seed| std::panic::catch_unwind(|| run(seed, true).is_err()).unwrap_or(true));
    assert!(found, "a disk that ignores syncs went unnoticed");
}

/// In a process of its own: what tokio draws as chance depends on all that its process did before.
#[test]
fn a_seed_decides_everything() {
    if let Ok(seed) = std::env::var(SEED) {
        base::chance::check();
        let outcome = run(seed.parse().expect("a seed"), false);
        writeln!(std::io::stdout(), "\n{OUTCOME}{outcome:?}").expect("somebody reads it");
        return;
    }
    let process = |seed: u64| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "crash::a_seed_decides_everything", "--nocapture"]).env(SEED, seed.to_string());
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let outcome = text.lines().find_map(|line| line.strip_prefix(OUTCOME)).map(str::to_owned);
        outcome.unwrap_or_else(|| panic!("seed {seed}: {text}"))
    };
    for seed in 100..103 {
        assert_eq!(process(seed), process(seed), "seed {seed}");
    }
}
