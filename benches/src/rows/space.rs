//! What old data costs: bytes written and kept, reading it, compaction, and a start with much of it.

pub(super) mod compact;
pub(super) mod pace;
pub(super) mod read;
pub(super) mod shared;
pub(super) mod start;
pub(super) mod written;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tests::broker::{Peer, Settings};
use tests::wire::{Connection, requests};

use crate::measure::{bytes_below, free_bytes, page_cache_sync};
use crate::peers::{Plan, Run};
use crate::report::number;

const PARTITIONS: i32 = 16;
/// The rest that a disk is left with.
const ROOM_MIN: f64 = 4e9;
/// A broker has made all objects that it can when none grew for so long: it looks at what is sealed at once.
const QUIET: Duration = Duration::from_secs(12);
const QUIET_LIMIT: Duration = Duration::from_secs(3600);

/// A row that needs more room than there is does not begin.
fn ensure_room(plan: &Plan, bytes: f64) -> Result<()> {
    let free = free_bytes(&plan.dir)?;
    let needed = bytes + ROOM_MIN;
    if free < needed {
        bail!(
            "{} has {:.0} GB free, {:.0} are needed: choose another --dir or fewer --gigabytes",
            plan.dir.display(),
            free / 1e9,
            needed / 1e9
        );
    }
    Ok(())
}

/// Keys of our own configuration, in its words; Kafka's are left alone.
fn set(settings: &mut Settings, peer: Peer, keys: &[(&str, &str)]) {
    if settings.peer == peer {
        for (key, value) in keys {
            settings.properties.retain(|(other, _)| other != key);
            settings.properties.push(((*key).to_owned(), (*value).to_owned()));
        }
    }
}

fn create(run: &Run, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
    let mut connection = Connection::open(run.broker.address())?;
    let error = requests::create_topic(&mut connection, topic, partitions, configs)?;
    ensure!(error == 0, "creating {topic}: error {error}");
    Ok(())
}

/// The bytes of a broker's objects, those under way included.
fn object_bytes(run: &Run) -> Result<u64> {
    Ok(bytes_below(&run.broker.data(), ".object")? + bytes_below(&run.broker.data(), ".new")?)
}

/// Waits until all that is old is in objects and the device has what was written; Kafka has nothing to be waited for but that.
fn settle(run: &Run) -> Result<()> {
    if run.broker.peer() == Peer::Rosettamq {
        let began = Instant::now();
        let (mut last, mut since) = (object_bytes(run)?, Instant::now());
        while since.elapsed() < QUIET {
            ensure!(began.elapsed() < QUIET_LIMIT, "objects are made for {QUIET_LIMIT:?}\n{}", run.broker.log_tail());
            thread::sleep(Duration::from_millis(500));
            let now = object_bytes(run)?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
    page_cache_sync()
}

/// Processor time beside bytes, as the notes have it.
fn seconds_per_gb(cpu_s: f64, megabytes: f64) -> String {
    format!("{} s/GB", number(cpu_s * 1e3 / megabytes))
}
