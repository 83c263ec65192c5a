//! Produce requests that are built before the clock starts.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION};
use tests::wire::{Batch, Connection, Reader, connection, produce_requests};

/// The first address of `servers`.
pub(super) fn resolve(servers: &str) -> Result<SocketAddr> {
    servers.to_socket_addrs()?.next().with_context(|| format!("no address in {servers:?}"))
}

/// Every address of a list separated by commas.
pub(super) fn resolve_all(servers: &str) -> Result<Vec<SocketAddr>> {
    servers.split(',').map(resolve).collect()
}

/// Creates a topic when it is not there yet, and waits until each of its partitions answers.
pub(super) fn ensure_topic(address: SocketAddr, topic: &str, partitions: i32) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let error = requests::create_topic(&mut connection, topic, partitions, &[])?;
    ensure!(error == 0 || error == 36, "creating {topic}: error {error}");
    tests::process::wait_until("leaders", std::time::Duration::from_secs(60), || {
        for partition in 0..partitions {
            if requests::list_offset(&mut connection, topic, partition, -1)?.0 != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Values that do not compress, the same in every run.
pub(super) fn values(count: usize, bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut chance = tests::ledger::Chance::new(seed);
    (0..count)
        .map(|_| {
            let mut value = Vec::with_capacity(bytes + 8);
            while value.len() < bytes {
                value.extend_from_slice(&chance.number().to_le_bytes());
            }
            value.truncate(bytes);
            value
        })
        .collect()
}

/// A whole request, acks=all, with one batch of `records` records for one partition.
pub(super) fn produce(topic: &str, partition: i32, records: usize, record_bytes: usize) -> Arc<[u8]> {
    let body = requests::produce_body(topic, partition, -1, 30_000, &batch(partition, records, record_bytes));
    connection::frame(PRODUCE, PRODUCE_VERSION, partition, &body).into()
}

/// One batch for a partition.
pub(super) fn batch(partition: i32, records: usize, record_bytes: usize) -> Vec<u8> {
    let seed = u64::try_from(partition).unwrap_or(0) + 1;
    let mut batch = Batch::of(values(records, record_bytes, seed));
    batch.timestamp_ms = now_ms();
    batch.build()
}

/// A whole request with one batch for each partition named.
pub(super) fn produce_many(topic: &str, batches: &[(i32, Vec<u8>)]) -> Arc<[u8]> {
    connection::frame(PRODUCE, PRODUCE_VERSION, 1, &produce_requests::body(topic, -1, 30_000, batches)).into()
}

/// The error codes in an answer to Produce version 8, after its length; the first that is not 0.
pub(super) fn first_error(answer: &[u8]) -> Result<i16> {
    let mut reader = Reader(answer);
    reader.i32()?;
    for _ in 0..reader.count()? {
        let name = usize::try_from(reader.i16()?).unwrap_or(0);
        reader.take(name)?;
        for _ in 0..reader.count()? {
            reader.i32()?;
            let error = reader.i16()?;
            if error != 0 {
                return Ok(error);
            }
            reader.take(24)?;
            // Errors of single records, and a message.
            for _ in 0..reader.count()? {
                reader.i32()?;
                reader.string()?;
            }
            reader.string()?;
        }
    }
    Ok(0)
}
