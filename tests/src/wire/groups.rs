//! Requests of members of classic groups, and what is read from their answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Connection, Reader, Writer};
use crate::process;

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT: i16 = 12;
const SYNC_GROUP: i16 = 14;
/// The coordinator is loading, not known yet, or elsewhere.
const TRY_AGAIN: [i16; 3] = [14, 15, 16];
const SESSION_MS: i32 = 60_000;
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Who commits: nobody in particular, or a member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub generation: i32,
    pub id: String,
}

impl Member {
    /// A consumer that assigns its partitions itself.
    pub fn none() -> Self {
        Self { generation: -1, id: String::new() }
    }
}

/// Where a group is coordinated.
pub fn coordinator(connection: &mut Connection, group: &str) -> Result<SocketAddr> {
    let mut body = Writer::new();
    // Key type 0 is that of groups.
    body.string(group).i8(0);
    let mut address = None;
    process::wait_until("a coordinator", ANSWER_LIMIT, || {
        let answer = connection.call(FIND_COORDINATOR, 1, &body.0)?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        let error = reader.i16()?;
        ensure!(error == 0 || TRY_AGAIN.contains(&error), "the coordinator of {group}: error {error}");
        reader.string()?;
        reader.i32()?;
        let host = reader.string()?.unwrap_or_default();
        let port = reader.i32()?;
        if error == 0 {
            address = Some(SocketAddr::new(host.parse()?, u16::try_from(port)?));
        }
        Ok(error == 0)
    })?;
    address.context("a coordinator")
}

/// Becomes the only member of a group, and its leader, with an assignment of its own making.
pub fn join_alone(connection: &mut Connection, group: &str) -> Result<Member> {
    join_alone_for(connection, group, SESSION_MS)
}

/// The same, to be taken for gone after so long a silence.
pub fn join_alone_for(connection: &mut Connection, group: &str, session_ms: i32) -> Result<Member> {
    let mut body = Writer::new();
    body.string(group).i32(session_ms).i32(SESSION_MS).string("").string("consumer");
    body.i32(1).string("range").bytes(b"subscription");
    let mut member = Member::none();
    process::wait_until("a generation", ANSWER_LIMIT, || {
        let answer = connection.call(JOIN_GROUP, 2, &body.0)?;
        let mut reader = Reader(&answer);
        reader.i32()?;
        let error = reader.i16()?;
        ensure!(error == 0 || TRY_AGAIN.contains(&error), "joining {group}: error {error}");
        member.generation = reader.i32()?;
        reader.string()?;
        reader.string()?;
        member.id = reader.string()?.context("a member's id")?;
        Ok(error == 0)
    })?;
    let mut body = Writer::new();
    body.string(group).i32(member.generation).string(&member.id);
    body.i32(1).string(&member.id).bytes(b"assignment");
    let answer = connection.call(SYNC_GROUP, 1, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    let error = reader.i16()?;
    ensure!(error == 0, "the assignment of {group}: error {error}");
    Ok(member)
}

/// Says that a member is there: error code.
pub fn heartbeat(connection: &mut Connection, group: &str, member: &Member) -> Result<i16> {
    let mut body = Writer::new();
    body.string(group).i32(member.generation).string(&member.id);
    let mut error = 0;
    process::wait_until("a heartbeat", ANSWER_LIMIT, || {
        error = Reader(&connection.call(HEARTBEAT, 0, &body.0)?).i16()?;
        Ok(!TRY_AGAIN.contains(&error))
    })?;
    Ok(error)
}

/// Commits one partition's offset with a text beside it: error code.
pub fn commit(
    connection: &mut Connection,
    group: &str,
    member: &Member,
    (topic, partition): (&str, i32),
    offset: i64,
) -> Result<i16> {
    let mut body = Writer::new();
    body.string(group).i32(member.generation).string(&member.id).i64(-1);
    body.i32(1).string(topic).i32(1).i32(partition).i64(offset).string("beside");
    let mut error = 0;
    process::wait_until("a commit", ANSWER_LIMIT, || {
        let answer = connection.call(OFFSET_COMMIT, 2, &body.0)?;
        let mut reader = Reader(&answer);
        ensure!(reader.i32()? == 1, "topics answered");
        reader.string()?;
        ensure!(reader.i32()? == 1, "partitions answered");
        reader.i32()?;
        error = reader.i16()?;
        Ok(!TRY_AGAIN.contains(&error))
    })?;
    Ok(error)
}

/// One partition's committed offset; -1 for none.
pub fn committed(connection: &mut Connection, group: &str, (topic, partition): (&str, i32)) -> Result<i64> {
    let mut body = Writer::new();
    body.string(group).i32(1).string(topic).i32(1).i32(partition);
    let mut offset = -1;
    process::wait_until("a committed offset", ANSWER_LIMIT, || {
        let answer = connection.call(OFFSET_FETCH, 1, &body.0)?;
        let mut reader = Reader(&answer);
        ensure!(reader.i32()? == 1, "topics answered");
        reader.string()?;
        ensure!(reader.i32()? == 1, "partitions answered");
        reader.i32()?;
        offset = reader.i64()?;
        reader.string()?;
        let error = reader.i16()?;
        ensure!(error == 0 || TRY_AGAIN.contains(&error), "the offset of {group}: error {error}");
        Ok(error == 0)
    })?;
    Ok(offset)
}
