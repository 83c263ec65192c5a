//! The next request, from a seed and from what is known of topics.
//!
//! What two brokers need not do alike is left out: records whose fate depends on when a cleaner came by are not asked for by
//! offset, and retention has nothing to do within an hour of any record's time.

use super::model::{Model, Topic};
use super::side::PRODUCERS;
use super::step::{Place, Step, Writing};
use crate::ledger::Chance;
use crate::wire::FullRecord;
use crate::wire::changes::Operation;

const HOUR_MS: i64 = 60 * 60 * 1_000;
/// The first record is so old: nearer than the default retention, with room for as many batches.
const HOURS: i64 = 150;
const MINUTE_MS: u64 = 60 * 1_000;
const NAMES: [&str; 5] = ["ant", "bee", "cat", "dog", "elk"];
const KEYS: u64 = 12;
const TOO_LARGE: usize = 5_000;

/// Keys with values that change nothing about what is to be read, or only when it is cleaned.
const HARMLESS: [(&str, &[&str]); 8] = [
    ("delete.retention.ms", &["0", "3600000", "86400000"]),
    ("min.compaction.lag.ms", &["0", "3600000"]),
    ("max.compaction.lag.ms", &["3600000", "86400000", "9223372036854775807"]),
    ("min.cleanable.dirty.ratio", &["0", "0.1", "0.5", "1"]),
    ("segment.ms", &["1", "2", " 5"]),
    ("segment.bytes", &["1048576", "2097152"]),
    ("max.message.bytes", &["2000", "1048588"]),
    ("retention.ms", &["-1"]),
];
const POLICIES: [&str; 6] = ["delete", "compact", "compact,delete", "delete,compact", "", "compact"];
const RETENTION_HOURS: [i64; 4] = [30, 80, 120, 140];
const RETENTION_BYTES: [&str; 4] = ["300", "700", "1500", "4000"];
const ILLEGAL: [(&str, &str); 26] = [
    ("retention.ms", "-2"),
    ("retention.ms", "soon"),
    ("retention.ms", ""),
    ("retention.bytes", "-2"),
    ("retention.bytes", "1.5"),
    ("cleanup.policy", "shred"),
    ("cleanup.policy", "compact;delete"),
    ("cleanup.policy", "delete,shred"),
    ("cleanup.policy", "Compact"),
    ("segment.bytes", "13"),
    ("segment.bytes", "1048575"),
    ("segment.bytes", "2147483648"),
    ("segment.ms", "0"),
    ("segment.jitter.ms", "-1"),
    ("min.cleanable.dirty.ratio", "1.5"),
    ("min.cleanable.dirty.ratio", "-0.1"),
    ("min.cleanable.dirty.ratio", "half"),
    ("delete.retention.ms", "-1"),
    ("min.compaction.lag.ms", "-1"),
    ("max.compaction.lag.ms", "0"),
    ("min.compaction.lag.ms", "9223372036854775808"),
    ("max.message.bytes", "-1"),
    ("compression.type", "tar"),
    ("message.timestamp.type", "LastWeek"),
    ("unclean.leader.election.enable", "maybe"),
    ("retention.years", "1"),
];

pub(super) struct Generator {
    chance: Chance,
    now_ms: i64,
    number: u64,
}

impl Generator {
    pub(super) fn new(seed: u64, now_ms: i64) -> Self {
        Self { chance: Chance::new(seed), now_ms, number: 0 }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let last = u64::try_from(all.len() - 1).unwrap_or(0);
        all[usize::try_from(self.chance.between(0, last)).unwrap_or(0)]
    }

    /// With so many chances of a hundred.
    fn happens(&mut self, percent: u64) -> bool {
        self.chance.between(1, 100) <= percent
    }

    /// Topics to begin with.
    pub(super) fn first_steps() -> Vec<Step> {
        let policies = ["delete", "compact", "delete", "compact,delete"];
        let create = |(name, policy): (&&str, &&str)| Step::Create {
            topic: (*name).to_owned(),
            partitions: 2,
            copies: 1,
            configs: vec![pair("segment.ms", "1"), pair("cleanup.policy", policy)],
        };
        NAMES.iter().zip(&policies).map(create).collect()
    }

    pub(super) fn next(&mut self, model: &Model) -> Step {
        self.number += 1;
        // A topic that is gone comes back soon.
        if model.topics.len() < NAMES.len() && self.happens(15) {
            return self.create(model);
        }
        match self.chance.between(1, 200) / 2 {
            0 => Step::Delete { topic: self.one_of(&NAMES).to_owned() },
            1..=2 => self.create(model),
            3..=24 => self.alter(model),
            25..=30 => self.delete_records(model),
            31..=44 => self.find(model),
            45..=49 => self.fetch(model),
            50..=53 => self.read(model),
            _ => self.produce(model),
        }
    }

    /// A partition that is there, mostly.
    fn place(&mut self, model: &Model) -> Place {
        let topic = self.one_of(&NAMES).to_owned();
        let partitions = model.topics.get(&topic).map_or(1, |topic| topic.partitions.len());
        let last = u64::try_from(partitions - 1).unwrap_or(0);
        let partition = if self.happens(3) { 7 } else { self.chance.between(0, last) };
        Place { topic, partition: i32::try_from(partition).unwrap_or(0) }
    }

