//! A record is stored once, however often its producer sent it.

use super::{Anomaly, Log, Verdict};
use crate::history::History;

pub(super) fn find(history: &History, log: &Log, verdict: &mut Verdict) {
    for (partition, entries) in log.partitions() {
        for (offset, entry) in entries.iter().filter(|(_, entry)| entry.was_read) {
            let Some(first) = log.place(entry.value) else { continue };
            if first != (partition, *offset) {
                verdict.add(Anomaly::Duplicated, || {
                    let value = history.shown(entry.value);
                    format!("{value} is at {} of partition {} and at {offset} of {partition}", first.1, first.0)
                });
            }
        }
    }
}
