//! Key compaction of much that was written before it began: from the change of the topics' policy until the last partition is done.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::broker::Peer;
use tests::wire::Connection;
use tests::wire::admin::set_topic_config;

use super::{create, ensure_room, set, settle};
use crate::measure::{Usage, drop_page_cache, median};
use crate::peers::{Plan, Run, Side, alternating, figure, run_load};
use crate::report::{Bar, Line, number};

const PARTITIONS: i32 = 4;
/// How often each key is written.
const UPDATES: f64 = 10.0;
const RECORD_BYTES: f64 = 1000.0;
/// What both sides keep of keys: Kafka's `log.cleaner.dedupe.buffer.size`.
const KEYS_BYTES: &str = "134217728";
const LIMIT: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
struct Measured {
    seconds: f64,
    cpu_s: f64,
    peak_mb: f64,
    before_mb: f64,
    /// What readers get of the topic afterwards.
    left: f64,
    megabytes: f64,
    written_mb: f64,
}

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let bytes = plan.bytes(10.0, 2.0);
    ensure_room(plan, 2.2 * bytes)?;
    let (mut ours, mut kafka) = (Vec::new(), Vec::new());
    for round in 0..plan.runs {
        for side in alternating(plan.sides(), round) {
            let measured = measure(plan, side, bytes)?;
            if side == Side::Ours { ours.push(measured) } else { kafka.push(measured) }
        }
    }
    let of = |all: &[Measured], field: fn(&Measured) -> f64| median(&all.iter().map(field).collect::<Vec<_>>());
    let line = |what: &str, unit, field: fn(&Measured) -> f64| {
        let line = Line::new(format!("compaction of {} GB: {what}", number(bytes / 1e9)), unit, of(&ours, field));
        if kafka.is_empty() { line } else { line.beside(of(&kafka, field)) }
    };
    let settings = format!(
        "{} keys, {UPDATES} updates each, {PARTITIONS} partitions; both: one thread, 128 MiB for keys, no limit of bytes a second, \
         backoff 1 s, segment.bytes 64 MiB",
        number(keys(bytes) as f64)
    );
    let mut speed = line("speed", "MB/s", |run| run.megabytes / run.seconds).note(settings);
    if !kafka.is_empty() {
        speed = speed.bar(Bar::AtLeast(1.0));
    }
    let before = |all: &[Measured]| number(of(all, |run| run.before_mb));
    Ok(vec![
        speed,
        line("time", "s", |run| run.seconds),
        line("broker CPU", "s", |run| run.cpu_s),
        line("bytes written", "MB", |run| run.written_mb),
        line("left to read", "MB", |run| run.left),
        line("largest memory", "MB", |run| run.peak_mb).note(format!(
            "before: ours {}, Kafka {}; of ours 32 bytes a key, within 128 MiB",
            before(&ours),
            before(&kafka)
        )),
    ])
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count from a size that is not negative")]
fn keys(bytes: f64) -> u64 {
    (bytes / RECORD_BYTES / UPDATES) as u64
}

fn measure(plan: &Plan, side: Side, bytes: f64) -> Result<Measured> {
    let mut run = Run::start_with(plan, side, |settings| {
        let keys = format!("\"{KEYS_BYTES}\"");
        set(settings, Peer::Rosettamq, &[("compaction_memory_bytes", &keys), ("kafka.log.cleaner.backoff.ms", "1000")]);
        let threads = [("log.cleaner.threads", "1"), ("log.cleaner.dedupe.buffer.size", KEYS_BYTES)];
        set(settings, Peer::Kafka, &threads);
        set(settings, Peer::Kafka, &[("log.cleaner.backoff.ms", "1000")]);
    })?;
    create(&run, "k", PARTITIONS, &[("retention.ms", "-1"), ("segment.bytes", "67108864")])?;
    let (partitions, keys) = (PARTITIONS.to_string(), keys(bytes).to_string());
    let mut load = run.load("keyed", &["--topic", "k", "--partitions", &partitions, "--keys", &keys])?;
    let produced = run_load(&mut load)?;
    let megabytes = figure(&produced, "megabytes")?;
    settle(&run)?;
    drop_page_cache(&run.broker.data())?;
    let pid = run.pid()?;
    Usage::forget_memory_peak(pid)?;
    let (before_mb, before) = (Usage::memory(pid)? as f64 / 1e6, Usage::of(pid)?);
    let began = Instant::now();
    let mut connection = Connection::open(run.broker.address())?;
    let error = set_topic_config(&mut connection, "k", "cleanup.policy", "compact")?;
    ensure!(error == 0, "cleanup.policy=compact: error {error}");
    while done(&run)? < usize::try_from(PARTITIONS)? {
        ensure!(began.elapsed() < LIMIT, "not compacted within {LIMIT:?}\n{}", run.broker.log_tail());
        run.broker.assert_healthy()?;
        thread::sleep(Duration::from_millis(100));
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = Usage::of(pid)?;
    let peak_mb = Usage::memory_peak(pid)? as f64 / 1e6;
    let left = run_load(&mut run.load("fetch", &["--topic", "k", "--partitions", &partitions])?)?;
    Ok(Measured {
        seconds,
        cpu_s: after.cpu_s - before.cpu_s,
        peak_mb,
        before_mb,
        left: figure(&left, "megabytes")?,
        megabytes,
        written_mb: (after.written - before.written) as f64 / 1e6,
    })
}

/// How many partitions have been compacted.
fn done(run: &Run) -> Result<usize> {
    if run.broker.peer() == Peer::Kafka {
        // It is written anew when a partition is done: a version, how many, and topic, partition, offset.
        let text = fs::read_to_string(run.broker.data().join("cleaner-offset-checkpoint")).unwrap_or_default();
        return Ok(text.lines().filter(|line| line.starts_with("k ")).count());
    }
    let log = run.broker.log();
    let done = log.lines().filter(|line| line.contains("a stream was compacted"));
    let streams: BTreeSet<&str> =
        done.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("stream="))).collect();
    Ok(streams.len())
}
