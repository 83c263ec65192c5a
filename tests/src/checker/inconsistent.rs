//! An offset has one value, for its writer and for all readers.

use super::{Anomaly, Log, Verdict};
use crate::history::History;

pub(super) fn find(history: &History, log: &Log, verdict: &mut Verdict) {
    for conflict in log.conflicts() {
        verdict.add(Anomaly::Inconsistent, || {
            let (known, other) = (history.shown(conflict.known), history.shown(conflict.other));
            format!(
                "{} of partition {} is {known}, and {other} for {}",
                conflict.offset, conflict.partition, conflict.by
            )
        });
    }
}
