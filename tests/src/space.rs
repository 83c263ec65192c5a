//! A node whose topics keep little of what is written into them: its directory stays under a bound, and what is left is what
//! should be.
//!
//! Topics with `retention.bytes`, a compacted one, and one that is deleted and created anew over and over share a log. Every
//! record follows from a seed, its stream and its offset, so that whoever reads it knows whether it is right.

mod disk;
mod plan;
mod stream;

pub use disk::{Sampler, taken};
pub use plan::{MIB, Plan};

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stream::{Kind, Stream};

use crate::broker::{Broker, Peer, Settings};
use crate::process;
use crate::wire::requests::{PRODUCE, PRODUCE_VERSION, list_offset, produce_answer, produce_body};
use crate::wire::{Connection, requests};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const CHECKS: u64 = 6;
/// Of these a `kill -9` comes first.
const CHECKS_AFTER_KILL: [u64; 2] = [2, 4];
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub written: u64,
    pub bound: u64,
    /// The most that the directory had at a time, of so many looks.
    pub greatest: u64,
    pub looks: u64,
    /// When all was settled.
    pub at_end: u64,
    pub read: u64,
    pub incarnations: u64,
}

/// The broker, those who write, and what they wrote.
#[derive(Debug)]
struct Run {
    plan: Plan,
    broker: Broker,
    connection: Connection,
    streams: Vec<Stream>,
    sampler: Sampler,
    written: u64,
    read: u64,
    started: Instant,
}

/// Writes all of a plan, looks again and again, and fails where anything is not as it should be.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut settings = Settings::of(Peer::Rosettamq);
    settings.segment_bytes = Some(plan.segment_bytes);
    settings.data_dir.clone_from(&plan.home);
    settings.properties = plan.properties();
    let broker = settings.start()?;
    let sampler = Sampler::start(broker.data());
    let mut connection = Connection::open(broker.address())?;
    let streams = stream::of(plan);
    for stream in streams.iter().filter(|stream| stream.partition == 0) {
        create(&mut connection, plan, stream)?;
    }
    let (plan, started) = (plan.clone(), Instant::now());
    let mut run = Run { plan, broker, connection, streams, sampler, written: 0, read: 0, started };
    let ran = run.all();
    let ((greatest, _), bound) = (run.sampler.seen(), run.plan.bound());
    let sizes = format!("the directory had {} MiB at most, {} are allowed", greatest / MIB, bound / MIB);
    ran.map_err(|error| error.context(run.broker.log_tail()).context(sizes))
}

fn create(connection: &mut Connection, plan: &Plan, stream: &Stream) -> Result<()> {
    let configs = stream.kind.configs(plan);
    let configs: Vec<(&str, &str)> = configs.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let partitions = stream.kind.partitions();
    let error = requests::create_topic(connection, &stream.topic, partitions, &configs)?;
    ensure!(error == 0, "creating {}: error {error}", stream.topic);
    wait_led(connection, stream)
}

fn wait_led(connection: &mut Connection, stream: &Stream) -> Result<()> {
    let partitions = usize::try_from(stream.kind.partitions())?;
    process::wait_until("leaders", SETTLE_LIMIT, || requests::has_leaders(connection, &stream.topic, partitions))
}

impl Run {
    fn all(&mut self) -> Result<Report> {
        for check in 1..=CHECKS {
            self.write(self.plan.total * check / CHECKS)?;
            if CHECKS_AFTER_KILL.contains(&check) {
                self.kill()?;
            }
            self.check()?;
        }
        self.check_settled()?;
        let (greatest, looks) = self.sampler.seen();
        self.check_bound()?;
        self.broker.assert_healthy()?;
        let incarnations = self.streams.iter().map(|stream| stream.incarnation).max().unwrap_or(0) + 1;
        let (written, bound, read, at_end) = (self.written, self.plan.bound(), self.read, taken(&self.broker.data()));
        Ok(Report { written, bound, greatest, looks, at_end, read, incarnations })
    }

