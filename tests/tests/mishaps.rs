//! The library for slow disks and wrong clocks does to a broker what it is told: else faults of these kinds would find
//! nothing because they are none.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::broker::{Broker, Peer, Settings};
use tests::install;
use tests::mishaps::Mishaps;
use tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION, Produced, produce_answer, produce_body};
use tests::wire::{Batch, Connection};
use tests::workload::now_ms;

const SLOW: Duration = Duration::from_millis(700);
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

fn produce(broker: &Broker) -> Result<(Produced, Duration)> {
    let mut connection = Connection::open(broker.address())?;
    let body = produce_body("t", 0, -1, 10_000, &Batch::of(vec![b"value".to_vec()]).build());
    let began = Instant::now();
    let produced = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
    ensure!(produced.error == 0, "error {}", produced.error);
    Ok((produced, began.elapsed()))
}

/// How far the broker's clock is ahead.
fn ahead_ms(broker: &Broker) -> Result<i64> {
    let (produced, _) = produce(broker)?;
    Ok(produced.append_ms - i64::try_from(now_ms())?)
}

fn is_near(ahead_ms: i64, expected_ms: i64) -> bool {
    (ahead_ms - expected_ms).abs() < 60_000
}

#[test]
fn a_disk_becomes_slow_and_a_clock_wrong_at_once_and_over_a_restart() -> Result<()> {
    let Some(library) = install::preload::installed()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mishaps = Mishaps::new(&library, folder.path().join("mishaps"))?;
    let mut broker = Settings { wrapper: mishaps.wrapper(), ..Settings::of(Peer::Rosettamq) }.start()?;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    ensure!(requests::create_topic(&mut Connection::open(broker.address())?, "t", 1, &configs)? == 0);
    ensure!(is_near(ahead_ms(&broker)?, 0), "a clock that nobody has touched");

    for ahead in [YEAR_MS, -YEAR_MS] {
        mishaps.clock(ahead)?;
        let seen = ahead_ms(&broker)?;
        ensure!(is_near(seen, ahead), "{ahead} ms ahead, seen as {seen}");
    }
    broker.kill()?;
    broker.restart()?;
    ensure!(is_near(ahead_ms(&broker)?, -YEAR_MS), "after a restart");
    mishaps.end()?;
    ensure!(is_near(ahead_ms(&broker)?, 0), "put right");

    for (sync, write) in [(SLOW, Duration::ZERO), (Duration::ZERO, SLOW)] {
        mishaps.disk(sync, write)?;
        let (_, took) = produce(&broker)?;
        ensure!(took >= SLOW, "syncs {sync:?} and writes {write:?} longer, and a record takes {took:?}");
    }
    mishaps.end()?;
    ensure!(
        (0..10).map(|_| produce(&broker)).any(|produced| produced.is_ok_and(|(_, took)| took < SLOW)),
        "still slow"
    );
    broker.assert_healthy()
}
