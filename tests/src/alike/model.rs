//! What is known of topics from what was asked and answered so far.

use std::collections::BTreeMap;

use super::step::{Answer, Place, Step, Writing};
use crate::wire::FullRecord;
use crate::wire::changes::Operation;

const SET: i8 = 0;
const DELETE: i8 = 1;

/// A topic as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) configs: BTreeMap<String, String>,
    pub(super) partitions: Vec<Partition>,
    /// It was compacted at some time: what is left of it depends on when.
    pub(super) was_compacted: bool,
    /// Records without a value did not have to stay at some time.
    pub(super) deletes_may_go: bool,
    /// Retention may have something to do since it was last waited for.
    pub(super) is_moving: bool,
}

/// A partition as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    /// All that was ever appended, by offset.
    pub(super) records: Vec<FullRecord>,
    /// Batches so far: each has an hour of its own.
    pub(super) hours: i64,
    /// The next sequence of each producer that has written to it, and its last batch.
    pub(super) writers: BTreeMap<usize, (i32, Step)>,
}

impl Topic {
    fn policy(&self) -> &str {
        self.configs.get("cleanup.policy").map_or("delete", String::as_str)
    }

    pub(super) fn compacts(&self) -> bool {
        self.policy().contains("compact")
    }

    /// Retention has something to go by that is nearer than the default of seven days.
    pub(super) fn is_limited(&self) -> bool {
        ["retention.ms", "retention.bytes"].iter().any(|key| self.configs.get(*key).is_some_and(|value| value != "-1"))
    }

    fn set(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.configs.insert(key.to_owned(), value.trim().to_owned()),
            None => self.configs.remove(key),
        };
        self.is_moving = true;
        self.look();
    }

    fn look(&mut self) {
        self.was_compacted |= self.compacts();
        self.deletes_may_go |= self.configs.get("delete.retention.ms").is_some_and(|value| value == "0");
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) topics: BTreeMap<String, Topic>,
}

impl Model {
    pub(super) fn partition(&self, place: &Place) -> Option<&Partition> {
        self.topics.get(&place.topic)?.partitions.get(usize::try_from(place.partition).ok()?)
    }

    /// Takes in what a request led to.
    pub(super) fn note(&mut self, step: &Step, answer: &Answer) {
        match (step, answer) {
            (Step::Create { topic, partitions, configs, .. }, Answer::Done) => {
                let count = usize::try_from(*partitions).unwrap_or(0);
                let mut created = Topic { partitions: vec![Partition::default(); count], ..Topic::default() };
                for (key, value) in configs {
                    created.set(key, Some(value));
                }
                self.topics.insert(topic.clone(), created);
            }
            (Step::Delete { topic }, Answer::Done) => {
                self.topics.remove(topic);
            }
            (Step::Alter { topic, operations, is_asked: false }, Answer::Done) => {
                let Some(topic) = self.topics.get_mut(topic) else { return };
                for Operation { key, kind, value } in operations {
                    match *kind {
                        SET => topic.set(key, value.as_deref()),
                        DELETE => topic.set(key, None),
                        // What came of it is seen when the topic is described.
                        _ => topic.is_moving = true,
                    }
                }
            }
            (Step::Describe { topic }, Answer::Configs(configs)) => {
                let Some(topic) = self.topics.get_mut(topic) else { return };
                topic.configs = configs.iter().cloned().collect();
                topic.look();
            }
            (Step::Produce { to, records, by, .. }, Answer::Offset(base)) => {
                let Some(topic) = self.topics.get_mut(&to.topic) else { return };
                topic.is_moving |= topic.is_limited();
                let Some(partition) = topic.partitions.get_mut(usize::try_from(to.partition).unwrap_or(0)) else {
                    return;
                };
                // A batch that came again is where it was.
                if i64::try_from(partition.records.len()) != Ok(*base) {
                    return;
                }
                partition.hours += 1;
                let at = records.iter().zip(*base..);
                partition.records.extend(at.map(|(record, offset)| FullRecord { offset, ..record.clone() }));
                if let Some(Writing { producer, sequence }) = by {
                    let next = sequence + i32::try_from(records.len()).unwrap_or(0);
                    partition.writers.insert(*producer, (next, step.clone()));
                }
            }
            _ => {}
        }
    }
}