    /// One that is to be looked at: seldom where retention would have to be waited for.
    fn looked_at(&mut self, model: &Model) -> Place {
        loop {
            let place = self.place(model);
            let is_moving = model.topics.get(&place.topic).is_some_and(|topic| topic.is_moving && topic.is_limited());
            if !is_moving || self.happens(10) {
                return place;
            }
        }
    }

    fn create(&mut self, model: &Model) -> Step {
        let missing: Vec<&str> = NAMES.into_iter().filter(|name| !model.topics.contains_key(*name)).collect();
        let topic = if missing.is_empty() || self.happens(20) { self.one_of(&NAMES) } else { self.one_of(&missing) };
        let (mut topic, mut partitions, mut copies) = (topic.to_owned(), self.one_of(&[1, 2]), 1);
        let mut configs = vec![pair("segment.ms", "1")];
        match self.chance.between(0, 9) {
            0 => "a topic".clone_into(&mut topic),
            1 => partitions = self.one_of(&[0, -5]),
            2 => copies = 5,
            3 | 4 => {
                let (key, value) = self
                    .one_of(&ILLEGAL.map(|(key, value)| if key == "segment.ms" { ILLEGAL[0] } else { (key, value) }));
                configs.push(pair(key, value));
            }
            _ => configs.push(pair("cleanup.policy", self.one_of(&POLICIES))),
        }
        Step::Create { topic, partitions, copies, configs }
    }

    fn alter(&mut self, model: &Model) -> Step {
        let topic = if self.happens(4) { "none" } else { self.one_of(&NAMES) }.to_owned();
        let unknown = Topic::default();
        let known = model.topics.get(&topic).unwrap_or(&unknown);
        let mut operations = Vec::new();
        let count = self.chance.between(1, 3);
        // One of them at most changes what is deleted.
        if self.happens(if known.is_moving && known.is_limited() { 8 } else { 40 }) {
            operations.push(self.policy_or_retention(known));
        }
        while u64::try_from(operations.len()) != Ok(count) && operations.len() < 3 {
            let operation = if self.happens(30) {
                let (key, value) = self.one_of(&ILLEGAL);
                set(key, value)
            } else {
                self.harmless()
            };
            let is_new = |known: &Operation| known.key != operation.key;
            if operations.iter().all(is_new) || self.happens(5) {
                operations.push(operation);
            }
        }
        if self.happens(3) {
            operations[0].value = None;
        }
        Step::Alter { topic, operations, is_asked: self.happens(10) }
    }

    fn harmless(&mut self) -> Operation {
        let (key, values) = self.one_of(&HARMLESS);
        // Without it Kafka's segments would hold more than one batch, and be deleted together.
        if key != "segment.ms" && key != "retention.ms" && self.happens(20) {
            return Operation { key: key.to_owned(), kind: 1, value: None };
        }
        if self.happens(4) {
            return Operation { kind: self.one_of(&[2, 3]), ..set(key, values[0]) };
        }
        set(key, self.one_of(values))
    }

    /// A topic is either compacted or limited by retention: Kafka's cleaner makes large segments, which are deleted as one.
    fn policy_or_retention(&mut self, topic: &Topic) -> Operation {
        if topic.was_compacted {
            return match self.chance.between(0, 5) {
                0 => Operation { key: "cleanup.policy".to_owned(), kind: 1, value: None },
                1 => Operation {
                    kind: self.one_of(&[2, 3]),
                    ..set("cleanup.policy", self.one_of(&["compact", "delete"]))
                },
                _ => set("cleanup.policy", self.one_of(&POLICIES)),
            };
        }
        match self.chance.between(0, 9) {
            0 if !topic.is_limited() => set("cleanup.policy", self.one_of(&POLICIES)),
            1 => Operation { key: self.one_of(&["retention.ms", "retention.bytes"]).to_owned(), kind: 1, value: None },
            2 => set("retention.bytes", "-1"),
            3..=5 => set("retention.bytes", self.one_of(&RETENTION_BYTES)),
            _ => {
                // Between two hours, so that no batch becomes old while the run lasts.
                let retention_ms = self.one_of(&RETENTION_HOURS) * HOUR_MS + HOUR_MS / 2;
                set("retention.ms", &retention_ms.to_string())
            }
        }
    }

    fn delete_records(&mut self, model: &Model) -> Step {
        let of = self.looked_at(model);
        let end = model.partition(&of).map_or(0, |partition| partition.records.len());
        let before = match self.chance.between(0, 9) {
            0 => -1,
            1 => -self.one_of(&[2, 3, i64::MAX]),
            2 => self.offset(end) + 3,
            _ => self.offset(end) / 2,
        };
        Step::DeleteRecords { of, before }
    }

    fn offset(&mut self, end: usize) -> i64 {
        i64::try_from(self.chance.between(0, u64::try_from(end).unwrap_or(0))).unwrap_or(0)
    }

