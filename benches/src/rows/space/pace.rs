//! Producing at a pace for as long as it takes to grow old: with all that rewrites, expires and verifies what is old at work,
//! and without any of it. What waits to be rewritten is looked at all the while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tests::broker::Peer;

use super::{PARTITIONS, ROOM_MIN, create, ensure_room, set};
use crate::measure::{Usage, bytes_below, free_bytes, page_cache_sync};
use crate::peers::{Plan, Run, Side, figure, run_load};
use crate::report::{Bar, Line, number};

const RECORD_BYTES: f64 = 1024.0;
/// A topic that is compacted gets this part of what is produced.
const KEYED_SHARE: f64 = 0.1;
const KEYS: u64 = 200_000;
const KEYED_PARTITIONS: i32 = 4;
const LOOK: Duration = Duration::from_secs(1);

/// What one run gave.
#[derive(Debug)]
struct Measured {
    p99_ms: f64,
    p50_ms: f64,
    max_ms: f64,
    cpu_s_per_gb: f64,
    seconds: f64,
    /// What waited to be rewritten, from look to look, in MB.
    waiting: Vec<f64>,
}

/// What is at work while a side is measured.
#[derive(Clone, Copy, Debug)]
struct Work {
    is_at_work: bool,
    /// The log's newest part.
    hot: f64,
}

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let seconds = plan.minutes * 60.0;
    let all = plan.megabytes_per_s * 1e6 * seconds;
    let hot = plan.pick(1e9_f64, 0.1e9).min(all / 8.0);
    // With nothing at work all of it stays: a run of which the disk has no room for the whole is shorter.
    let room = free_bytes(&plan.dir)? - 2.0 * ROOM_MIN;
    let seconds_without = seconds.min(room / (plan.megabytes_per_s * 1e6 * 1.05));
    ensure_room(plan, (16.0 * hot).max(1e9))?;
    let mut lines = Vec::new();
    for side in plan.sides() {
        let without = measure(plan, *side, Work { is_at_work: false, hot }, seconds_without)?;
        let with = measure(plan, *side, Work { is_at_work: true, hot }, seconds)?;
        lines.extend(side_lines(plan, *side, hot, &with, &without));
    }
    Ok(lines)
}

fn side_lines(plan: &Plan, side: Side, hot: f64, with: &Measured, without: &Measured) -> Vec<Line> {
    let name = format!("{side:?}, produce at {} MB/s, rewriting at work / not", number(plan.megabytes_per_s));
    let note = |run: &Measured| {
        let Measured { p50_ms, max_ms, seconds, .. } = run;
        format!("{} s, p50 {} ms, longest {} ms", number(*seconds), number(*p50_ms), number(*max_ms))
    };
    let mut p99 = Line::new(format!("{name}: p99"), "ms", with.p99_ms).beside(without.p99_ms).note(format!(
        "with: {}; without: {}",
        note(with),
        note(without)
    ));
    let cpu = Line::new(format!("{name}: broker CPU"), "s/GB", with.cpu_s_per_gb).beside(without.cpu_s_per_gb);
    if side != Side::Ours {
        return vec![p99, cpu];
    }
    p99 = p99.bar(Bar::AtMost(1.5));
    // The first third of the run fills the newest part.
    let third = with.waiting.len() / 3;
    let largest = |looks: &[f64]| looks.iter().copied().fold(0.0, f64::max);
    let (middle, last) = (largest(&with.waiting[third..2 * third]), largest(&with.waiting[2 * third..]));
    let waiting = Line::new("bytes waiting to be rewritten, most in the last third / in the one before", "MB", last)
        .beside(middle)
        .bar(Bar::AtMost(1.2))
        .note(format!(
            "log_hot_bytes {} GB, of which there are twice as much in the log at times; retention.bytes {} GB in all, looked at every 5 s; \
             scrubbing without a pause at 8 MiB/s; {:.0} % of the bytes to a topic that is compacted, {KEYS} keys",
            number(hot / 1e9),
            number(retention(hot) / 1e9),
            100.0 * KEYED_SHARE
        ));
    vec![p99, cpu, waiting]
}

/// Three times the newest part: it becomes objects before it expires.
fn retention(hot: f64) -> f64 {
    3.0 * hot
}

