//! A reader gets every offset: from 0 if it reads by itself, from its first one in what a group gave it.

use std::collections::HashMap;

use super::{Anomaly, Verdict};
use crate::history::{Event, History};

pub(super) fn find(history: &History, verdict: &mut Verdict) {
    for reader in &history.readers {
        let mut next: HashMap<i32, i64> = HashMap::new();
        for event in &reader.events {
            match event {
                Event::Assigned { partitions, .. } => {
                    for partition in partitions {
                        next.remove(partition);
                    }
                }
                Event::Polled { at_ms, partition, records } => {
                    for record in records {
                        let start = if reader.group.is_none() { Some(0) } else { None };
                        let expected = next.get(partition).copied().or(start);
                        if let Some(expected) = expected.filter(|expected| record.offset > *expected) {
                            verdict.add(Anomaly::Gap, || {
                                let (name, offset) = (&reader.name, record.offset);
                                format!(
                                    "{name} expected {expected} of partition {partition}, got {offset}, at {at_ms} ms"
                                )
                            });
                        }
                        next.insert(*partition, record.offset + 1);
                    }
                }
                _ => {}
            }
        }
    }
}
