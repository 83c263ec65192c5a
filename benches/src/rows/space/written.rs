//! Bytes that reach the device for each byte produced when the log is as long as it gets: of data that expires while it is still in the
//! log's newest part, and of data that is kept, with all that objects are written and merged.
//!
//! What a process wrote is counted, which does not vary: each side has one run.

use anyhow::{Result, ensure};
use tests::broker::Peer;

use super::{PARTITIONS, create, ensure_room, object_bytes, seconds_per_gb, set, settle};
use crate::measure::{Usage, page_cache_sync};
use crate::peers::{Plan, Run, Side, figure, run_load};
use crate::report::{Bar, Line, number};

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Measured {
    ratio: f64,
    megabytes: f64,
    /// What the objects grew by, in MB.
    objects: f64,
    cpu_s: f64,
}

/// A quarter of the bytes that a row produces are the log's newest part, `log_hot_bytes`.
const HOT_SHARE: f64 = 0.25;
/// What expires is kept as long as this part of the newest part is written.
const KEPT_SHARE: f64 = 0.25;
const RECORD_BYTES: f64 = 1024.0;

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let bytes = plan.bytes(8.0, 2.0);
    ensure_room(plan, 3.5 * bytes)?;
    let mut lines = Vec::new();
    for (what, bar, measure) in [
        ("data that expires before it is old", 1.05, expiring as fn(&Plan, Side, f64) -> Result<Measured>),
        ("data that is kept", 2.1, kept),
    ] {
        let ours = measure(plan, Side::Ours, bytes)?;
        let kafka = if plan.is_alone { None } else { Some(measure(plan, Side::Kafka, bytes)?) };
        let mut line = Line::new(format!("bytes written per byte produced, {what}"), "ratio", ours.ratio)
            .bar(Bar::OwnAtMost(bar))
            .note(note(plan, bytes, &ours, kafka.as_ref()));
        line.reference = kafka.map(|kafka| kafka.ratio);
        lines.push(line);
    }
    Ok(lines)
}

fn note(plan: &Plan, bytes: f64, ours: &Measured, kafka: Option<&Measured>) -> String {
    let kafka =
        kafka.map_or_else(String::new, |kafka| format!(", Kafka {}", seconds_per_gb(kafka.cpu_s, kafka.megabytes)));
    format!(
        "{} GB measured, objects grew by {} GB, log_hot_bytes {} GB, what expires at {} MB/s; broker CPU {}{kafka}",
        number(ours.megabytes / 1e3),
        number(ours.objects / 1e3),
        number(bytes * HOT_SHARE / 1e9),
        number(plan.megabytes_per_s),
        seconds_per_gb(ours.cpu_s, ours.megabytes)
    )
}

fn start(plan: &Plan, side: Side, bytes: f64) -> Result<Run> {
    let hot = format!("\"{:.0}\"", bytes * HOT_SHARE);
    Run::start_with(plan, side, |settings| {
        set(settings, Peer::Rosettamq, &[("log_hot_bytes", &hot), ("kafka.log.retention.check.interval.ms", "1000")]);
        set(
            settings,
            Peer::Kafka,
            &[("log.retention.check.interval.ms", "1000"), ("log.segment.delete.delay.ms", "1000")],
        );
    })
}

fn expiring(plan: &Plan, side: Side, bytes: f64) -> Result<Measured> {
    let run = start(plan, side, bytes)?;
    let kept = bytes * HOT_SHARE * KEPT_SHARE / f64::from(PARTITIONS);
    // Kafka expires whole segments; ours has no segments of partitions.
    let (retention, segment) = (format!("{kept:.0}"), format!("{:.0}", kept / 4.0));
    create(&run, "t", PARTITIONS, &[("retention.bytes", &retention), ("segment.bytes", &segment)])?;
    // Until the log is as long as it gets.
    paced(plan, &run, bytes * 2.0 * HOT_SHARE)?;
    between(&run, || paced(plan, &run, bytes))
}

/// Produces so many bytes at the plan's pace; how many they were, in MB.
fn paced(plan: &Plan, run: &Run, bytes: f64) -> Result<f64> {
    let seconds = (bytes / 1e6 / plan.megabytes_per_s).to_string();
    let rate = format!("{:.0}", plan.megabytes_per_s * 1e6 / RECORD_BYTES);
    let arguments =
        ["--topic", "t", "--rate", &rate, "--record-bytes", "1024", "--linger-ms", "5", "--seconds", &seconds];
    let measured = run_load(&mut run.load("open-loop", &arguments)?)?;
    Ok(figure(&measured, "records")? * RECORD_BYTES / 1e6)
}

fn kept(plan: &Plan, side: Side, bytes: f64) -> Result<Measured> {
    let run = start(plan, side, bytes)?;
    let fill = || {
        let bytes = format!("{bytes:.0}");
        let shape = ["--topic", "t", "--connections", "4", "--depth", "4", "--records", "256"];
        let until = ["--partitions-per-request", "16", "--seconds", "1800", "--bytes", &bytes];
        let measured = run_load(&mut run.load("produce", &[&shape[..], &until].concat())?)?;
        settle(&run)?;
        figure(&measured, "megabytes")
    };
    // Until the newest part is full and all behind it is in objects: as much goes in from then on as is rewritten.
    fill()?;
    let before = object_bytes(&run)?;
    let measured = between(&run, fill)?;
    if side != Side::Ours {
        return Ok(measured);
    }
    // Objects are made of hundreds of megabytes at once: what is one more or less at the end is not of this run.
    let objects = object_bytes(&run)?.saturating_sub(before) as f64 / 1e6;
    let surplus = objects - measured.megabytes;
    Ok(Measured { ratio: measured.ratio - surplus / measured.megabytes, objects, ..measured })
}

/// What a broker writes and uses for what `produce` sends, in MB.
fn between(run: &Run, produce: impl FnOnce() -> Result<f64>) -> Result<Measured> {
    page_cache_sync()?;
    let before = Usage::of(run.pid()?)?;
    let megabytes = produce()?;
    page_cache_sync()?;
    let after = Usage::of(run.pid()?)?;
    ensure!(megabytes > 0.0, "nothing was produced\n{}", run.broker.log_tail());
    Ok(Measured {
        ratio: (after.written - before.written) as f64 / 1e6 / megabytes,
        megabytes,
        objects: 0.0,
        cpu_s: after.cpu_s - before.cpu_s,
    })
}
