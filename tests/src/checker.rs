//! Whether a history can be one of a log that keeps its promises: pure, one file per anomaly.
//!
//! In the manner of Jepsen's workload for Kafka. What is assumed: nothing is deleted or compacted and there are no
//! transactions, so that offsets have no gaps; writers are idempotent and number their records, so that every value
//! is written once; after the run everything was read to behind the last acknowledged record.

mod commits;
mod duplicated;
mod gap;
mod inconsistent;
mod log;
mod lost;
mod nonmonotonic;
mod phantom;
mod reordered;
mod reset;
mod skipped;

use std::collections::BTreeMap;
use std::fmt;

pub use log::Log;

use crate::history::{History, Outcome};

/// How many of a kind are described; the others are counted.
const SHOWN_MAX: usize = 10;

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// An acknowledged record was not read by the end.
    Lost,
    /// A record is at two offsets.
    Duplicated,
    /// A writer's records are not in the order in which it sent them.
    Reordered,
    /// A reader missed offsets.
    Gap,
    /// A record was read that nobody sent.
    Phantom,
    /// A reader went back without a seek.
    Nonmonotonic,
    /// An offset was seen with two values.
    Inconsistent,
    /// What a group had committed was less than before.
    CommitsWentBack,
    /// A group committed what none of its members had read.
    Skipped,
    /// A reader was told that its offset is not there.
    Reset,
}

/// The anomalies of a history, and how much of it there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub acked: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Of those whose fate the writer did not know, how many are there.
    pub unknown_present: usize,
    /// Records in the log.
    pub present: usize,
    counts: BTreeMap<Anomaly, usize>,
    shown: Vec<(Anomaly, String)>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.counts.is_empty()
    }

    pub fn has(&self, anomaly: Anomaly) -> bool {
        self.counts.contains_key(&anomaly)
    }

    pub(crate) fn add(&mut self, anomaly: Anomaly, text: impl FnOnce() -> String) {
        let count = self.counts.entry(anomaly).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            self.shown.push((anomaly, text()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "{} acknowledged, {} refused, {} unknown of which {} are there, {} in the log",
            self.acked, self.refused, self.unknown, self.unknown_present, self.present
        )?;
        for (anomaly, text) in &self.shown {
            writeln!(to, "{anomaly:?}: {text}")?;
        }
        for (anomaly, count) in &self.counts {
            writeln!(to, "{anomaly:?}: {count} in all")?;
        }
        write!(to, "{}", if self.is_good() { "no anomalies" } else { "ANOMALIES FOUND" })
    }
}

/// Looks for every anomaly.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let log = Log::of(history);
    inconsistent::find(history, &log, &mut verdict);
    lost::find(history, &log, &mut verdict);
    duplicated::find(history, &log, &mut verdict);
    reordered::find(history, &log, &mut verdict);
    phantom::find(history, &log, &mut verdict);
    gap::find(history, &mut verdict);
    nonmonotonic::find(history, &mut verdict);
    commits::find(history, &mut verdict);
    skipped::find(history, &mut verdict);
    reset::find(history, &mut verdict);
    verdict.present = log.len();
    for writer in &history.writers {
        for send in &writer.sends {
            match send.outcome {
                Outcome::Acked(_) => verdict.acked += 1,
                Outcome::Refused(_) => verdict.refused += 1,
                Outcome::Unknown(_) => {
                    verdict.unknown += 1;
                    let value = crate::history::Identity { writer: writer.id, number: send.number };
                    verdict.unknown_present += usize::from(log.is_present(value));
                }
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests;
