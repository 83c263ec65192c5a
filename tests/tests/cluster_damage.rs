//! A disk of one of three nodes lost or damaged something: the others have it, and it comes back from them. The node neither
//! votes nor leads with what is left, whatever it is told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::broker::rosettamq_binary;
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings};
use tests::damage::flip_bit;
use tests::process::{self, wait_until};
use tests::wire::requests::{
    PRODUCE, PRODUCE_VERSION, create_topic_replicated, leaders, produce_answer, produce_body, read_all,
};
use tests::wire::{Batch, Connection};

/// Several segments of [`SEGMENT`].
const RECORDS: usize = 200;
/// Enough that some of it becomes objects.
const OLD_RECORDS: usize = 800;
const SEGMENT: &str = "4MiB";
const LIMIT: Duration = Duration::from_secs(60);

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.resize(100_000, b'x');
    value
}

fn start() -> Result<Cluster> {
    start_with(&[])
}

fn start_with(more: &[&str]) -> Result<Cluster> {
    let flags = ["--segment-bytes", SEGMENT].iter().chain(more).map(|flag| (*flag).to_owned()).collect();
    let cluster = Cluster::start(3, Settings { flags, ..Settings::default() })?;
    let mut client = Connection::open(cluster.nodes[0].kafka())?;
    ensure!(create_topic_replicated(&mut client, "t", 1, -1, &[])? == 0, "a topic");
    Ok(cluster)
}

/// Whoever leads the partition, as a node says that is there.
fn leader(cluster: &Cluster, place: usize) -> Result<Connection> {
    let leaders = leaders(&mut Connection::open(cluster.nodes[place].kafka())?, "t")?;
    Connection::open(*leaders.get(&0).context("no leader")?)
}

