//! A data directory that an older version of the broker left behind: how it was made, and what must be found in it.
//!
//! Keeps true: what is written is decided here alone, so that whoever reads it later knows every record and offset. The
//! steps write with the version that made the archives as with any later one.

mod archive;

pub use archive::{Expected, Stage, digests, folder, pack, unpack};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::broker::{Broker, Peer, Settings};
use crate::process::wait_until;
use crate::wire::groups::{self, Member};
use crate::wire::requests::{self, PRODUCE, PRODUCE_VERSION, Produced, produce_answer, produce_body};
use crate::wire::{Batch, Connection, admin, produce_requests};

/// The commit that made the archives: the last of the broker that knew one node only.
pub const VERSION: &str = "c52b9e6";

const ORDERS: &str = "orders";
const ORDERS_PARTITIONS: i32 = 6;
/// Those that it began with; the others were added.
const ORDERS_FIRST_PARTITIONS: i32 = 4;
const BATCH_RECORDS: usize = 3;
const LARGE_BYTES: usize = 2_600_000;
const MANY_PARTITIONS: i32 = 64;
/// Of each partition: more than a shard keeps in memory, whichever of two shards the partitions are on.
const MANY_BATCHES: i64 = 2_200;
/// Requests under way at once.
const IN_FLIGHT: i64 = 50;
const UNKNOWN_TOPIC: i16 = 3;
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// An idempotent producer, as a client keeps it over restarts of its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// Small segments and two data shards, with the program of whoever made them.
pub fn settings(program: Option<PathBuf>, home: &Path) -> Settings {
    let mut settings = Settings::of(Peer::Rosettamq);
    settings.program = program;
    settings.data_dir = Some(home.to_path_buf());
    settings.segment_bytes = Some(4 << 20);
    settings.disk_reserve_bytes = Some(0);
    settings.properties = vec![("shards".to_owned(), "2".to_owned())];
    settings
}

/// Topics, idempotent and large batches, groups, deletions and configurations, with a crash between and one at the end.
/// It takes less than the 30 s after which checkpoints are written, so that the log alone tells of it.
pub fn write_early(broker: &mut Broker) -> Result<Producer> {
    let mut connection = Connection::open(broker.address())?;
    let connection = &mut connection;
    make(connection, ORDERS, ORDERS_FIRST_PARTITIONS, &[])?;
    make(connection, "large", 1, &[("max.message.bytes", "8000000")])?;
    make(connection, "gone", 2, &[])?;
    make(connection, "configured", 1, &[("cleanup.policy", "delete")])?;
    let (id, epoch) = requests::init_producer_id(connection)?;
    let producer = Producer { id, epoch };
    write_orders(connection, producer, 0..ORDERS_FIRST_PARTITIONS, 0..30)?;
    for number in 0..2 {
        produce(connection, "large", 0, &Batch::of(vec![large(number)]))?;
    }
    for partition in [0, 1] {
        produce(connection, "gone", partition, &Batch::of(vec![b"soon gone".to_vec()]))?;
    }
    broker.kill()?;
    broker.restart()?;
    let connection = &mut Connection::open(broker.address())?;
    wait_until("partitions with leaders", WAIT_LIMIT, || requests::has_leaders(connection, ORDERS, 4))?;
    write_orders(connection, producer, 0..ORDERS_FIRST_PARTITIONS, 30..Stage::Early.orders())?;
    ensure!(requests::delete_topic(connection, "gone")? == 0, "deleting a topic");
    ensure!(admin::set_topic_config(connection, "configured", "retention.ms", "123456000")? == 0, "a configuration");
    ensure!(admin::create_partitions(connection, ORDERS, ORDERS_PARTITIONS)? == 0, "more partitions");
    wait_until("all partitions", WAIT_LIMIT, || requests::has_leaders(connection, ORDERS, 6))?;
    write_orders(connection, producer, ORDERS_FIRST_PARTITIONS..ORDERS_PARTITIONS, 0..Stage::Early.orders())?;
    let member = groups::join_alone(connection, "members")?;
    for partition in 0..ORDERS_PARTITIONS {
        let offset = Stage::Early.committed(partition);
        ensure!(groups::commit(connection, "members", &member, (ORDERS, partition), offset)? == 0, "a commit");
        ensure!(groups::commit(connection, "alone", &Member::none(), (ORDERS, partition), offset)? == 0, "a commit");
    }
    ensure!(groups::commit(connection, "deleted", &Member::none(), (ORDERS, 0), 1)? == 0, "a commit");
    ensure!(admin::delete_group(connection, "deleted")? == 0, "deleting a group");
    broker.kill()?;
    Ok(producer)
}

