//! Reads partitions to their end as fast as they come; of the batches only the headers are looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tests::wire::requests::{self, FETCH, FETCH_VERSION};
use tests::wire::{Connection, Reader, Writer, connection};

use super::engine::Poll;
use super::request::resolve;
use super::socket::Socket;
use crate::measure::own_cpu_seconds;

const SILENCE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug)]
pub(crate) struct FetchLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 16)]
    pub(crate) partitions: i32,
    /// Connections, each with its share of the partitions and one request in flight.
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[arg(long, default_value_t = 8 << 20)]
    pub(crate) max_bytes: i32,
    #[arg(long, default_value_t = 1 << 20)]
    pub(crate) partition_max_bytes: i32,
    /// How often everything is read, from the beginning each time.
    #[arg(long, default_value_t = 1)]
    pub(crate) times: u32,
}

#[derive(Debug)]
struct Position {
    partition: i32,
    begin: i64,
    next: i64,
    end: i64,
    /// How often it is still to be read from the beginning.
    again: u32,
}

#[derive(Debug)]
struct Reading {
    socket: Socket,
    positions: Vec<Position>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Read {
    bytes: u64,
    records: u64,
    requests: u64,
}

impl FetchLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        let address = resolve(&self.servers)?;
        let threads: Vec<_> = (0..self.threads.min(self.connections))
            .map(|thread| {
                let load = self.clone();
                thread::spawn(move || load.run_thread(address, thread))
            })
            .collect();
        let mut read = Read::default();
        let mut started = Instant::now();
        for thread in threads {
            let (part, first) = thread.join().map_err(|_panic| anyhow!("a thread panicked"))??;
            started = started.min(first);
            read.bytes += part.bytes;
            read.records += part.records;
            read.requests += part.requests;
        }
        let seconds = started.elapsed().as_secs_f64();
        let megabytes = read.bytes as f64 / 1e6;
        Ok(json!({
            "records": read.records, "requests": read.requests, "megabytes": megabytes, "seconds": seconds,
            "megabytes_per_s": megabytes / seconds, "client_cpu_s": own_cpu_seconds()?,
        }))
    }

    /// What was read, and when the first request left: finding the offsets is not reading.
    fn run_thread(&self, address: SocketAddr, thread: usize) -> Result<(Read, Instant)> {
        let mut poll = Poll::new()?;
        let mut all = Vec::new();
        for number in (thread..self.connections).step_by(self.threads) {
            let positions = self.positions(address, number)?;
            if positions.is_empty() {
                continue;
            }
            let socket = Socket::connect(address)?;
            poll.add(all.len(), &socket)?;
            all.push(Reading { socket, positions });
        }
        let mut read = Read::default();
        let mut open = all.len();
        let started = Instant::now();
        for reading in &mut all {
            reading.ask(self)?;
        }
        let mut heard = Instant::now();
        while open > 0 {
            for ready in poll.wait(Duration::from_secs(1))? {
                let reading = &mut all[ready.index];
                reading.socket.flush()?;
                let mut answered = false;
                let positions = &mut reading.positions;
                reading.socket.receive(|answer| {
                    answered = true;
                    take(answer, positions, &mut read)
                })?;
                if answered {
                    heard = Instant::now();
                    reading.positions.retain_mut(Position::goes_on);
                    if reading.positions.is_empty() {
                        open -= 1;
                    } else {
                        reading.ask(self)?;
                    }
                }
            }
            if heard.elapsed() > SILENCE_LIMIT {
                bail!("no answer for {SILENCE_LIMIT:?}");
            }
        }
        Ok((read, started))
    }

    /// Where this connection's partitions begin and end now.
    fn positions(&self, address: SocketAddr, number: usize) -> Result<Vec<Position>> {
        let mut connection = Connection::open(address)?;
        let mut positions = Vec::new();
        let partitions = usize::try_from(self.partitions)?;
        for partition in (number..partitions).step_by(self.connections) {
            let partition = i32::try_from(partition)?;
            let (error, next) = requests::list_offset(&mut connection, &self.topic, partition, -2)?;
            let (_, end) = requests::list_offset(&mut connection, &self.topic, partition, -1)?;
            ensure!(error == 0, "{}-{partition}: error {error}", self.topic);
            if next < end {
                positions.push(Position { partition, begin: next, next, end, again: self.times.saturating_sub(1) });
            }
        }
        Ok(positions)
    }
}

impl Position {
    /// Whether something is left to read, from the beginning again if so much is asked.
    fn goes_on(&mut self) -> bool {
        if self.next >= self.end && self.again > 0 {
            self.again -= 1;
            self.next = self.begin;
        }
        self.next < self.end
    }
}

impl Reading {
    fn ask(&mut self, load: &FetchLoad) -> Result<()> {
        let mut body = Writer::new();
        body.i32(-1).i32(500).i32(1).i32(load.max_bytes).i8(0).i32(0).i32(-1);
        body.i32(1).string(&load.topic).count(self.positions.len());
        for position in &self.positions {
            body.i32(position.partition).i32(-1).i64(position.next).i64(-1).i32(load.partition_max_bytes);
        }
        body.i32(0).string("");
        // Those that came last are asked for first the next time, so that none is left behind.
        self.positions.rotate_left(1);
        self.socket.send(Arc::from(connection::frame(FETCH, FETCH_VERSION, 1, &body.0)))
    }
}

/// Moves the positions past every whole batch of an answer.
fn take(answer: &[u8], positions: &mut [Position], read: &mut Read) -> Result<()> {
    read.requests += 1;
    let mut reader = Reader(answer);
    reader.take(8)?;
    let error = reader.i16()?;
    ensure!(error == 0, "Fetch was answered with error {error}");
    reader.take(4)?;
    for _ in 0..reader.count()? {
        reader.string()?;
        for _ in 0..reader.count()? {
            let partition = reader.i32()?;
            let error = reader.i16()?;
            ensure!(error == 0, "partition {partition}: error {error}");
            reader.take(24)?;
            let aborted = reader.count()?;
            reader.take(16 * aborted + 4)?;
            let records = reader.bytes()?;
            let position = positions
                .iter_mut()
                .find(|position| position.partition == partition)
                .context("a partition not asked for")?;
            read.bytes += records.len() as u64;
            let mut rest = records;
            while rest.len() >= 61 {
                let mut header = Reader(rest);
                let base = header.i64()?;
                let length = 12 + header.count()?;
                if rest.len() < length {
                    break;
                }
                let last_delta = i64::from(Reader(&rest[23..]).i32()?);
                position.next = base + last_delta + 1;
                read.records += u64::try_from(last_delta + 1)?;
                rest = &rest[length..];
            }
        }
    }
    Ok(())
}
