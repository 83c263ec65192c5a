//! A start with very many objects, and what is kept of them in memory. What the blocks of an object have is given back to the file
//! system while more is produced: their index is whole, nothing else is read of them at a start, and a hundred gigabytes need no more
//! room than a few.

use std::fs::OpenOptions;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use tests::broker::Peer;
use tests::process;
use tests::wire::{Connection, requests};
use tests::workload::now_ms;

use super::{PARTITIONS, create, ensure_room, set, settle};
use crate::measure::{Sized, Usage, drop_page_cache, files_below, median};
use crate::peers::{Plan, Run, Side, figure, run_load};
use crate::report::{Bar, Line, number};

/// What is produced before the blocks of what was made are given back.
const ROUND_BYTES: f64 = 6e9;
/// What is left at both ends of a file: more than a header and an index at that size of batches.
const KEPT_BYTES: u64 = 8 << 20;
/// From a start to the look at its memory.
const CALM: Duration = Duration::from_secs(3);
/// From a look for what is to be compacted, of which there is one in a second, to the index that was sealed.
const SEALED_WITHIN: Duration = Duration::from_secs(8);
/// After a start.
const LEADS_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Measured {
    started_s: Vec<f64>,
    memory_mb: Vec<f64>,
    /// When each partition was asked for some times of the past.
    asked_mb: Vec<f64>,
    /// Of objects, or of Kafka's segments.
    files: usize,
    gigabytes: f64,
    cpu_s: f64,
}

pub(in super::super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let bytes = plan.bytes(100.0, 3.0);
    ensure_room(plan, 3.0 * ROUND_BYTES.min(bytes) + 0.02 * bytes)?;
    let mut all = Vec::new();
    for side in plan.sides() {
        let empty = measure(plan, *side, 0.0)?;
        all.push((empty, measure(plan, *side, bytes)?));
    }
    let (empty, ours) = &all[0];
    let kafka = all.get(1);
    let line = |what: String, unit, figure: &dyn Fn(&(Measured, Measured)) -> f64| {
        let line = Line::new(what, unit, figure(&all[0]));
        match kafka {
            Some(kafka) => line.beside(figure(kafka)),
            None => line,
        }
    };
    let more = |field: fn(&Measured) -> &Vec<f64>| {
        move |both: &(Measured, Measured)| median(field(&both.1)) - median(field(&both.0))
    };
    let size = format!("{} GB in {} objects", number(ours.gigabytes), ours.files);
    let files = kafka.map_or_else(String::new, |kafka| {
        format!("; Kafka: {} segments, {} GB", kafka.1.files, number(kafka.1.gigabytes))
    });
    let cpu = kafka.map_or_else(String::new, |kafka| format!(", Kafka {} s", number(kafka.1.cpu_s)));
    Ok(vec![
        line(format!("start with {size}"), "s", &|both| median(&both.1.started_s)).bar(Bar::OwnAtMost(1.0)).note(
            format!(
                "empty: {} s; broker CPU up to the look {} s{cpu}{files}",
                number(median(&empty.started_s)),
                number(ours.cpu_s)
            ),
        ),
        line("its memory, less that of an empty broker".to_owned(), "MB", &more(|run| &run.memory_mb))
            .bar(Bar::OwnAtMost(2.0))
            .note(format!(
                "resident: {} MB of {} MB",
                number(median(&ours.memory_mb)),
                number(median(&empty.memory_mb))
            )),
        line("the same when each partition was asked for offsets by time".to_owned(), "MB", &more(|run| &run.asked_mb))
            .note("with the pages of indexes that were read, of which memory keeps a bounded number"),
    ])
}