/// Stops with checkpoints, so many batches that their index goes into files, and at the end a crash behind the last
/// checkpoint. Begins with what [`write_early`] left.
pub fn write_late(broker: &mut Broker, producer: Producer) -> Result<()> {
    broker.restart()?;
    broker.stop()?;
    broker.restart()?;
    let connection = &mut Connection::open(broker.address())?;
    make(connection, "many", MANY_PARTITIONS, &[])?;
    let batch = Batch::of(vec![b"m".to_vec()]).build();
    let batches: Vec<(i32, Vec<u8>)> = (0..MANY_PARTITIONS).map(|partition| (partition, batch.clone())).collect();
    let body = produce_requests::body("many", -1, 30_000, &batches);
    let check = |answer: &[u8]| {
        let first = produce_answer_of_many(answer)?;
        ensure!(first.error == 0, "producing to many: error {}", first.error);
        Ok(())
    };
    for number in 0..MANY_BATCHES {
        connection.send(PRODUCE, PRODUCE_VERSION, &body)?;
        if number >= IN_FLIGHT {
            check(&connection.answer()?)?;
        }
    }
    for _ in 0..IN_FLIGHT {
        check(&connection.answer()?)?;
    }
    broker.stop()?;
    broker.restart()?;
    let connection = &mut Connection::open(broker.address())?;
    wait_until("partitions with leaders", WAIT_LIMIT, || requests::has_leaders(connection, ORDERS, 6))?;
    let (from, to) = (Stage::Early.orders(), Stage::Late.orders());
    write_orders(connection, producer, 0..ORDERS_PARTITIONS, from..to)?;
    for partition in 0..ORDERS_PARTITIONS {
        let offset = Stage::Late.committed(partition);
        ensure!(groups::commit(connection, "alone", &Member::none(), (ORDERS, partition), offset)? == 0, "a commit");
    }
    broker.kill()
}

/// Goes on where a stage ended, as clients do that know of no restart: the last batch comes once more, and so many
/// others of each partition behind it.
pub fn go_on(address: SocketAddr, stage: Stage, producer: Producer, more: i32) -> Result<()> {
    let connection = &mut Connection::open(address)?;
    wait_until("partitions with leaders", WAIT_LIMIT, || requests::has_leaders(connection, ORDERS, 6))?;
    let next = stage.orders();
    write_orders(connection, producer, 0..ORDERS_PARTITIONS, next - 1..next + more)
}

/// Reads all of it: what a stage left, and `more` batches behind it.
pub fn check(address: SocketAddr, stage: Stage, more: i32) -> Result<()> {
    let connection = &mut Connection::open(address)?;
    wait_until("partitions with leaders", WAIT_LIMIT, || requests::has_leaders(connection, ORDERS, 6))?;
    for partition in 0..ORDERS_PARTITIONS {
        let expected = (0..stage.orders() + more).flat_map(|number| orders(partition, number)).collect();
        check_partition(connection, ORDERS, partition, expected)?;
        for group in ["members", "alone"] {
            let offset = committed(connection, group, partition)?;
            let expected =
                if group == "alone" { stage.committed(partition) } else { Stage::Early.committed(partition) };
            ensure!(offset == expected, "{group} committed {offset} of {partition} instead of {expected}");
        }
    }
    check_partition(connection, "large", 0, (0..2).map(large).collect())?;
    ensure!(committed(connection, "deleted", 0)? == -1, "a deleted group has an offset");
    let (error, _) = requests::list_offset(connection, "gone", 0, -1)?;
    ensure!(error == UNKNOWN_TOPIC, "a deleted topic: error {error}");
    let configs = admin::topic_configs(connection, "configured")?;
    let set = [("cleanup.policy", "delete"), ("retention.ms", "123456000")];
    ensure!(configs == set.map(|(key, value)| (key.to_owned(), value.to_owned())).into(), "{configs:?}");
    if stage == Stage::Late {
        for partition in 0..MANY_PARTITIONS {
            let expected = vec![b"m".to_vec(); usize::try_from(MANY_BATCHES)?];
            check_partition(connection, "many", partition, expected)?;
        }
    }
    Ok(())
}

