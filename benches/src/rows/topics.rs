//! Very many topics of one partition.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::wire::requests::CREATE_TOPICS;
use tests::wire::{Connection, Reader, Writer, requests};

use crate::measure::Usage;
use crate::peers::{Plan, Run, Side};
use crate::report::{Bar, Line};

/// Topics of one request.
const BATCH: u32 = 500;
/// A broker that does not lead its topics by then has lost them.
const LEADS_WITHIN: Duration = Duration::from_secs(120);

/// Kafka is given a tenth: each of its topics is a folder with files.
const KAFKA_PART: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Measured {
    created_s: f64,
    memory_mb: f64,
    restarted_s: f64,
}

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let topics = plan.pick(100_000_u32, 2000);
    let ours = measure(plan, Side::Ours, topics)?;
    let kafka = measure(plan, Side::Kafka, topics / KAFKA_PART)?;
    let line = |what: &str, unit, field: fn(&Measured) -> f64, bar| {
        Line::new(format!("{topics} topics: {what}"), unit, field(&ours))
            .beside(field(&kafka))
            .bar(Bar::OwnAtMost(bar))
            .note(format!("Kafka with {}", topics / KAFKA_PART))
    };
    Ok(vec![
        line("created", "s", |side| side.created_s, 60.0),
        line("memory", "MB", |side| side.memory_mb, 300.0),
        line("restart after kill -9", "s", |side| side.restarted_s, 5.0),
    ])
}

fn measure(plan: &Plan, side: Side, topics: u32) -> Result<Measured> {
    let mut run = Run::start(plan, side)?;
    let mut connection = Connection::open(run.broker.address())?;
    connection.set_limit(Duration::from_secs(120))?;
    let started = Instant::now();
    for first in (0..topics).step_by(BATCH as usize) {
        create(&mut connection, first, (first + BATCH).min(topics))?;
    }
    let created_s = started.elapsed().as_secs_f64();
    let before = Usage::memory(run.pid()?)?;
    run.broker.kill()?;
    run.broker.restart()?;
    let mut restarted_s = run.broker.started_in().as_secs_f64();
    let began = Instant::now();
    let mut connection = Connection::open(run.broker.address())?;
    for topic in [0, topics / 2, topics - 1] {
        // Kafka answers before it leads what it has.
        let (error, offset) = loop {
            let answer = requests::list_offset(&mut connection, &name(topic), 0, -1)?;
            if answer.0 == 0 || began.elapsed() > LEADS_WITHIN {
                break answer;
            }
            thread::sleep(Duration::from_millis(20));
        };
        ensure!((error, offset) == (0, 0), "{} after the restart: error {error}", name(topic));
    }
    restarted_s += began.elapsed().as_secs_f64();
    let memory_mb = before.max(Usage::memory(run.pid()?)?) as f64 / 1e6;
    Ok(Measured { created_s, memory_mb, restarted_s })
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