fn measure(plan: &Plan, side: Side, bytes: f64) -> Result<Measured> {
    let mut run = Run::start_with(plan, side, |settings| {
        // Holes are damage to whoever verifies what is old.
        set(settings, Peer::Rosettamq, &[("log_hot_bytes", "\"8MiB\""), ("scrub_bytes_per_second", "0")]);
        set(settings, Peer::Rosettamq, &[("kafka.log.cleaner.backoff.ms", "1000")]);
    })?;
    create(&run, "t", PARTITIONS, &[("retention.ms", "-1")])?;
    let (mut left, mut times_ms) = (bytes, Vec::new());
    while left > 0.0 {
        times_ms.push(i64::try_from(now_ms())?);
        let some = left.min(ROUND_BYTES);
        fill(&run, some)?;
        settle(&run)?;
        hollow_out(&run)?;
        left -= some;
    }
    seal(&run)?;
    let mut measured = Measured::default();
    for _ in 0..plan.runs {
        ensure!(run.broker.stop()?.success() || side != Side::Ours, "a stop failed\n{}", run.broker.log_tail());
        drop_page_cache(&run.broker.data())?;
        run.broker.restart()?;
        measured.started_s.push(run.broker.started_in().as_secs_f64());
        thread::sleep(CALM);
        let pid = run.pid()?;
        measured.cpu_s = Usage::of(pid)?.cpu_s;
        measured.memory_mb.push(Usage::memory(pid)? as f64 / 1e6);
        ask(&run, &times_ms)?;
        measured.asked_mb.push(Usage::memory(pid)? as f64 / 1e6);
    }
    let files = of_data(&run)?;
    (measured.files, measured.gigabytes) = (files.len(), files.iter().map(|file| file.bytes).sum::<u64>() as f64 / 1e9);
    Ok(measured)
}

fn fill(run: &Run, bytes: f64) -> Result<()> {
    let bytes = format!("{bytes:.0}");
    let shape = ["--topic", "t", "--connections", "4", "--depth", "4", "--records", "256"];
    let until = ["--partitions-per-request", "16", "--seconds", "1800", "--bytes", &bytes];
    let measured = run_load(&mut run.load("produce", &[&shape[..], &until].concat())?)?;
    ensure!(figure(&measured, "megabytes")? > 0.0, "nothing was produced");
    Ok(())
}

/// A compacted topic whose segments are to end at once has the shards seal what they have: otherwise up to 256 MiB of each, which
/// differ from run to run, would be told of in memory.
fn seal(run: &Run) -> Result<()> {
    create(run, "seal", PARTITIONS, &[("cleanup.policy", "compact"), ("segment.ms", "1")])?;
    let partitions = PARTITIONS.to_string();
    run_load(
        &mut run.load("keyed", &["--topic", "seal", "--partitions", &partitions, "--keys", "1600", "--rounds", "1"])?,
    )?;
    thread::sleep(SEALED_WITHIN);
    settle(run)
}

/// Objects, or the data of Kafka's segments.
fn of_data(run: &Run) -> Result<Vec<Sized>> {
    let (data, ending) = (run.broker.data(), if run.broker.peer() == Peer::Kafka { ".log" } else { ".object" });
    files_below(&data, ending)
}

/// Gives back what is between the two ends of each file that is not written any more.
fn hollow_out(run: &Run) -> Result<()> {
    let files = of_data(run)?;
    for (number, file) in files.iter().enumerate() {
        // The last segment of a partition is still written to.
        let is_open = run.broker.peer() == Peer::Kafka
            && files.get(number + 1).is_none_or(|next| next.path.parent() != file.path.parent());
        if is_open || file.bytes <= 3 * KEPT_BYTES {
            continue;
        }
        let opened =
            OpenOptions::new().write(true).open(&file.path).with_context(|| file.path.display().to_string())?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&opened, hole, KEPT_BYTES, file.bytes - 2 * KEPT_BYTES)?;
    }
    Ok(())
}

/// Offsets by these times in each partition: the index knows the batch, of which mostly only a hole is left, as the answer says then.
fn ask(run: &Run, times_ms: &[i64]) -> Result<()> {
    let mut connection = Connection::open(run.broker.address())?;
    wait_for_leaders(&mut connection)?;
    for time in times_ms {
        for partition in 0..PARTITIONS {
            requests::list_offset(&mut connection, "t", partition, *time)?;
        }
    }
    Ok(())
}

/// Kafka answers before it leads what it has.
fn wait_for_leaders(connection: &mut Connection) -> Result<()> {
    process::wait_until("leaders", LEADS_WITHIN, || {
        for partition in 0..PARTITIONS {
            if requests::list_offset(connection, "t", partition, -1)?.0 != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}
