//! One partition: what was written into it, and whether what is read of it is that.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::plan::{COMPACTED_PARTITIONS, KEPT_TOPICS, Plan, VALUE_BYTES};
use crate::wire::{Connection, FullRecord, records};
use crate::workload::now_ms;

const OFFSET_OUT_OF_RANGE: i16 = 1;
/// One record in so many of a compacted topic deletes its key.
const DELETES_EVERY: u64 = 16;

/// What becomes of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those in the last so many bytes stay.
    Kept,
    /// Of each key the newest stays.
    Compacted,
    /// The topic goes, and comes again.
    Renewed,
}

impl Kind {
    pub(super) fn partitions(self) -> i32 {
        if self == Self::Compacted { i32::try_from(COMPACTED_PARTITIONS).unwrap_or(1) } else { 1 }
    }

    /// Turns of ten that each partition of it has.
    pub(super) fn share(self) -> usize {
        if self == Self::Kept { 3 } else { 2 }
    }

    pub(super) fn configs(self, plan: &Plan) -> Vec<(&'static str, String)> {
        match self {
            Self::Kept => vec![("retention.bytes", plan.kept_bytes.to_string())],
            Self::Compacted => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("delete.retention.ms", "1000".to_owned()),
                ("segment.bytes", plan.segment_bytes.to_string()),
            ],
            Self::Renewed => Vec::new(),
        }
    }
}

/// A partition and all that is known of it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) kind: Kind,
    /// How often its topic was created anew.
    pub(super) incarnation: u64,
    /// The offset of the next record.
    pub(super) next: i64,
    number: u64,
    /// It never began earlier.
    first: i64,
    /// Of each key the newest record; of a compacted one only.
    newest: HashMap<u64, i64>,
}

/// All partitions of a plan.
pub(super) fn of(plan: &Plan) -> Vec<Stream> {
    let kept = (0..KEPT_TOPICS).map(|number| (format!("kept-{number}"), 0, Kind::Kept));
    let compacted = (0..Kind::Compacted.partitions()).map(|at| ("compacted".to_owned(), at, Kind::Compacted));
    let all = kept.chain(compacted).chain([("renewed".to_owned(), 0, Kind::Renewed)]);
    let newest = || HashMap::with_capacity(usize::try_from(plan.keys).unwrap_or(0));
    all.zip(0..)
        .map(|((topic, partition, kind), number)| Stream {
            topic,
            partition,
            kind,
            incarnation: 0,
            next: 0,
            number,
            first: 0,
            newest: newest(),
        })
        .collect()
}

impl Stream {
    /// The next batch.
    pub(super) fn batch(&self, plan: &Plan) -> Result<Vec<u8>> {
        let timestamp_ms = i64::try_from(now_ms())?;
        let batch: Vec<FullRecord> = (0..i64::from(plan.batch_records))
            .map(|delta| {
                let (key, value) = self.content(plan, self.next + delta);
                FullRecord { offset: delta, timestamp_ms, key: key.map(|key| key.to_be_bytes().to_vec()), value }
            })
            .collect();
        records::build(&batch, None, false)
    }

    /// So many more records are there.
    pub(super) fn wrote(&mut self, plan: &Plan, count: u32) {
        for _ in 0..count {
            if let (Some(key), _) = self.draw(plan, self.next) {
                self.newest.insert(key, self.next);
            }
            self.next += 1;
        }
    }

    pub(super) fn renew(&mut self) {
        (self.incarnation, self.next, self.first) = (self.incarnation + 1, 0, 0);
    }

    /// The key of a record, and whether it has a value.
    fn draw(&self, plan: &Plan, offset: i64) -> (Option<u64>, bool) {
        let drawn = mixed(self.seed_of(plan, offset));
        match self.kind {
            Kind::Compacted => (Some(drawn % plan.keys), !(drawn >> 40).is_multiple_of(DELETES_EVERY)),
            Kind::Kept | Kind::Renewed => (None, true),
        }
    }

