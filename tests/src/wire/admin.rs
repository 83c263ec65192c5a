//! Requests of administrators, and what is read from their answers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{Connection, Reader, Writer};

const DESCRIBE_CONFIGS: i16 = 32;
const CREATE_PARTITIONS: i16 = 37;
const DELETE_GROUPS: i16 = 42;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
/// The resource type of topics.
const TOPIC: i8 = 2;
/// The source of a value that was set on the topic.
const SET_ON_TOPIC: i8 = 1;

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
