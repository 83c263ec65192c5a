//! Damage that takes what was acknowledged: the broker does not start, says which file and what to do, and goes on
//! with the rest when that is accepted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::broker::{Broker, Peer, Settings, rosettamq_binary};
use tests::damage::{end_of_log, flip_bit};
use tests::process::{self, Finished};
use tests::wire::requests::{self, FETCH, FETCH_VERSION, PRODUCE, PRODUCE_VERSION};
use tests::wire::requests::{fetch_answer, fetch_body, produce_answer, produce_body};
use tests::wire::{Batch, Connection, batch};

const RECORDS: i64 = 40;
const CORRUPT_MESSAGE: i16 = 2;

fn value(number: i64) -> Vec<u8> {
    // Four segments of 4 MiB and something in the fifth.
    let mut value = number.to_string().into_bytes();
    value.resize(450_000, b'x');
    value
}

fn produce(broker: &Broker, number: i64) -> Result<()> {
    let body = produce_body("t", 0, -1, 10_000, &Batch::of(vec![value(number)]).build());
    let answer = produce_answer(&Connection::open(broker.address())?.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
    ensure!((answer.error, answer.base_offset) == (0, number), "{answer:?} to record {number}");
    Ok(())
}

/// Which records are read as they were written; all others MUST answer that they are damaged.
fn readable(broker: &Broker, count: i64) -> Result<Vec<i64>> {
    let mut connection = Connection::open(broker.address())?;
    let mut readable = Vec::new();
    for offset in 0..count {
        let body = fetch_body("t", 0, offset, 0, 1 << 20);
        let fetched = fetch_answer(&connection.call(FETCH, FETCH_VERSION, &body)?)?;
        if fetched.error == CORRUPT_MESSAGE {
            continue;
        }
        ensure!(fetched.error == 0, "offset {offset}: error {}", fetched.error);
        let records = batch::read(&fetched.records)?;
        let first = records.first().with_context(|| format!("nothing at offset {offset}"))?;
        ensure!(first.offset == offset && first.value == value(offset), "another record at offset {offset}");
        readable.push(offset);
    }
    Ok(readable)
}

fn inspect(data: &Path, more: &[&str]) -> Result<Finished> {
    let mut inspect = Command::new(rosettamq_binary()?);
    process::finish(inspect.args(["log", "inspect"]).args(more).arg(data), None, Duration::from_secs(60))
}

/// File and position of the last entry of the log.
fn last_entry(data: &Path) -> Result<(PathBuf, u64)> {
    let text = inspect(data, &["--entries"])?.text();
    let line = text.lines().rev().find(|line| line.starts_with("entry ")).context("no entry")?;
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    let file = field("file=").context("no file")?;
    Ok((PathBuf::from(file), field("position=").context("no position")?.parse()?))
}

/// A broker with records, stopped clean.
fn written() -> Result<Broker> {
    let mut settings = Settings::of(Peer::Rosettamq);
    settings.segment_bytes = Some(4 << 20);
    let mut broker = settings.start()?;
    ensure!(requests::create_topic(&mut Connection::open(broker.address())?, "t", 1, &[])? == 0);
    for number in 0..RECORDS {
        produce(&broker, number)?;
    }
    ensure!(readable(&broker, RECORDS)?.len() == 40);
    ensure!(broker.stop()?.success());
    let inspected = inspect(&broker.data(), &[])?;
    ensure!(inspected.status.success(), "damage where none is: {}", inspected.tail());
    Ok(broker)
}

/// Refused starts name `file`, `inspect` tells of it, and what is left is served when the loss is accepted. Gives
/// what is left.
fn check(broker: &mut Broker, file: &Path) -> Result<Vec<i64>> {
    let name = file.file_name().context("a file")?.to_string_lossy().into_owned();
    for _ in 0..2 {
        let refusal = broker.restart().err().context("it starts as if nothing were")?.to_string();
        for part in [&*name, "ACCEPT-LOSS"] {
            ensure!(refusal.contains(part), "no {part} in: {refusal}");
        }
        ensure!(!refusal.contains("panicked"), "{refusal}");
    }
    let inspected = inspect(&broker.data(), &[])?;
    let told = inspected.text();
    ensure!(!inspected.status.success() && told.contains("damage file=") && told.contains(&name), "{told}");
    File::create(broker.data().join("log").join("ACCEPT-LOSS"))?;
    broker.restart()?;
    let left = readable(broker, RECORDS)?;
    produce(broker, RECORDS)?;
    ensure!(broker.stop()?.success());
    broker.restart()?;
    ensure!(readable(broker, RECORDS + 1)? == [&left[..], &[RECORDS]].concat(), "after another start");
    broker.assert_healthy()?;
    Ok(left)
}

#[test]
fn an_end_of_zeros_is_no_torn_end() -> Result<()> {
    let mut broker = written()?;
    let (file, position) = last_entry(&broker.data())?;
    let end = end_of_log(&broker.data())?;
    ensure!(end.file == file && end.position > position);
    let zeros = vec![0; usize::try_from(end.position - position)?];
    File::options().write(true).open(&file)?.write_all_at(&zeros, position)?;
    let left = check(&mut broker, &file)?;
    ensure!(left.starts_with(&(0..RECORDS - 1).collect::<Vec<_>>()), "{left:?}");
    Ok(())
}

#[test]
fn a_bit_of_the_last_frame_is_no_torn_end() -> Result<()> {
    let mut broker = written()?;
    let (file, position) = last_entry(&broker.data())?;
    // In its index.
    flip_bit(&file, position + 32)?;
    let left = check(&mut broker, &file)?;
    ensure!(left.starts_with(&(0..RECORDS - 1).collect::<Vec<_>>()), "{left:?}");
    Ok(())
}

/// The frame still says which entry it was: nothing is left open, and it alone is not served.
#[test]
fn a_bit_of_the_last_record_takes_that_record_only() -> Result<()> {
    let mut broker = written()?;
    let text = inspect(&broker.data(), &["--entries"])?.text();
    let bytes = |line: &str| line.rsplit_once("bytes=").and_then(|(_, bytes)| bytes.parse::<u64>().ok()).unwrap_or(0);
    let line = text
        .lines()
        .rev()
        .filter(|line| line.starts_with("entry "))
        .find(|line| bytes(line) > 400_000)
        .context("no record")?;
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).context("a field");
    flip_bit(Path::new(field("file=")?), field("position=")?.parse::<u64>()? + 200_000)?;
    broker.restart()?;
    ensure!(broker.log().contains("is damaged"), "it is not told\n{}", broker.log_tail());
    ensure!(readable(&broker, RECORDS)? == (0..RECORDS - 1).collect::<Vec<_>>());
    produce(&broker, RECORDS)?;
    ensure!(!inspect(&broker.data(), &[])?.status.success());
    broker.assert_healthy()
}

