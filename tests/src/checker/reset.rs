//! As nothing is deleted, no reader is told that its offset is not there, or that the log has lost what it read.

use super::{Anomaly, Verdict};
use crate::history::{Event, History};

pub(super) fn find(history: &History, verdict: &mut Verdict) {
    for reader in &history.readers {
        for event in &reader.events {
            if let Event::Reset { at_ms, partition, error } = event {
                verdict.add(Anomaly::Reset, || {
                    format!("{} was told {error} of partition {partition} at {at_ms} ms", reader.name)
                });
            }
        }
    }
}
