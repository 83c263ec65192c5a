//! The requests that the tests send by hand, and what is read from their answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Connection, Reader, Writer};
use crate::process;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;
pub const DELETE_TOPICS: i16 = 20;
pub const INIT_PRODUCER_ID: i16 = 22;

/// The versions in which those with plain encodings are sent.
pub const PRODUCE_VERSION: i16 = 8;
pub const FETCH_VERSION: i16 = 11;

/// What a Produce request of one partition was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
    /// The time that the records got, where the topic wants the broker's.
    pub append_ms: i64,
}

/// What a Fetch request of one partition was answered.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub records: Vec<u8>,
}

/// The body of a Produce request with one batch for one partition.
pub fn produce_body(topic: &str, partition: i32, acks: i16, timeout_ms: i32, batch: &[u8]) -> Vec<u8> {
    let mut body = Writer::new();
    body.null_string().i16(acks).i32(timeout_ms);
    body.i32(1).string(topic).i32(1).i32(partition).bytes(batch);
    body.0
}

/// The answer to one partition in versions 5 to 8.
pub fn produce_answer(answer: &[u8]) -> Result<Produced> {
    let mut reader = Reader(answer);
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    ensure!(reader.i32()? == 1, "partitions answered");
    reader.i32()?;
    Ok(Produced { error: reader.i16()?, base_offset: reader.i64()?, append_ms: reader.i64()? })
}

pub fn fetch_body(topic: &str, partition: i32, offset: i64, max_wait_ms: i32, max_bytes: i32) -> Vec<u8> {
    let mut body = Writer::new();
    // No replica, at least one byte, read uncommitted, no session.
    body.i32(-1).i32(max_wait_ms).i32(1).i32(max_bytes).i8(0).i32(0).i32(-1);
    body.i32(1).string(topic).i32(1).i32(partition).i32(-1).i64(offset).i64(-1).i32(max_bytes);
    // Nothing forgotten, no rack.
    body.i32(0).string("");
    body.0
}

pub fn fetch_answer(answer: &[u8]) -> Result<Fetched> {
    let mut reader = Reader(answer);
    reader.i32()?;
    let error = reader.i16()?;
    reader.i32()?;
    if error != 0 || reader.count()? == 0 {
        return Ok(Fetched { error, high_watermark: -1, records: Vec::new() });
    }
    reader.string()?;
    ensure!(reader.i32()? == 1, "partitions answered");
    reader.i32()?;
    let error = reader.i16()?;
    let high_watermark = reader.i64()?;
    reader.i64()?;
    reader.i64()?;
    for _ in 0..reader.count()? {
        reader.take(16)?;
    }
    reader.i32()?;
    Ok(Fetched { error, high_watermark, records: reader.bytes()?.to_vec() })
}