    /// Writes until that is `total` bytes in all, no faster than the plan says.
    fn write(&mut self, total: u64) -> Result<()> {
        // Each stream comes as often as its share of all is.
        let turns: Vec<usize> = (0..self.streams.len())
            .flat_map(|place| std::iter::repeat_n(place, self.streams[place].kind.share()))
            .collect();
        let mut turn = 0;
        while self.written < total {
            let place = turns[turn % turns.len()];
            turn += 1;
            self.renew_if_full(place)?;
            let stream = &self.streams[place];
            let (batch, count) = (stream.batch(&self.plan)?, self.plan.batch_records);
            let body = produce_body(&stream.topic, stream.partition, -1, 30_000, &batch);
            let answer = produce_answer(&self.connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
            let (name, next) = (&stream.topic, stream.next);
            ensure!((answer.error, answer.base_offset) == (0, next), "{answer:?} to {name} at {next}");
            self.streams[place].wrote(&self.plan, count);
            self.written += batch.len() as u64;
            self.check_bound()?;
            let due = Duration::from_secs_f64(precise(self.written) / precise(self.plan.bytes_per_second));
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        Ok(())
    }

    fn check_bound(&self) -> Result<()> {
        let ((greatest, _), bound) = (self.sampler.seen(), self.plan.bound());
        let told =
            || format!("{} MiB taken, {} allowed\n{}", greatest / MIB, bound / MIB, self.sampler.where_greatest());
        ensure!(greatest <= bound, "{}", told());
        Ok(())
    }

    /// Deletes a topic that has had enough, when all of it was read, and creates it anew.
    fn renew_if_full(&mut self, place: usize) -> Result<()> {
        let stream = &self.streams[place];
        if stream.kind != Kind::Renewed || stream.next < self.plan.renewed_records {
            return Ok(());
        }
        self.read_whole(place)?;
        let stream = &mut self.streams[place];
        let error = requests::delete_topic(&mut self.connection, &stream.topic)?;
        ensure!(error == 0, "deleting {}: error {error}", stream.topic);
        stream.renew();
        create(&mut self.connection, &self.plan, &self.streams[place])?;
        let (first, next) = self.bounds(place)?;
        ensure!((first, next) == (0, 0), "a topic that was created anew has offsets {first} to {next}");
        Ok(())
    }

    fn bounds(&mut self, place: usize) -> Result<(i64, i64)> {
        let (topic, partition) = (&self.streams[place].topic, self.streams[place].partition);
        let mut bound = |which| -> Result<i64> {
            let (error, offset) = list_offset(&mut self.connection, topic, partition, which)?;
            ensure!(error == 0, "ListOffsets of {topic}: error {error}");
            Ok(offset)
        };
        Ok((bound(EARLIEST)?, bound(LATEST)?))
    }

    /// `kill -9` while a batch of each stream is under way: it is there whole or not at all.
    fn kill(&mut self) -> Result<()> {
        let mut connections = Vec::new();
        for stream in &self.streams {
            let mut connection = Connection::open(self.broker.address())?;
            let body = produce_body(&stream.topic, stream.partition, -1, 30_000, &stream.batch(&self.plan)?);
            connection.send(PRODUCE, PRODUCE_VERSION, &body)?;
            connections.push(connection);
        }
        self.broker.kill()?;
        drop(connections);
        self.broker.restart()?;
        self.connection = Connection::open(self.broker.address())?;
        for place in 0..self.streams.len() {
            wait_led(&mut self.connection, &self.streams[place])?;
            let (_, next) = self.bounds(place)?;
            let (stream, count) = (&mut self.streams[place], self.plan.batch_records);
            if next == stream.next + i64::from(count) {
                stream.wrote(&self.plan, count);
            }
            let (name, known) = (&stream.topic, stream.next);
            ensure!(next == known, "{name} ends at {next} after a kill, not at {known}");
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for place in 0..self.streams.len() {
            self.read_whole(place)?;
        }
        self.check_bound()
    }

    /// Reads all that there is of a stream; what goes from its front meanwhile is not missed.
    fn read_whole(&mut self, place: usize) -> Result<()> {
        let (mut first, next) = self.bounds(place)?;
        loop {
            let stream = &mut self.streams[place];
            let name = format!("{}-{}", stream.topic, stream.partition);
            ensure!(next == stream.next, "{name} ends at {next}, not at {}", stream.next);
            let mut reading = stream.read_from(first)?;
            let read = reading.through(&mut self.connection, &self.plan);
            if let Some(count) = read.with_context(|| format!("reading {name} from {first} to {next}"))? {
                self.read += count;
                return Ok(());
            }
            // What was asked for has gone.
            let (later, _) = self.bounds(place)?;
            ensure!(later > first, "{name} has nothing at its first offset {first}");
            first = later;
        }
    }

    /// With time to clean up: kept is what is to be kept, and not much more.
    fn check_settled(&mut self) -> Result<()> {
        for place in 0..self.streams.len() {
            if self.streams[place].kind != Kind::Kept {
                continue;
            }
            let most = self.plan.kept_records_max();
            let mut kept = 0;
            process::wait_until("retention", SETTLE_LIMIT, || {
                let (first, next) = self.bounds(place)?;
                kept = next - first;
                Ok(kept <= most)
            })?;
            ensure!(kept >= self.plan.kept_records(), "only {kept} records are kept");
        }
        self.check()
    }
}

impl Report {
    pub fn print(&self) -> Result<()> {
        let Self { written, bound, greatest, looks, at_end, read, incarnations } = *self;
        let [written, bound, greatest, at_end] = [written, bound, greatest, at_end].map(|bytes| bytes / MIB);
        writeln!(
            std::io::stderr(),
            "{written} MiB written, {read} records read and right, a topic created {incarnations} times; the directory: {bound} MiB \
             allowed, {greatest} MiB at most in {looks} looks, {at_end} MiB at the end"
        )?;
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}
