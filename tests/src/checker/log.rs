//! The log as everybody together saw it.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Event, History, Identity, Outcome};

/// What is at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Identity,
    /// Whether a reader saw it; else only its writer was told of it.
    pub was_read: bool,
}

/// Two values at one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) known: Identity,
    pub(crate) other: Identity,
    /// Who saw the other.
    pub(crate) by: String,
}

/// Per partition what is at each offset, by acknowledgements and reads.
#[derive(Clone, Debug, Default)]
pub struct Log {
    partitions: BTreeMap<i32, BTreeMap<i64, Entry>>,
    read: HashMap<Identity, (i32, i64)>,
    conflicts: Vec<Conflict>,
}

impl Log {
    /// What was read comes first, so that an acknowledgement that differs is the other one.
    pub fn of(history: &History) -> Self {
        let mut log = Self::default();
        for reader in &history.readers {
            for event in &reader.events {
                let Event::Polled { partition, records, .. } = event else { continue };
                for record in records {
                    log.put(*partition, record.offset, record.value, true, &reader.name);
                }
            }
        }
        for writer in &history.writers {
            for send in &writer.sends {
                if let Outcome::Acked(Some(offset)) = send.outcome {
                    let value = Identity { writer: writer.id, number: send.number };
                    log.put(send.partition, offset, value, false, "its writer");
                }
            }
        }
        log
    }

    fn put(&mut self, partition: i32, offset: i64, value: Identity, was_read: bool, by: &str) {
        let entries = self.partitions.entry(partition).or_default();
        let entry = entries.entry(offset).or_insert(Entry { value, was_read });
        if entry.value == value {
            if was_read {
                self.read.entry(value).or_insert((partition, offset));
            }
        } else {
            let known = entry.value;
            self.conflicts.push(Conflict { partition, offset, known, other: value, by: by.to_owned() });
        }
    }

    pub(crate) fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Per partition, in the order of offsets.
    pub fn partitions(&self) -> impl Iterator<Item = (i32, &BTreeMap<i64, Entry>)> {
        self.partitions.iter().map(|(partition, entries)| (*partition, entries))
    }

    pub fn entry(&self, partition: i32, offset: i64) -> Option<Entry> {
        self.partitions.get(&partition)?.get(&offset).copied()
    }

    /// Whether a value was read anywhere.
    pub fn is_present(&self, value: Identity) -> bool {
        self.read.contains_key(&value)
    }

    /// Where a value was read first.
    pub(crate) fn place(&self, value: Identity) -> Option<(i32, i64)> {
        self.read.get(&value).copied()
    }

    pub fn len(&self) -> usize {
        self.partitions.values().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
