//! Connections that cost without doing anything.

use std::io::{Read, Write, stdin, stdout};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use tests::wire::requests::API_VERSIONS;
use tests::wire::{Connection, Writer};

use super::request::resolve;
use crate::measure::allow_open_files;

#[derive(Args, Clone, Debug)]
pub(crate) struct IdleLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: u64,
}

impl IdleLoad {
    /// Every connection has asked for the versions, as a client does, and then is silent.
    pub(crate) fn run(&self) -> Result<Value> {
        allow_open_files(self.connections + 100)?;
        let address = resolve(&self.servers)?;
        let started = Instant::now();
        let mut held = Vec::new();
        for number in 0..self.connections {
            let mut connection = Connection::open(address).with_context(|| format!("connection {number}"))?;
            connection.call(API_VERSIONS, 0, &[])?;
            held.push(connection);
        }
        say_ready(started)?;
        wait_for_end()?;
        Ok(json!({ "connections": held.len() }))
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StoppedLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 1000)]
    pub(crate) connections: u64,
    /// The length that each request promises.
    #[arg(long, default_value_t = 100 << 20)]
    pub(crate) request_bytes: i32,
    /// What each sends of it at most; one that is not read stops earlier.
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) sent_bytes: usize,
}

impl StoppedLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        allow_open_files(self.connections + 100)?;
        let address = resolve(&self.servers)?;
        let started = Instant::now();
        let mut start = Writer::new();
        start.i32(self.request_bytes).i16(0).i16(8).i32(1).string("stopped").null_string();
        start.i16(-1).i32(30_000).i32(1).string(&self.topic).i32(1).i32(0).i32(self.request_bytes - 100);
        let mut sent = start.0;
        sent.resize(self.sent_bytes, b'x');
        let mut held = Vec::new();
        let mut taken = 0_u64;
        for number in 0..self.connections {
            let stream = TcpStream::connect(address).with_context(|| format!("connection {number}"))?;
            stream.set_write_timeout(Some(Duration::from_millis(50)))?;
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                match (&stream).write(rest) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => rest = &rest[count..],
                }
            }
            taken += (sent.len() - rest.len()) as u64;
            held.push(stream);
        }
        say_ready(started)?;
        wait_for_end()?;
        Ok(json!({ "connections": held.len(), "megabytes_taken": taken as f64 / 1e6 }))
    }
}

/// Tells the bench that all connections stand.
fn say_ready(started: Instant) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{}", json!({ "ready_s": started.elapsed().as_secs_f64() }))?;
    out.flush()?;
    Ok(())
}

fn wait_for_end() -> Result<()> {
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
