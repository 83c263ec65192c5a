//! The records of a writer are in each partition in the order in which it sent them.

use std::collections::HashMap;

use super::{Anomaly, Log, Verdict};
use crate::history::{History, Identity};

pub(super) fn find(history: &History, log: &Log, verdict: &mut Verdict) {
    for (partition, entries) in log.partitions() {
        let mut last: HashMap<u32, (u32, i64)> = HashMap::new();
        for (offset, entry) in entries {
            let Identity { writer, number } = entry.value;
            if let Some((before, at)) = last.insert(writer, (number, *offset))
                && number < before
            {
                verdict.add(Anomaly::Reordered, || {
                    let before = history.shown(Identity { writer, number: before });
                    let value = history.shown(entry.value);
                    format!("in partition {partition} {before} at {at} is before {value} at {offset}")
                });
            }
        }
    }
}