#[test]
fn a_segment_in_the_middle_is_missed() -> Result<()> {
    let mut broker = written()?;
    let file = broker.data().join("log").join("0000000002.segment");
    fs::remove_file(&file)?;
    let left = check(&mut broker, &file)?;
    // Some nine records to a segment of 4 MiB.
    ensure!((28..36).contains(&left.len()) && left.contains(&0) && left.contains(&(RECORDS - 1)), "{left:?}");
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_named_by_the_refusal_and_by_inspect() -> Result<()> {
    let mut broker = written()?;
    let folder = broker.data().join("shards/1/checkpoints");
    let mut bases = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let base = bases.find(|path| path.extension().is_some_and(|end| end == "base")).context("no base")?;
    flip_bit(&base, fs::metadata(&base)?.len() / 2)?;
    let refusal = broker.restart().err().context("it starts as if nothing were")?.to_string();
    ensure!(refusal.contains("shards/1/checkpoints") && !refusal.contains("panicked"), "{refusal}");
    let inspected = inspect(&broker.data(), &[])?;
    let name = base.file_name().context("a file")?.to_string_lossy().into_owned();
    ensure!(!inspected.status.success() && inspected.text().contains(&name), "{}", inspected.text());
    flip_bit(&base, fs::metadata(&base)?.len() / 2)?;
    broker.restart()?;
    ensure!(readable(&broker, RECORDS)?.len() == 40);
    broker.assert_healthy()
}