fn committed(connection: &mut Connection, group: &str, partition: i32) -> Result<i64> {
    let coordinator = groups::coordinator(connection, group)?;
    groups::committed(&mut Connection::open(coordinator)?, group, (ORDERS, partition))
}

fn check_partition(connection: &mut Connection, topic: &str, partition: i32, expected: Vec<Vec<u8>>) -> Result<()> {
    let leader = requests::leaders(connection, topic)?.get(&partition).copied();
    let connection = &mut Connection::open(leader.with_context(|| format!("no leader of {topic}-{partition}"))?)?;
    let (error, end) = requests::list_offset(connection, topic, partition, -1)?;
    ensure!(error == 0 && usize::try_from(end)? == expected.len(), "{topic}-{partition}: error {error}, end {end}");
    let read = requests::read_all(connection, topic, partition, 0)?;
    ensure!(read.len() == expected.len(), "{topic}-{partition}: {} records of {}", read.len(), expected.len());
    for (offset, (record, expected)) in (0..).zip(read.iter().zip(&expected)) {
        ensure!(record.offset == offset && record.value == *expected, "{topic}-{partition} at {offset}");
    }
    Ok(())
}

fn make(connection: &mut Connection, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
    let error = requests::create_topic(connection, topic, partitions, configs)?;
    ensure!(error == 0, "creating {topic}: error {error}");
    let count = usize::try_from(partitions)?;
    wait_until("partitions with leaders", WAIT_LIMIT, || requests::has_leaders(connection, topic, count))
}

fn produce(connection: &mut Connection, topic: &str, partition: i32, batch: &Batch) -> Result<i64> {
    let body = produce_body(topic, partition, -1, 30_000, &batch.build());
    let Produced { error, base_offset, .. } = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
    ensure!(error == 0, "producing to {topic}-{partition}: error {error}");
    Ok(base_offset)
}

/// The first partition's part of an answer to several.
fn produce_answer_of_many(answer: &[u8]) -> Result<Produced> {
    let mut reader = crate::wire::Reader(answer);
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    ensure!(reader.i32()? == MANY_PARTITIONS, "partitions answered");
    reader.i32()?;
    Ok(Produced { error: reader.i16()?, base_offset: reader.i64()?, append_ms: reader.i64()? })
}

/// Every batch twice, as a client sends it that got no answer the first time.
fn write_orders(
    connection: &mut Connection,
    producer: Producer,
    partitions: std::ops::Range<i32>,
    numbers: std::ops::Range<i32>,
) -> Result<()> {
    let records = i32::try_from(BATCH_RECORDS)?;
    for number in numbers {
        for partition in partitions.clone() {
            let batch = Batch::of(orders(partition, number));
            let batch = batch.produced_by(producer.id, producer.epoch, number * records);
            for _ in 0..2 {
                let offset = produce(connection, ORDERS, partition, &batch)?;
                ensure!(offset == i64::from(number * records), "orders-{partition}, {number}: offset {offset}");
            }
        }
    }
    Ok(())
}

fn orders(partition: i32, number: i32) -> Vec<Vec<u8>> {
    (0..BATCH_RECORDS).map(|record| format!("order {partition} {number} {record}").into_bytes()).collect()
}

/// Bytes that repeat, so that an archive of them is small, and differ by place within a part.
fn large(number: usize) -> Vec<u8> {
    (0..LARGE_BYTES).map(|place| u8::try_from((place + number) % 251).unwrap_or(0)).collect()
}
