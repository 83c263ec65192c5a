//! What a group has committed, one of its members has read.

use std::collections::BTreeMap;

use super::{Anomaly, Verdict};
use crate::history::{Event, History};

/// Ranges of offsets that members read, and the highest offset that was committed.
#[derive(Default)]
struct Progress {
    ranges: Vec<(i64, i64)>,
    committed: i64,
}

pub(super) fn find(history: &History, verdict: &mut Verdict) {
    let mut groups: BTreeMap<(&str, i32), Progress> = BTreeMap::new();
    for reader in &history.readers {
        let Some(group) = &reader.group else { continue };
        for event in &reader.events {
            match event {
                Event::Polled { partition, records, .. } => {
                    let ranges = &mut groups.entry((group, *partition)).or_default().ranges;
                    for record in records {
                        match ranges.last_mut() {
                            Some(last) if last.1 == record.offset => last.1 += 1,
                            _ => ranges.push((record.offset, record.offset + 1)),
                        }
                    }
                }
                Event::Committed { offsets, .. } => {
                    for (partition, offset) in offsets {
                        let highest = &mut groups.entry((group, *partition)).or_default().committed;
                        *highest = (*highest).max(*offset);
                    }
                }
                _ => {}
            }
        }
    }
    for ((group, partition), Progress { mut ranges, committed }) in groups {
        ranges.sort_unstable();
        let mut next = 0;
        let end = [(committed, committed)];
        for (from, to) in ranges.iter().chain(&end) {
            let missing = (*from).min(committed);
            if missing > next {
                verdict.add(Anomaly::Skipped, || {
                    format!(
                        "{group} has committed {committed} of partition {partition}; nobody read {next} to {}",
                        missing - 1
                    )
                });
            }
            next = next.max(*to);
        }
    }
}
