//! What the clients of a run did and saw: one file of JSON lines for each participant, read into one model.
//!
//! A participant writes a line when it begins something and one when it knows the outcome, so that what was in
//! flight when it ended is known to be unknown. `docs/testing.md` describes the lines.

mod lines;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Everything that was written down in a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every name that values begin with, of writers and of whoever else turns up.
    names: Vec<String>,
    by_name: HashMap<String, u32>,
    pub writers: Vec<Writer>,
    pub readers: Vec<Reader>,
}

/// What a value says of itself: who wrote it, and as which of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub writer: u32,
    pub number: u32,
}

/// One idempotent producer: its numbers rise, whatever partition a record goes to.
#[derive(Clone, Debug)]
pub struct Writer {
    pub id: u32,
    pub sends: Vec<Send>,
    /// What made it useless before its time.
    pub fatal: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Send {
    pub partition: i32,
    pub number: u32,
    pub began_ms: u64,
    pub ended_ms: Option<u64>,
    pub outcome: Outcome,
}

/// What a writer was told of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, with its offset if that was told.
    Acked(Option<i64>),
    /// Never left the client.
    Refused(String),
    /// It may be there or not.
    Unknown(String),
}

/// One consumer: of all partitions by itself, or as a member of a group.
#[derive(Clone, Debug)]
pub struct Reader {
    pub name: String,
    pub group: Option<String>,
    pub events: Vec<Event>,
}

/// What happened to a reader, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Partitions are its own from now on; what it reads next of them begins anew.
    Assigned {
        at_ms: u64,
        partitions: Vec<i32>,
    },
    Polled {
        at_ms: u64,
        partition: i32,
        records: Vec<Record>,
    },
    /// It was told that the offset that it wanted is not there.
    Reset {
        at_ms: u64,
        partition: i32,
        error: String,
    },
    /// A commit was acknowledged.
    Committed {
        at_ms: u64,
        offsets: Vec<(i32, i64)>,
    },
    /// What the group had committed, asked between two times.
    Looked {
        began_ms: u64,
        offsets: Vec<(i32, i64)>,
    },
    /// Any other error, which the client may have got over.
    Trouble {
        at_ms: u64,
        error: String,
    },
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub value: Identity,
}

impl History {
    /// Reads every participant's file of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_of(folder, true)
    }

    /// Only those of writers.
    pub fn read_writers(folder: &Path) -> Result<Self> {
        Self::read_of(folder, false)
    }

    fn read_of(folder: &Path, with_readers: bool) -> Result<Self> {
        let mut history = Self::default();
        let mut files: Vec<_> = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .filter(|path| path.as_ref().map_or(true, |path| path.extension().is_some_and(|end| end == "jsonl")))
            .collect::<Result<_>>()?;
        files.sort();
        for file in files {
            lines::read_file(&mut history, &file, with_readers)
                .with_context(|| format!("reading {}", file.display()))?;
        }
        Ok(history)
    }

    /// The number of a name, given to it when it is new.
    pub fn name(&mut self, name: &str) -> u32 {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// A value as its writer called it.
    pub fn shown(&self, value: Identity) -> String {
        let writer = usize::try_from(value.writer).ok().and_then(|id| self.names.get(id));
        format!("{}/{}", writer.map_or("?", String::as_str), value.number)
    }

    /// What the text of a value says; one that says nothing is somebody's whose name is that text.
    pub fn identity(&mut self, text: &str) -> Identity {
        let mut parts = text.splitn(3, '/');
        let known = parts.next().zip(parts.next().and_then(|number| number.parse().ok()));
        match known {
            Some((writer, number)) => Identity { writer: self.name(writer), number },
            None => Identity { writer: self.name(text), number: 0 },
        }
    }

    pub fn acked(&self) -> usize {
        self.sends().filter(|send| matches!(send.outcome, Outcome::Acked(_))).count()
    }

    pub fn sends(&self) -> impl Iterator<Item = &Send> {
        self.writers.iter().flat_map(|writer| &writer.sends)
    }

    /// Behind the last acknowledged record of each partition.
    pub fn ends(&self) -> Vec<(i32, i64)> {
        let mut ends: HashMap<i32, i64> = HashMap::new();
        for send in self.sends() {
            if let Outcome::Acked(Some(offset)) = send.outcome {
                let end = ends.entry(send.partition).or_default();
                *end = (*end).max(offset + 1);
            }
        }
        let mut ends: Vec<_> = ends.into_iter().collect();
        ends.sort_unstable();
        ends
    }
}