    fn find(&mut self, model: &Model) -> Step {
        let of = self.looked_at(model);
        let was_compacted = model.topics.get(&of.topic).is_some_and(|topic| topic.was_compacted);
        let timestamp = match self.chance.between(0, 5) {
            0 => -1,
            1 => -2,
            _ if was_compacted => self.one_of(&[-1, -2]),
            2 => -3,
            _ => {
                let hour = model.partition(&of).map_or(0, |partition| partition.hours);
                let hour = self.chance.between(0, hour.unsigned_abs() + 1);
                self.time(i64::try_from(hour).unwrap_or(0))
            }
        };
        Step::Find { of, timestamp }
    }

    fn fetch(&mut self, model: &Model) -> Step {
        let of = self.looked_at(model);
        let end = model.partition(&of).map_or(0, |partition| partition.records.len());
        let was_compacted = model.topics.get(&of.topic).is_some_and(|topic| topic.was_compacted);
        let offset = if was_compacted { i64::try_from(end).unwrap_or(0) } else { self.offset(end) };
        Step::Fetch { of, offset: offset + self.one_of(&[0, 0, 0, 1]) }
    }

    fn read(&mut self, model: &Model) -> Step {
        let of = self.looked_at(model);
        match model.topics.get(&of.topic) {
            Some(topic) if topic.was_compacted => Step::Describe { topic: of.topic },
            Some(_) if model.partition(&of).is_some() => Step::Read { of },
            _ => Step::Find { of, timestamp: -1 },
        }
    }

    /// A time of an hour's batch: all of them lie in its first third.
    fn time(&mut self, hour: i64) -> i64 {
        let within = i64::try_from(self.chance.between(0, 20 * MINUTE_MS)).unwrap_or(0);
        self.now_ms - HOURS * HOUR_MS + hour.min(HOURS - 2) * HOUR_MS + within
    }

    fn produce(&mut self, model: &Model) -> Step {
        let to = self.place(model);
        let topic = model.topics.get(&to.topic);
        let compacts = topic.is_some_and(Topic::compacts);
        let may_go_back = topic.is_some_and(|topic| topic.was_compacted);
        let hour = model.partition(&to).map_or(0, |partition| partition.hours);
        let hour = if may_go_back && self.happens(15) { (hour - 5).max(0) } else { hour };
        let by = self.happens(40).then(|| self.writer(model, &to));
        if let Some(Err(again)) = by {
            return again;
        }
        let by = by.and_then(Result::ok);
        let count = self.chance.between(1, 6);
        let mut records: Vec<FullRecord> = (0..count).map(|_| self.record(hour, compacts)).collect();
        // What a producer that counts its batches sends is never refused for itself.
        let spoilt = if by.is_none() { self.chance.between(0, 24) } else { u64::MAX };
        let last = records.len() - 1;
        match spoilt {
            0 | 1 => records[last].key = None,
            2 => records[last].timestamp_ms = self.now_ms + 3 * HOUR_MS,
            3 => records[last].value = Some(vec![b'x'; TOO_LARGE]),
            _ => {}
        }
        Step::Produce { to, records, is_compressed: self.happens(30), by }
    }

    fn record(&mut self, hour: i64, compacts: bool) -> FullRecord {
        let key = (compacts || self.happens(60)).then(|| format!("key-{}", self.chance.between(1, KEYS)).into_bytes());
        let (number, length) = (self.number, usize::try_from(self.chance.between(8, 60)).unwrap_or(8));
        let value = (!self.happens(15)).then(|| {
            let mut value = format!("{number}.").into_bytes();
            value.resize_with(length, || u8::try_from(self.chance.between(32, 126)).unwrap_or(b' '));
            value
        });
        FullRecord { offset: 0, timestamp_ms: self.time(hour), key, value }
    }

    /// The next batch of an idempotent producer, one that leaves out some, or the last one again.
    fn writer(&mut self, model: &Model, to: &Place) -> Result<Writing, Step> {
        let producer = usize::try_from(self.chance.between(0, PRODUCERS as u64 - 1)).unwrap_or(0);
        let known = model.partition(to).and_then(|partition| partition.writers.get(&producer));
        match (known, self.chance.between(0, 9)) {
            (Some((_, last)), 0 | 1) => Err(last.clone()),
            (Some((next, _)), 2) => Ok(Writing { producer, sequence: next + 7 }),
            (known, _) => Ok(Writing { producer, sequence: known.map_or(0, |(next, _)| *next) }),
        }
    }

    /// What lets a cleaner take all that came before: nothing of it is in the newest segment.
    pub(super) fn closing(&self, to: &Place, number: i64) -> Step {
        let record = FullRecord {
            offset: 0,
            timestamp_ms: self.now_ms - HOUR_MS + number * MINUTE_MS.cast_signed(),
            key: Some(format!("closing-{number}").into_bytes()),
            value: Some(b"closing".to_vec()),
        };
        Step::Produce { to: to.clone(), records: vec![record], is_compressed: false, by: None }
    }
}

pub(super) fn set(key: &str, value: &str) -> Operation {
    Operation { key: key.to_owned(), kind: 0, value: Some(value.to_owned()) }
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
