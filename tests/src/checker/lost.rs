//! What was acknowledged is read by the end.

use super::{Anomaly, Log, Verdict};
use crate::history::{History, Identity, Outcome};

pub(super) fn find(history: &History, log: &Log, verdict: &mut Verdict) {
    for writer in &history.writers {
        for send in &writer.sends {
            let Outcome::Acked(offset) = send.outcome else { continue };
            let value = Identity { writer: writer.id, number: send.number };
            if log.is_present(value) {
                continue;
            }
            verdict.add(Anomaly::Lost, || {
                let place = offset.and_then(|offset| Some((offset, log.entry(send.partition, offset)?)));
                let there = match place {
                    Some((offset, entry)) if entry.was_read => format!("at {offset} is {}", history.shown(entry.value)),
                    Some((offset, _)) => format!("nobody read {offset}"),
                    None => "its offset was not told".to_owned(),
                };
                let (name, at) = (history.shown(value), send.ended_ms.unwrap_or(0));
                format!("{name}, acknowledged in partition {} at {at} ms: {there}", send.partition)
            });
        }
    }
}
