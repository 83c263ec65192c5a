//! What is read was sent, to the partition in which it is, and was not refused.

use std::collections::HashMap;

use super::{Anomaly, Log, Verdict};
use crate::history::{History, Identity, Outcome};

pub(super) fn find(history: &History, log: &Log, verdict: &mut Verdict) {
    let mut sent: HashMap<Identity, (i32, bool)> = HashMap::new();
    for writer in &history.writers {
        for send in &writer.sends {
            let value = Identity { writer: writer.id, number: send.number };
            sent.insert(value, (send.partition, matches!(send.outcome, Outcome::Refused(_))));
        }
    }
    for (partition, entries) in log.partitions() {
        for (offset, entry) in entries {
            let what = match sent.get(&entry.value) {
                Some((home, false)) if *home == partition => continue,
                Some((_, true)) => "was refused".to_owned(),
                Some((home, false)) => format!("was sent to partition {home}"),
                None => "was not sent".to_owned(),
            };
            let value = entry.value;
            verdict.add(Anomaly::Phantom, || {
                format!("{} at {offset} of partition {partition} {what}", history.shown(value))
            });
        }
    }
}
