//! What was promised, and the comparison with what is there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::wire::{Connection, ReadRecord, requests};

/// One acknowledged batch.
#[derive(Clone, Debug)]
pub(super) struct Acked {
    pub(super) partition: i32,
    pub(super) base_offset: i64,
    pub(super) producer: u32,
    /// Numbers of its records, rising within producer and partition.
    pub(super) first: u64,
    pub(super) count: u64,
}

/// The identity at the beginning of every value.
pub(super) fn identity(producer: u32, partition: i32, number: u64) -> String {
    format!("{producer}/{partition}/{number}/")
}

fn parse(value: &[u8]) -> Option<(u32, i32, u64)> {
    let end = value.iter().take(60).rposition(|byte| *byte == b'/')?;
    let mut parts = std::str::from_utf8(&value[..end]).ok()?.split('/');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// All promises of a run.
#[derive(Debug)]
pub struct Book {
    topic: String,
    partitions: i32,
    address: SocketAddr,
    acked: Vec<Acked>,
}

/// What a comparison found in order.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    pub acked: u64,
    pub present: u64,
}

impl Book {
    pub(super) fn new(topic: String, partitions: i32, address: SocketAddr) -> Self {
        Self { topic, partitions, address, acked: Vec::new() }
    }

    pub(super) fn add(&mut self, acked: Vec<Acked>) {
        self.acked.extend(acked);
    }

    /// Reads all partitions and compares.
    pub fn check(&self) -> Result<Checked> {
        let mut checked = Checked { acked: 0, present: 0 };
        let mut connection = Connection::open(self.address)?;
        for partition in 0..self.partitions {
            let records = requests::read_all(&mut connection, &self.topic, partition, 0)?;
            checked.present += u64::try_from(records.len())?;
            checked.acked += self
                .check_partition(partition, &records)
                .with_context(|| format!("{}-{partition}, {} records", self.topic, records.len()))?;
        }
        Ok(checked)
    }

    fn check_partition(&self, partition: i32, records: &[ReadRecord]) -> Result<u64> {
        let mut seen = HashSet::new();
        let mut last: HashMap<u32, u64> = HashMap::new();
        for (position, record) in records.iter().enumerate() {
            ensure!(record.offset == i64::try_from(position)?, "offset {} at position {position}", record.offset);
            let (producer, home, number) = parse(&record.value).context("a record that nobody wrote")?;
            ensure!(home == partition, "a record of partition {home} at offset {}", record.offset);
            ensure!(seen.insert((producer, number)), "record {producer}/{number} twice, again at {}", record.offset);
            if let Some(before) = last.insert(producer, number) {
                ensure!(before + 1 == number, "producer {producer}: {number} follows {before} at {}", record.offset);
            }
        }
        let mut acked = 0;
        for batch in self.acked.iter().filter(|batch| batch.partition == partition) {
            for index in 0..batch.count {
                let offset = usize::try_from(batch.base_offset)? + usize::try_from(index)?;
                let found = records.get(offset).and_then(|record| parse(&record.value));
                let promised = (batch.producer, partition, batch.first + index);
                ensure!(
                    found == Some(promised),
                    "acknowledged at {offset}: {promised:?}; there is {found:?} of {}",
                    records.len()
                );
                acked += 1;
            }
        }
        Ok(acked)
    }
}
