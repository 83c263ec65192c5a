//! Requests that change topics or ask where records are, with all that their answers say.

use anyhow::{Context as _, Result, ensure};

use super::{Connection, Reader, Writer};

const LIST_OFFSETS: i16 = 2;
const DELETE_RECORDS: i16 = 21;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
/// The first version that finds the record with the largest timestamp.
const LIST_OFFSETS_VERSION: i16 = 7;
/// The resource type of topics.
const TOPIC: i8 = 2;

/// One key of an alteration: 0 sets it, 1 deletes it, 2 appends to it, 3 takes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub key: String,
    pub kind: i8,
    pub value: Option<String>,
}

/// Changes keys of a topic, or only asks whether they could be: error code.
pub fn alter(connection: &mut Connection, topic: &str, operations: &[Operation], is_asked: bool) -> Result<i16> {
    let mut body = Writer::new();
    body.i32(1).i8(TOPIC).string(topic).count(operations.len());
    for Operation { key, kind, value } in operations {
        body.string(key).i8(*kind);
        match value {
            Some(value) => body.string(value),
            None => body.null_string(),
        };
    }
    body.i8(i8::from(is_asked));
    let answer = connection.call(INCREMENTAL_ALTER_CONFIGS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "resources answered");
    reader.i16()
}

/// Deletes what lies before an offset of a partition, -1 for all: error code and low watermark.
pub fn delete_records(connection: &mut Connection, topic: &str, partition: i32, offset: i64) -> Result<(i16, i64)> {
    let mut body = Writer::new();
    body.i32(1).string(topic).i32(1).i32(partition).i64(offset).i32(30_000);
    let answer = connection.call(DELETE_RECORDS, 0, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    ensure!(reader.i32()? == 1, "topics answered");
    reader.string()?;
    ensure!(reader.i32()? == 1, "partitions answered");
    reader.i32()?;
    let low_watermark = reader.i64()?;
    Ok((reader.i16()?, low_watermark))
}

/// Where a partition has a time, -1 its end, -2 its beginning, -3 its largest timestamp: error code, timestamp and offset.
pub fn find_offset(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<(i16, i64, i64)> {
    let mut body = Writer::new();
    // The header of flexible versions has tags at its end; then no replica, what is not committed too, one topic.
    body.i8(0).i32(-1).i8(0).i8(2);
    body.i8(i8::try_from(topic.len() + 1).context("a short name")?).raw(topic.as_bytes());
    body.i8(2).i32(partition).i32(-1).i64(timestamp).i8(0).i8(0).i8(0);
    let answer = connection.call(LIST_OFFSETS, LIST_OFFSETS_VERSION, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i8()?;
    reader.i32()?;
    ensure!(reader.i8()? == 2, "topics answered");
    reader.take(topic.len() + 1)?;
    ensure!(reader.i8()? == 2, "partitions answered");
    reader.i32()?;
    Ok((reader.i16()?, reader.i64()?, reader.i64()?))
}
