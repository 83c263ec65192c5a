//! A reader does not go back to what it had, as long as a partition is its own.

use std::collections::HashMap;

use super::{Anomaly, Verdict};
use crate::history::{Event, History};

pub(super) fn find(history: &History, verdict: &mut Verdict) {
    for reader in &history.readers {
        let mut last: HashMap<i32, i64> = HashMap::new();
        for event in &reader.events {
            match event {
                Event::Assigned { partitions, .. } => {
                    for partition in partitions {
                        last.remove(partition);
                    }
                }
                Event::Polled { at_ms, partition, records } => {
                    for record in records {
                        let before = last.insert(*partition, record.offset);
                        if let Some(before) = before.filter(|before| record.offset <= *before) {
                            verdict.add(Anomaly::Nonmonotonic, || {
                                let (name, offset) = (&reader.name, record.offset);
                                format!("{name} read {offset} of partition {partition} after {before}, at {at_ms} ms")
                            });
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