/// A topic with one replica; `configs` are as in Kafka.
pub fn create_topic(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<i16> {
    create_topic_replicated(connection, topic, partitions, 1, configs)
}

/// The same with a number of copies, -1 for as many as the cluster makes.
pub fn create_topic_replicated(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    copies: i16,
    configs: &[(&str, &str)],
) -> Result<i16> {
    let mut body = Writer::new();
    body.i32(1).string(topic).i32(partitions).i16(copies).i32(0).count(configs.len());
    for (key, value) in configs {
        body.string(key).string(value);
    }
    body.i32(30_000).i8(0);
    let answer = connection.call(CREATE_TOPICS, 2, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    reader.i16()
}

pub fn delete_topic(connection: &mut Connection, topic: &str) -> Result<i16> {
    let mut body = Writer::new();
    body.i32(1).string(topic).i32(30_000);
    let answer = connection.call(DELETE_TOPICS, 2, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    reader.i16()
}

/// A producer id of its own and its epoch.
pub fn init_producer_id(connection: &mut Connection) -> Result<(i64, i16)> {
    let mut body = Writer::new();
    body.null_string().i32(60_000);
    let mut granted = (-1, -1);
    process::wait_until("a producer id", Duration::from_secs(20), || {
        let answer = connection.call(INIT_PRODUCER_ID, 0, &body.0)?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        let error = reader.i16()?;
        // Just started: the coordinator is loading or not known yet.
        ensure!([0, 14, 15, 16].contains(&error), "InitProducerId was answered with error {error}");
        granted = (reader.i64()?, reader.i16()?);
        Ok(error == 0)
    })?;
    Ok(granted)
}

/// The answer to one timestamp, -1 latest or -2 earliest: error code and offset.
pub fn list_offset(connection: &mut Connection, topic: &str, partition: i32, timestamp: i64) -> Result<(i16, i64)> {
    let mut body = Writer::new();
    body.i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp);
    let answer = connection.call(LIST_OFFSETS, 1, &body.0)?;
    let mut reader = Reader(&answer);
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    ensure!(reader.i32()? == 1, "partitions answered");
    reader.i32()?;
    let error = reader.i16()?;
    reader.i64()?;
    Ok((error, reader.i64()?))
}

/// Brokers as (id, host, port) from Metadata of no topic.
pub fn brokers(connection: &mut Connection) -> Result<Vec<(i32, String, i32)>> {
    let mut body = Writer::new();
    body.i32(0);
    let answer = connection.call(METADATA, 1, &body.0)?;
    let mut reader = Reader(&answer);
    let mut brokers = Vec::new();
    for _ in 0..reader.count()? {
        let id = reader.i32()?;
        let host = reader.string()?.context("a broker's host")?;
        let port = reader.i32()?;
        reader.string()?;
        brokers.push((id, host, port));
    }
    Ok(brokers)
}

/// Where each partition of a topic is led, for those that are.
pub fn leaders(connection: &mut Connection, topic: &str) -> Result<BTreeMap<i32, SocketAddr>> {
    let brokers = brokers(connection)?;
    let mut body = Writer::new();
    body.i32(1).string(topic);
    let answer = connection.call(METADATA, 1, &body.0)?;
    let mut reader = Reader(&answer);
    for _ in 0..reader.count()? {
        reader.i32()?;
        reader.string()?;
        reader.i32()?;
        reader.string()?;
    }
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    reader.i16()?;
    reader.string()?;
    reader.i8()?;
    let mut leaders = BTreeMap::new();
    for _ in 0..reader.count()? {
        let error = reader.i16()?;
        let partition = reader.i32()?;
        let leader = reader.i32()?;
        for _ in 0..2 {
            for _ in 0..reader.count()? {
                reader.i32()?;
            }
        }
        let found = brokers.iter().find(|(id, _, _)| *id == leader).filter(|_| error == 0);
        if let Some((_, host, port)) = found {
            leaders.insert(partition, SocketAddr::new(host.parse()?, u16::try_from(*port)?));
        }
    }
    Ok(leaders)
}

/// Whether every partition of a topic has a leader.
pub fn has_leaders(connection: &mut Connection, topic: &str, partitions: usize) -> Result<bool> {
    let mut body = Writer::new();
    body.i32(1).string(topic);
    let answer = connection.call(METADATA, 1, &body.0)?;
    let mut reader = Reader(&answer);
    for _ in 0..reader.count()? {
        reader.i32()?;
        reader.string()?;
        reader.i32()?;
        reader.string()?;
    }
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    let error = reader.i16()?;
    reader.string()?;
    reader.i8()?;
    let mut leaders = 0;
    for _ in 0..reader.count()? {
        let error = reader.i16()?;
        reader.i32()?;
        let leader = reader.i32()?;
        leaders += usize::from(error == 0 && leader >= 0);
        for _ in 0..2 {
            for _ in 0..reader.count()? {
                reader.i32()?;
            }
        }
    }
    Ok(error == 0 && leaders == partitions)
}

/// Reads a partition from `offset` to its high watermark.
pub fn read_all(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    mut offset: i64,
) -> Result<Vec<super::ReadRecord>> {
    let mut all = Vec::new();
    loop {
        let body = fetch_body(topic, partition, offset, 0, 8 << 20);
        let fetched = fetch_answer(&connection.call(FETCH, FETCH_VERSION, &body)?)?;
        ensure!(fetched.error == 0, "Fetch of {topic}-{partition} at {offset}: error {}", fetched.error);
        let records = super::batch::read(&fetched.records)?;
        // A batch comes whole, so that it may begin before what was asked for.
        all.extend(records.into_iter().filter(|record| record.offset >= offset));
        offset = all.last().map_or(offset, |record: &super::ReadRecord| record.offset + 1);
        if offset >= fetched.high_watermark {
            return Ok(all);
        }
        ensure!(!fetched.records.is_empty(), "nothing at {offset} below {}", fetched.high_watermark);
    }
}
