//! What a group has committed does not become less: neither for one who asks, nor for the member that goes on from it.
//!
//! Members whose partitions were taken away cannot commit any more, so that what was acknowledged before a look began
//! is there in it. Times of different processes are compared, of one machine's clock.

use std::collections::{BTreeMap, HashMap};

use super::{Anomaly, Verdict};
use crate::history::{Event, History};

/// By group and partition: when which offset was acknowledged, with the highest so far.
type Acked<'a> = BTreeMap<(&'a str, i32), Vec<(u64, i64)>>;

pub(super) fn find(history: &History, verdict: &mut Verdict) {
    let acked = acked(history);
    // Of what was acknowledged before a time, the highest.
    let highest = |group: &str, partition: i32, before_ms: u64| -> Option<i64> {
        let times = acked.get(&(group, partition))?;
        let place = times.partition_point(|(at, _)| *at < before_ms);
        times.get(place.checked_sub(1)?).map(|(_, highest)| *highest)
    };
    for reader in &history.readers {
        let Some(group) = &reader.group else { continue };
        let mut assigned: HashMap<i32, u64> = HashMap::new();
        for event in &reader.events {
            match event {
                Event::Looked { began_ms, offsets } => {
                    for (partition, offset) in offsets {
                        if let Some(highest) = highest(group, *partition, *began_ms).filter(|known| offset < known) {
                            verdict.add(Anomaly::CommitsWentBack, || {
                                format!(
                                    "{} saw {offset} of partition {partition} at {began_ms} ms, after {highest}",
                                    reader.name
                                )
                            });
                        }
                    }
                }
                Event::Assigned { at_ms, partitions } => {
                    assigned.extend(partitions.iter().map(|partition| (*partition, *at_ms)));
                }
                Event::Polled { partition, records, .. } => {
                    let Some(first) = records.first().map(|record| record.offset) else { continue };
                    let Some(at_ms) = assigned.remove(partition) else { continue };
                    if let Some(highest) = highest(group, *partition, at_ms).filter(|known| first < *known) {
                        verdict.add(Anomaly::CommitsWentBack, || {
                            let name = &reader.name;
                            format!(
                                "{name} began at {first} of partition {partition}, got at {at_ms} ms, after {highest}"
                            )
                        });
                    }
                }
                _ => {}
            }
        }
    }
}

fn acked(history: &History) -> Acked<'_> {
    let mut acked = Acked::new();
    for reader in &history.readers {
        let Some(group) = &reader.group else { continue };
        for event in &reader.events {
            let Event::Committed { at_ms, offsets } = event else { continue };
            for (partition, offset) in offsets {
                acked.entry((group, *partition)).or_default().push((*at_ms, *offset));
            }
        }
    }
    for times in acked.values_mut() {
        times.sort_unstable();
        let mut highest = i64::MIN;
        for (_, offset) in times {
            highest = highest.max(*offset);
            *offset = highest;
        }
    }
    acked
}