    /// What a record has.
    fn content(&self, plan: &Plan, offset: i64) -> (Option<u64>, Option<Vec<u8>>) {
        let (key, has_value) = self.draw(plan, offset);
        let value = has_value.then(|| {
            let (mut state, mut value) = (self.seed_of(plan, offset) ^ 1, Vec::with_capacity(VALUE_BYTES));
            while value.len() < VALUE_BYTES {
                state = mixed(state);
                value.extend_from_slice(&state.to_be_bytes());
            }
            value
        });
        (key, value)
    }

    fn seed_of(&self, plan: &Plan, offset: i64) -> u64 {
        let of_stream = mixed(plan.seed ^ self.number << 32 ^ self.incarnation);
        of_stream ^ offset.cast_unsigned() << 1
    }

    /// Reads from its first offset on, which never goes back.
    pub(super) fn read_from(&mut self, first: i64) -> Result<Reading<'_>> {
        ensure!(first >= self.first, "{} began at {}, and now at {first}", self.topic, self.first);
        ensure!(self.kind == Kind::Kept || first == 0, "{} begins at {first}", self.topic);
        self.first = first;
        Ok(Reading { stream: self, first })
    }
}

/// One pass over a partition.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    stream: &'a Stream,
    first: i64,
}

impl Reading<'_> {
    /// Reads to the end: how many records, if none of them went meanwhile.
    pub(super) fn through(&mut self, connection: &mut Connection, plan: &Plan) -> Result<Option<u64>> {
        let stream = self.stream;
        let (mut offset, mut expected, mut count) = (self.first, self.first, 0);
        // Of each key what was read last.
        let mut newest = HashMap::new();
        while offset < stream.next {
            let fetch = records::fetch(connection, &stream.topic, stream.partition, offset)?;
            if fetch.error == OFFSET_OUT_OF_RANGE && stream.kind == Kind::Kept {
                return Ok(None);
            }
            ensure!(fetch.error == 0, "error {} at {offset}", fetch.error);
            for record in fetch.batches.records.iter().filter(|record| record.offset >= offset) {
                let is_next = record.offset == expected;
                let is_later = stream.kind == Kind::Compacted && record.offset > expected;
                ensure!(is_next || is_later, "offset {} where {expected} should be", record.offset);
                expected = record.offset + 1;
                let (key, value) = stream.content(plan, record.offset);
                let read = (record.key.as_deref(), &record.value);
                let written = key.map(u64::to_be_bytes);
                ensure!(
                    read == (written.as_ref().map(<[u8; 8]>::as_slice), &value),
                    "another record at {}",
                    record.offset
                );
                if let Some(key) = key {
                    newest.insert(key, record.offset);
                }
                count += 1;
            }
            let next = fetch.batches.next_offset.with_context(|| format!("nothing at {offset}"))?;
            ensure!(next > offset, "nothing but what lies before {offset}");
            offset = next;
        }
        ensure!(offset == stream.next, "it ends at {offset}, not at {}", stream.next);
        ensure!(stream.kind == Kind::Compacted || expected == stream.next, "records up to {expected} only");
        self.check_newest(plan, &newest)?;
        Ok(Some(count))
    }

    /// The newest record of each key is there, and none of an earlier one counts: unless the newest deletes its key, when
    /// there may be none at all.
    fn check_newest(&self, plan: &Plan, read: &HashMap<u64, i64>) -> Result<()> {
        for (key, offset) in &self.stream.newest {
            let found = read.get(key);
            let (_, has_value) = self.stream.draw(plan, *offset);
            let is_right = found == Some(offset) || (found.is_none() && !has_value);
            ensure!(is_right, "the newest record of key {key} is at {offset}, and what is read is {found:?}");
        }
        Ok(())
    }
}

/// A number that follows from another one, and looks as if it did not (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