/// Goes on until the records are acknowledged.
fn write(cluster: &Cluster, place: usize, numbers: std::ops::Range<usize>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    for number in numbers {
        let body = produce_body("t", 0, -1, 10_000, &Batch::of(vec![value(number)]).build());
        let once = || produce_answer(&leader(cluster, place)?.call(PRODUCE, PRODUCE_VERSION, &body)?);
        while once().map_or(-1, |told| told.error) != 0 {
            ensure!(Instant::now() < deadline, "record {number}\n{}", cluster.log_tails());
            sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// All of them are there, in order, whoever leads.
fn assert_all_there(cluster: &Cluster, place: usize, count: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match leader(cluster, place).and_then(|mut leader| read_all(&mut leader, "t", 0, 0)) {
            Ok(found) => {
                // What was tried again may stand there twice.
                let mut found: Vec<Vec<u8>> = found.into_iter().map(|record| record.value).collect();
                found.dedup();
                ensure!(found == (0..count).map(value).collect::<Vec<_>>(), "{} records", found.len());
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(error.context(cluster.log_tails())),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

/// File, position and shard of the entries in which the records are, on a node that is stopped.
fn entries(cluster: &Cluster, place: usize) -> Result<Vec<(PathBuf, u64, String)>> {
    let mut inspect = Command::new(rosettamq_binary()?);
    inspect.args(["log", "inspect", "--entries"]).arg(cluster.nodes[place].data());
    let text = process::finish(&mut inspect, None, LIMIT)?.text();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("entry ")) {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let bytes: u64 = field("bytes=").context("no bytes")?.parse()?;
        if bytes > 100_000 {
            let file = PathBuf::from(field("file=").context("no file")?);
            let position = field("position=").context("no position")?.parse()?;
            found.push((file, position, field("shard=").context("no shard")?.to_owned()));
        }
    }
    ensure!(!found.is_empty(), "no entry of the topic\n{text}");
    Ok(found)
}

/// How often a node has begun to bring a damaged copy anew.
fn brought_anew(cluster: &Cluster, place: usize) -> usize {
    cluster.nodes[place].log().matches("what is damaged here goes").count()
}

/// The place of the node that leads the shard of the topic.
fn leading_place(cluster: &mut Cluster) -> Result<usize> {
    let address = *leaders(&mut Connection::open(cluster.nodes[0].kafka())?, "t")?.get(&0).context("no leader")?;
    cluster.nodes.iter().position(|node| node.kafka() == address).context("the leader is a node")
}

/// What becomes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// In a segment that was complete when the node stopped.
    FlippedBit,
    SegmentGone,
    CheckpointDamaged,
}

fn spoil(cluster: &Cluster, place: usize, mishap: Mishap) -> Result<()> {
    let (file, position, shard) = entries(cluster, place)?.swap_remove(5);
    match mishap {
        Mishap::FlippedBit => flip_bit(&file, position + 50_000),
        Mishap::SegmentGone => Ok(fs::remove_file(&file)?),
        Mishap::CheckpointDamaged => {
            let folder = cluster.nodes[place].data().join("shards").join(shard).join("checkpoints");
            for file in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                flip_bit(&file?.path(), 40)?;
            }
            Ok(())
        }
    }
}

#[test]
fn a_damaged_copy_comes_back_from_the_others() -> Result<()> {
    let mut cluster = start()?;
    write(&cluster, 0, 0..RECORDS)?;
    for mishap in [Mishap::FlippedBit, Mishap::SegmentGone, Mishap::CheckpointDamaged] {
        cluster.wait_settled(SETTLE_LIMIT)?;
        // The one to which the lead goes back.
        let place = leading_place(&mut cluster)?;
        let other = (place + 1) % 3;
        ensure!(cluster.nodes[place].stop()?.success(), "the node stops");
        spoil(&cluster, place, mishap)?;
        let before = brought_anew(&cluster, place);
        cluster.nodes[place].spawn()?;
        cluster.nodes[place].wait_ready()?;
        if mishap == Mishap::FlippedBit {
            // It shows to who reads it, and is told to nobody as it is.
            cluster.wait_settled(SETTLE_LIMIT)?;
            let deadline = Instant::now() + LIMIT;
            while leading_place(&mut cluster)? != place {
                ensure!(Instant::now() < deadline, "the lead does not go back\n{}", cluster.log_tails());
                sleep(Duration::from_millis(100));
            }
            assert_all_there(&cluster, place, RECORDS)?;
        }
        let deadline = Instant::now() + LIMIT;
        while brought_anew(&cluster, place) == before {
            ensure!(Instant::now() < deadline, "{mishap:?} is not found\n{}", cluster.log_tails());
            sleep(Duration::from_millis(100));
        }
        cluster.wait_settled(SETTLE_LIMIT)?;
        // The copy is whole: it can do without either of the others, and the next start finds nothing.
        cluster.nodes[other].kill()?;
        assert_all_there(&cluster, place, RECORDS)?;
        cluster.nodes[other].spawn()?;
        cluster.nodes[other].wait_ready()?;
        ensure!(cluster.nodes[place].stop()?.success(), "the node stops");
        cluster.nodes[place].spawn()?;
        cluster.nodes[place].wait_ready()?;
        cluster.wait_settled(SETTLE_LIMIT)?;
        assert_all_there(&cluster, place, RECORDS)?;
        ensure!(brought_anew(&cluster, place) == before + 1, "{mishap:?} is found again\n{}", cluster.log_tails());
    }
    cluster.assert_no_panics()
}

#[test]
fn a_voter_that_lost_the_end_of_its_log_does_not_vote_without_it() -> Result<()> {
    let mut cluster = start()?;
    write(&cluster, 0, 0..20)?;
    cluster.wait_settled(SETTLE_LIMIT)?;
    let damaged = leading_place(&mut cluster)?;
    let (whole, late) = ((damaged + 1) % 3, (damaged + 2) % 3);
    cluster.nodes[late].kill()?;
    write(&cluster, whole, 20..40)?;
    cluster.nodes[whole].kill()?;
    cluster.nodes[damaged].kill()?;
    let (file, position, _) = entries(&cluster, damaged)?.pop().context("no entry")?;
    flip_bit(&file, position + 50_000)?;
    cluster.nodes[late].spawn()?;
    // Together they would be a majority, without what was acknowledged last. What ends there is for a node that has no others.
    for _ in 0..2 {
        File::create(cluster.nodes[damaged].data().join("log").join("ACCEPT-LOSS"))?;
        cluster.nodes[damaged].spawn()?;
        let status = cluster.nodes[damaged].wait_end()?;
        let log = cluster.nodes[damaged].log_tail();
        ensure!(status.code() == Some(1) && log.contains("empty its data directory"), "{status}\n{log}");
    }
    let found = leader(&cluster, late).and_then(|mut leader| read_all(&mut leader, "t", 0, 0));
    ensure!(found.is_err(), "what is the end is not known: {:?} records", found.map(|found| found.len()));
    cluster.nodes[whole].spawn()?;
    for place in [late, whole] {
        cluster.nodes[place].wait_ready()?;
    }
    assert_all_there(&cluster, late, 40)?;
    cluster.assert_no_panics()
}

/// The objects of a node, by shard and name.
fn objects(cluster: &Cluster, place: usize) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let shards = cluster.nodes[place].data().join("shards");
    let mut found = BTreeMap::new();
    for shard in fs::read_dir(&shards)? {
        let shard = shard?;
        let Ok(entries) = fs::read_dir(shard.path().join("objects")) else { continue };
        for entry in entries {
            let entry = entry?;
            let name = PathBuf::from(shard.file_name()).join(entry.file_name());
            if entry.file_name().to_string_lossy().ends_with(".object") {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

#[test]
fn an_object_that_was_damaged_by_hand_is_repaired_from_another_node() -> Result<()> {
    let cluster =
        start_with(&["--log-hot-bytes", "8MiB", "--scrub-interval", "1s", "--scrub-bytes-per-second", "1GiB"])?;
    write(&cluster, 0, 0..OLD_RECORDS)?;
    let deadline = Instant::now() + LIMIT;
    let mut repaired = 0;
    while repaired < 3 {
        ensure!(Instant::now() < deadline, "{repaired} objects were repaired\n{}", cluster.log_tails());
        sleep(Duration::from_millis(100));
        let (here, there) = (objects(&cluster, 1)?, objects(&cluster, 2)?);
        let Some((name, path)) = here.iter().find(|(name, _)| there.contains_key(*name)) else { continue };
        let Ok(whole) = fs::read(&there[name]) else { continue };
        let place = whole.len() as u64 * (repaired * 2 + 1) / 6;
        if whole.is_empty() || fs::read(path).ok().as_ref() != Some(&whole) || flip_bit(path, place).is_err() {
            continue;
        }
        // It may become part of a larger one before it is looked at.
        while let Ok(bytes) = fs::read(path) {
            if bytes == whole {
                repaired += 1;
                break;
            }
            ensure!(Instant::now() < deadline, "{} stays damaged\n{}", path.display(), cluster.log_tails());
            sleep(Duration::from_millis(50));
        }
    }
    ensure!(cluster.nodes[1].log().contains("a damaged object was repaired"), "it says so");
    let verify = |cluster: &Cluster| {
        let mut command = Command::new(rosettamq_binary()?);
        command.args(["log", "verify"]).arg(cluster.nodes[1].data());
        process::finish(&mut command, None, LIMIT)
    };
    let mut cluster = cluster;
    ensure!(cluster.nodes[1].stop()?.success(), "the node stops");
    let whole = verify(&cluster)?;
    ensure!(whole.status.success(), "all is whole: {}", whole.text());
    let (_, path) = objects(&cluster, 1)?.into_iter().next().context("an object")?;
    flip_bit(&path, fs::metadata(&path)?.len() / 2)?;
    let damaged = verify(&cluster)?;
    let named = damaged.text().contains(&format!("damage file={}", path.display()));
    ensure!(!damaged.status.success() && named, "it is named: {}", damaged.text());
    cluster.nodes[1].spawn()?;
    cluster.nodes[1].wait_ready()?;
    wait_until("the object is repaired", LIMIT, || Ok(verify(&cluster)?.status.success()))?;
    assert_all_there(&cluster, 0, OLD_RECORDS)
}