fn measure(plan: &Plan, side: Side, work: Work, seconds: f64) -> Result<Measured> {
    ensure!(seconds >= 5.0, "there is no room for a run of 5 s");
    let run = start(plan, side, work)?;
    let kept = format!("{:.0}", retention(work.hot) / f64::from(PARTITIONS));
    let segment = format!("{:.0}", (retention(work.hot) / f64::from(PARTITIONS) / 4.0).max(1e6));
    let (topic, keyed) = if work.is_at_work {
        (
            vec![("retention.bytes", kept.as_str()), ("segment.bytes", &segment)],
            vec![("cleanup.policy", "compact"), ("segment.bytes", "67108864")],
        )
    } else {
        (vec![("retention.ms", "-1")], vec![("retention.ms", "-1")])
    };
    create(&run, "t", PARTITIONS, &topic)?;
    create(&run, "k", KEYED_PARTITIONS, &keyed)?;
    page_cache_sync()?;
    let rate = |share: f64| format!("{:.0}", share * plan.megabytes_per_s * 1e6 / RECORD_BYTES);
    let (rate_plain, rate_keyed) = (rate(1.0 - KEYED_SHARE), rate(KEYED_SHARE));
    let (seconds, keys, partitions) = (seconds.to_string(), KEYS.to_string(), KEYED_PARTITIONS.to_string());
    let plain = ["--topic", "t", "--rate", &rate_plain, "--record-bytes", "1024", "--linger-ms", "5"];
    let mut plain = run.load("open-loop", &[&plain[..], &["--seconds", &seconds]].concat())?;
    let shape =
        ["--topic", "k", "--partitions", &partitions, "--keys", &keys, "--record-bytes", "1024", "--records", "16"];
    let mut keyed = run.load(
        "keyed",
        &[&shape[..], &["--rounds", "1000000", "--rate", &rate_keyed, "--seconds", &seconds]].concat(),
    )?;
    let (before, is_over) = (Usage::of(run.pid()?)?, AtomicBool::new(false));
    let (measured, keyed, waiting) = thread::scope(|scope| {
        let keyed = scope.spawn(|| run_load(&mut keyed));
        let waiting = scope.spawn(|| watch(&run, work.hot, &is_over));
        let measured = run_load(&mut plain);
        let keyed = keyed.join();
        is_over.store(true, Ordering::Release);
        (measured, keyed, waiting.join())
    });
    let panicked = |_| anyhow!("a thread panicked");
    let (measured, keyed, waiting) = (measured?, keyed.map_err(panicked)??, waiting.map_err(panicked)??);
    let after = Usage::of(run.pid()?)?;
    let gigabytes = (figure(&measured, "records")? + figure(&keyed, "records")?) * RECORD_BYTES / 1e9;
    Ok(Measured {
        p99_ms: figure(&measured, "p99_us")? / 1e3,
        p50_ms: figure(&measured, "p50_us")? / 1e3,
        max_ms: figure(&measured, "max_us")? / 1e3,
        cpu_s_per_gb: (after.cpu_s - before.cpu_s) / gigabytes,
        seconds: figure(&measured, "seconds")?,
        waiting,
    })
}

fn start(plan: &Plan, side: Side, work: Work) -> Result<Run> {
    let hot = format!("\"{:.0}\"", work.hot);
    Run::start_with(plan, side, |settings| {
        if work.is_at_work {
            let keys = [
                ("log_hot_bytes", hot.as_str()),
                ("kafka.log.retention.check.interval.ms", "5000"),
                ("scrub_interval", "\"1s\""),
            ];
            set(settings, Peer::Rosettamq, &keys);
            set(settings, Peer::Kafka, &[("log.retention.check.interval.ms", "5000")]);
        } else {
            set(settings, Peer::Rosettamq, &[("log_hot_bytes", "\"1TiB\""), ("scrub_bytes_per_second", "0")]);
            set(settings, Peer::Kafka, &[("log.cleaner.enable", "false")]);
        }
    })
}

/// What the log has beyond its newest part, from look to look: what waits to be rewritten, or to be let go of.
fn watch(run: &Run, hot: f64, is_over: &AtomicBool) -> Result<Vec<f64>> {
    let mut looks = Vec::new();
    let mut next = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        let log = bytes_below(&run.broker.data(), ".segment")? as f64;
        looks.push((log - hot).max(0.0) / 1e6);
        next += LOOK;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    ensure!(looks.len() >= 3, "a run of less than three looks");
    Ok(looks)
}
