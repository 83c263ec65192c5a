//! One partition of many that were written in turn, read when nothing of it is in memory: while it is still in the log, among the
//! others, and from objects, where it lies in pieces of many megabytes; Kafka's has files of its own.

use anyhow::{Context, Result, ensure};
use tests::broker::Peer;

use super::{PARTITIONS, create, ensure_room, set, settle};
use crate::measure::{drop_page_cache, files_below, median, sequential_megabytes_per_s};
use crate::peers::{Plan, Run, Side, alternating, figure, run_load};
use crate::report::{Bar, Line, number};

/// Twice what two shards leave unsealed.
const BEHIND_BYTES: f64 = 1.1e9;
/// So much is read to see what the device gives.
const SEQUENTIAL_BYTES: u64 = 4 << 30;

#[derive(Clone, Copy, Debug, Default)]
struct Read {
    megabytes_per_s: f64,
    broker_s_per_gb: f64,
    client_s_per_gb: f64,
}

/// What the runs of both sides gave.
#[derive(Debug, Default)]
struct All {
    log: Vec<Read>,
    objects: Vec<Read>,
    kafka: Vec<Read>,
    /// Files of objects, one behind the other.
    files: Vec<f64>,
}

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let bytes = plan.bytes(8.0, 2.0);
    // The log goes as objects come, by whole segments and a checkpoint at a time.
    ensure_room(plan, 2.2 * bytes + 2.0 * BEHIND_BYTES)?;
    let mut all = All::default();
    for round in 0..plan.runs {
        for side in alternating(plan.sides(), round) {
            if side == Side::Ours { ours(plan, bytes, &mut all)? } else { kafka(plan, bytes, &mut all)? }
        }
    }
    let files = median(&all.files);
    let what = format!("one of {PARTITIONS} interleaved partitions, {} GB in all", number(bytes / 1e9));
    let mut lines = Vec::new();
    for (place, reads) in [("in the log", &all.log), ("in objects", &all.objects)] {
        let name = format!("read {what}, {place}");
        let mut speed = Line::new(&name, "MB/s", of(reads, |read| read.megabytes_per_s)).note(format!(
            "client s/GB: ours {}, Kafka {}",
            client(reads),
            client(&all.kafka)
        ));
        let mut cpu = Line::new(format!("{name}: broker CPU"), "s/GB", of(reads, |read| read.broker_s_per_gb));
        if !plan.is_alone {
            speed = speed.beside(of(&all.kafka, |read| read.megabytes_per_s)).bar(Bar::AtLeast(1.0));
            cpu = cpu.beside(of(&all.kafka, |read| read.broker_s_per_gb));
        }
        lines.extend([speed, cpu]);
    }
    let line = Line::new(
        "the same in objects / their files from front to end",
        "MB/s",
        of(&all.objects, |read| read.megabytes_per_s),
    );
    lines.push(line.beside(files).bar(Bar::AtLeast(0.7)));
    Ok(lines)
}

fn of(reads: &[Read], field: fn(&Read) -> f64) -> f64 {
    let values: Vec<f64> = reads.iter().map(field).collect();
    median(&values)
}

fn client(reads: &[Read]) -> String {
    number(of(reads, |read| read.client_s_per_gb))
}

fn ours(plan: &Plan, bytes: f64, all: &mut All) -> Result<()> {
    let mut run = Run::start_with(plan, Side::Ours, |settings| {
        // Nothing is old, and nobody reads but the client.
        set(settings, Peer::Rosettamq, &[("log_hot_bytes", "\"1TiB\""), ("scrub_bytes_per_second", "0")]);
    })?;
    fill(&run, bytes)?;
    // What was written last is in no memory either.
    ensure!(run.broker.stop()?.success(), "a stop failed\n{}", run.broker.log_tail());
    run.broker.restart()?;
    all.log.push(read(&run)?);
    ensure!(run.broker.stop()?.success(), "a stop failed\n{}", run.broker.log_tail());
    set(run.broker.settings_mut(), Peer::Rosettamq, &[("log_hot_bytes", "\"8MiB\"")]);
    run.broker.restart()?;
    // All of it is old when as much was written behind it as a shard leaves unsealed.
    produce(&run, "behind", BEHIND_BYTES)?;
    settle(&run)?;
    all.objects.push(read(&run)?);
    let files = files_below(&run.broker.data(), ".object")?;
    ensure!(!files.is_empty(), "no object was made\n{}", run.broker.log_tail());
    let in_objects = files.iter().map(|file| file.bytes).sum::<u64>() as f64;
    ensure!(in_objects >= bytes, "not all is in objects: {:.2} GB\n{}", in_objects / 1e9, run.broker.log_tail());
    all.files.push(sequential_megabytes_per_s(&files, SEQUENTIAL_BYTES)?);
    Ok(())
}

fn kafka(plan: &Plan, bytes: f64, all: &mut All) -> Result<()> {
    let run = Run::start(plan, Side::Kafka)?;
    fill(&run, bytes)?;
    all.kafka.push(read(&run)?);
    Ok(())
}

/// Batches of 16 KiB, as producers make them, one for each partition in turn.
fn fill(run: &Run, bytes: f64) -> Result<()> {
    produce(run, "t", bytes)
}

fn produce(run: &Run, topic: &str, bytes: f64) -> Result<()> {
    create(run, topic, PARTITIONS, &[])?;
    let bytes = format!("{bytes:.0}");
    let shape = ["--topic", topic, "--connections", "4", "--depth", "4", "--records", "256"];
    let until = ["--partitions-per-request", "16", "--seconds", "1800", "--bytes", &bytes];
    run_load(&mut run.load("produce", &[&shape[..], &until].concat())?)?;
    Ok(())
}

/// Partition 0 from its beginning to its end, by a consumer that asks for 1 MiB at a time, as they do.
fn read(run: &Run) -> Result<Read> {
    drop_page_cache(&run.broker.data())?;
    let (measured, before, after) =
        run.measured("fetch", &["--topic", "t", "--partitions", "1", "--connections", "1"])?;
    let megabytes = figure(&measured, "megabytes")?;
    let gigabytes = Some(megabytes / 1e3).filter(|read| *read > 0.0).context("nothing was read")?;
    Ok(Read {
        megabytes_per_s: figure(&measured, "megabytes_per_s")?,
        broker_s_per_gb: (after.cpu_s - before.cpu_s) / gigabytes,
        client_s_per_gb: figure(&measured, "client_cpu_s")? / gigabytes,
    })
}
