//! Very many topics of one partition.

use std::time::Instant;

use anyhow::{Result, ensure};
use tests::wire::requests::CREATE_TOPICS;
use tests::wire::{Connection, Reader, Writer, requests};

use crate::measure::Usage;
use crate::peers::{Plan, Run, Side};
use crate::report::{Bar, Line};

/// Topics of one request.
const BATCH: u32 = 500;

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let topics = plan.pick(100_000_u32, 2000);
    let mut run = Run::start(plan, Side::Ours)?;
    let mut connection = Connection::open(run.broker.address())?;
    connection.set_limit(std::time::Duration::from_secs(120))?;
    let started = Instant::now();
    for first in (0..topics).step_by(BATCH as usize) {
        create(&mut connection, first, (first + BATCH).min(topics))?;
    }
    let created = started.elapsed().as_secs_f64();
    let memory = Usage::memory(run.pid()?)? as f64 / 1e6;
    run.broker.kill()?;
    run.broker.restart()?;
    let restarted = run.broker.started_in().as_secs_f64();
    let mut connection = Connection::open(run.broker.address())?;
    for topic in [0, topics / 2, topics - 1] {
        let (error, offset) = requests::list_offset(&mut connection, &name(topic), 0, -1)?;
        ensure!((error, offset) == (0, 0), "{} after the restart: error {error}", name(topic));
    }
    let after = Usage::memory(run.pid()?)? as f64 / 1e6;
    Ok(vec![
        Line::new(format!("{topics} topics created"), "s", created).bar(Bar::AtMost(60.0)),
        Line::new(format!("{topics} topics: memory"), "MB", memory.max(after)).bar(Bar::AtMost(300.0)),
        Line::new(format!("{topics} topics: restart after kill -9"), "s", restarted).bar(Bar::AtMost(5.0)),
    ])
}

fn name(number: u32) -> String {
    format!("many-{number:06}")
}

fn create(connection: &mut Connection, from: u32, to: u32) -> Result<()> {
    let mut body = Writer::new();
    body.i32(i32::try_from(to - from)?);
    for number in from..to {
        body.string(&name(number)).i32(1).i16(1).i32(0).i32(0);
    }
    body.i32(60_000).i8(0);
    let answer = connection.call(CREATE_TOPICS, 2, &body.0)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    for _ in 0..reader.count()? {
        let topic = reader.string()?.unwrap_or_default();
        let error = reader.i16()?;
        let message = reader.string()?.unwrap_or_default();
        ensure!(error == 0, "creating {topic}: error {error} {message}");
    }
    Ok(())
}
