//! Requests of administrators, and what is read from their answers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::{Connection, Reader, Writer};

const DESCRIBE_CONFIGS: i16 = 32;
const CREATE_PARTITIONS: i16 = 37;
const DELETE_GROUPS: i16 = 42;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
/// The resource type of topics.
const TOPIC: i8 = 2;
/// The source of a value that was set on the topic.
const SET_ON_TOPIC: i8 = 1;

/// Asks for partitions to be at these brokers: an error code for each, or one for all.
pub fn reassign(connection: &mut Connection, topic: &str, partitions: &[i32], replicas: &[i32]) -> Result<Vec<i16>> {
    let mut body = Writer::new();
    // The header of flexible versions has tags at its end.
    body.i8(0).i32(30_000);
    compact(&mut body, 1)?;
    compact(&mut body, topic.len())?;
    body.raw(topic.as_bytes());
    compact(&mut body, partitions.len())?;
    for partition in partitions {
        body.i32(*partition);
        compact(&mut body, replicas.len())?;
        for replica in replicas {
            body.i32(*replica);
        }
        body.i8(0);
    }
    body.i8(0).i8(0);
    let answer = connection.call(ALTER_PARTITION_REASSIGNMENTS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i8()?;
    reader.i32()?;
    let error = reader.i16()?;
    skip_compact(&mut reader)?;
    if error != 0 {
        return Ok(vec![error]);
    }
    ensure!(reader.i8()? == 2, "topics answered");
    skip_compact(&mut reader)?;
    let mut errors = Vec::new();
    for _ in 1..reader.i8()? {
        reader.i32()?;
        errors.push(reader.i16()?);
        skip_compact(&mut reader)?;
        reader.i8()?;
    }
    Ok(errors)
}

/// A length of the flexible versions, as far as one byte has it.
fn compact(body: &mut Writer, length: usize) -> Result<()> {
    let length = i8::try_from(length + 1).context("a length of more than a byte")?;
    body.i8(length);
    Ok(())
}

/// A text of the flexible versions, or none.
fn skip_compact(reader: &mut Reader<'_>) -> Result<()> {
    let mut length = 0;
    for shift in (0..28).step_by(7) {
        let byte = reader.take(1)?[0];
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return reader.take(length.saturating_sub(1)).map(drop);
        }
    }
    bail!("a length of more than four bytes")
}

/// Sets one key of a topic: error code.
pub fn set_topic_config(connection: &mut Connection, topic: &str, key: &str, value: &str) -> Result<i16> {
    let mut body = Writer::new();
    // One resource with one key, operation 0 sets it; not only to be validated.
    body.i32(1).i8(TOPIC).string(topic).i32(1).string(key).i8(0).string(value).i8(0);
    let answer = connection.call(INCREMENTAL_ALTER_CONFIGS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "resources answered");
    reader.i16()
}

/// The keys that were set on a topic.
pub fn topic_configs(connection: &mut Connection, topic: &str) -> Result<BTreeMap<String, String>> {
    let mut body = Writer::new();
    // All keys, without synonyms.
    body.i32(1).i8(TOPIC).string(topic).i32(-1).i8(0);
    let answer = connection.call(DESCRIBE_CONFIGS, 1, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "resources answered");
    let error = reader.i16()?;
    ensure!(error == 0, "describing {topic}: error {error}");
    reader.string()?;
    reader.i8()?;
    reader.string()?;
    let mut set = BTreeMap::new();
    for _ in 0..reader.count()? {
        let name = reader.string()?.context("a key's name")?;
        let value = reader.string()?;
        reader.i8()?;
        let source = reader.i8()?;
        reader.i8()?;
        for _ in 0..reader.count()? {
            reader.string()?;
            reader.string()?;
            reader.i8()?;
        }
        if source == SET_ON_TOPIC {
            set.insert(name, value.unwrap_or_default());
        }
    }
    Ok(set)
}

/// Gives a topic so many partitions in all: error code.
pub fn create_partitions(connection: &mut Connection, topic: &str, total: i32) -> Result<i16> {
    let mut body = Writer::new();
    body.i32(1).string(topic).i32(total).i32(-1).i32(30_000).i8(0);
    let answer = connection.call(CREATE_PARTITIONS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    reader.i16()
}

/// Deletes a group without members: error code.
pub fn delete_group(connection: &mut Connection, group: &str) -> Result<i16> {
    let mut body = Writer::new();
    body.i32(1).string(group);
    let answer = connection.call(DELETE_GROUPS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "groups answered");
    reader.string()?;
    reader.i16()
}
