//! What was acknowledged is there after any number of crashes, once, in order, at the offset promised; and after a
//! disk was full.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::broker::{Broker, Peer, Settings};
use tests::damage;
use tests::ledger::{Chance, Ledger, Plan};
use tests::limited_disk::LimitedDisk;
use tests::process::{self, wait_until};
use tests::toolchain;
use tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION, produce_answer, produce_body};
use tests::wire::{Batch, Connection};

fn plan(seed: u64) -> Plan {
    Plan {
        topic: "ledger".to_owned(),
        partitions: 4,
        producers: 4,
        value_bytes: (20, 2000),
        batch_records: 20,
        large_every: 40,
        in_flight: 5,
        pause: Duration::from_millis(1),
        seed,
    }
}

/// Rounds of about a second: work, kill -9 at a random moment, in some rounds a torn or a flipped frame after the
/// end of the log, start again.
#[test]
fn acknowledged_records_survive_kill_9() -> Result<()> {
    let rounds: u32 = if toolchain::is_nightly() { 500 } else { 50 };
    let seed = 7;
    let mut settings = Settings::new()?;
    settings.segment_bytes = Some(4 << 20);
    let is_ours = settings.peer == Peer::Rosettamq;
    let mut broker = settings.start()?;
    let ledger = Ledger::start(broker.address(), plan(seed))?;
    let mut chance = Chance::new(seed);
    let mut acked_before = 0;
    for round in 0..rounds {
        // A round counts when something was acknowledged in it.
        wait_until("an acknowledgement", Duration::from_secs(60), || {
            ensure!(!ledger.is_broken(), "a producer gave up in round {round}");
            Ok(ledger.acked() > acked_before)
        })
        .or_else(|error| gave_up(&broker, error))?;
        thread::sleep(Duration::from_millis(chance.between(0, 700)));
        acked_before = ledger.acked();
        broker.kill()?;
        if is_ours {
            match round % 5 {
                1 => damage::append_torn_frame(&broker.data(), &mut chance)?,
                3 => damage::append_flipped_frame(&broker.data(), &mut chance)?,
                _ => {}
            }
        }
        broker.restart()?;
    }
    let book = ledger.finish().or_else(|error| gave_up(&broker, error))?;
    let checked = book.check().or_else(|error| gave_up(&broker, error))?;
    // Once more from what is on disk after a clean stop.
    broker.stop()?;
    broker.restart()?;
    let again = book.check()?;
    ensure!(checked.acked == again.acked && checked.present == again.present, "{checked:?} became {again:?}");
    ensure!(checked.acked > u64::from(rounds), "only {} records acknowledged", checked.acked);
    broker.assert_healthy()
}

fn gave_up<T>(broker: &Broker, error: anyhow::Error) -> Result<T> {
    Err(error.context(format!("the broker's log ends with\n{}", broker.log_tail())))
}

/// A disk below its reserve refuses writes with a retriable error, goes on reading, starts again, and writes again by
/// itself when there is room, be it that of a deleted topic; nothing acknowledged is lost on the way.
#[test]
fn a_full_disk_refuses_writes_and_recovers() -> Result<()> {
    let mut settings = Settings::new()?;
    if settings.peer != Peer::Rosettamq {
        return Ok(());
    }
    let Some(disk) = LimitedDisk::mount(160)? else {
        toolchain::missing_is("a disk that fills", "the right to mount a tmpfs")?;
        return Ok(());
    };
    settings.data_dir = Some(disk.path().join("broker"));
    settings.segment_bytes = Some(4 << 20);
    settings.disk_reserve_bytes = Some(32 << 20);
    let mut broker = settings.start()?;
    let mut connection = Connection::open(broker.address())?;
    ensure!(requests::create_topic(&mut connection, "full", 1, &[])? == 0, "creating a topic");
    let batch = Batch::of(vec![vec![b'x'; 100_000]]).build();
    let mut acked = 0;
    let mut produce = |connection: &mut Connection| -> Result<i16> {
        let body = produce_body("full", 0, -1, 10_000, &batch);
        let answer = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
        acked += i64::from(answer.error == 0);
        Ok(answer.error)
    };
    for _ in 0..10 {
        ensure!(produce(&mut connection)? == 0, "writing while there is room");
    }
    ensure!(requests::create_topic(&mut connection, "large", 1, &[])? == 0, "creating a topic");
    let body = produce_body("large", 0, -1, 10_000, &Batch::of(vec![vec![b'y'; 900_000]]).build());
    let mut large = 0;
    let mut produce_large = |connection: &mut Connection| -> Result<i16> {
        let error = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?.error;
        large += usize::from(error == 0);
        Ok(error)
    };
    for _ in 0..60 {
        ensure!(produce_large(&mut connection)? == 0, "writing while there is room");
    }
    // All that is left, less than the reserve.
    let filler = disk.path().join("filler");
    let fill = format!("head -c 160M /dev/zero > {}", filler.display());
    let _full = process::finish(std::process::Command::new("sh").args(["-c", &fill]), None, Duration::from_secs(60))?;
    let refused = Instant::now();
    // Nothing that stays is written behind what is to be deleted.
    let error = loop {
        let error = produce_large(&mut connection)?;
        if error != 0 {
            break error;
        }
        ensure!(refused.elapsed() < Duration::from_secs(60), "a full disk takes writes");
    };
    ensure!([7, 19, 20, 56].contains(&error), "a full disk answers with error {error}, which no client tries again");
    broker.assert_healthy()?;
    // Far below the reserve: first hardly more than the segment that a start needs when the last one is full.
    for free in [5 << 20, 8 << 20] {
        let file = fs::File::options().write(true).open(&filler)?;
        file.set_len(file.metadata()?.len() - free)?;
        broker.kill()?;
        broker.restart()?;
        connection = Connection::open(broker.address())?;
        ensure!(requests::read_all(&mut connection, "full", 0, 0)?.len() == 10, "reading with {free} bytes more");
        let error = produce_large(&mut connection)?;
        ensure!([7, 19, 20, 56].contains(&error), "with {free} bytes more a write is answered with {error}");
    }
    let read = requests::read_all(&mut connection, "large", 0, 0)?.len();
    ensure!(read == large, "{read} records, {large} acknowledged");
    ensure!(requests::delete_topic(&mut connection, "large")? == 0, "deleting a topic");
    wait_until("writing in the room of the deleted", Duration::from_secs(120), || Ok(produce(&mut connection)? == 0))?;
    fs::remove_file(&filler)?;
    ensure!(produce(&mut connection)? == 0, "writing with much room");
    broker.kill()?;
    broker.restart()?;
    let records = requests::read_all(&mut Connection::open(broker.address())?, "full", 0, 0)?;
    ensure!(i64::try_from(records.len())? == acked, "{} records, {acked} acknowledged", records.len());
    broker.assert_healthy()
}
