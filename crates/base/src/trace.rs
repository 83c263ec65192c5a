//! What happened in a simulation, as one number and, on demand, line by line.
//!
//! Every event goes into a hash together with the simulated time: two runs of one seed that differ
//! anywhere differ here. The trace belongs to the calling thread, as the simulation does.

use std::cell::RefCell;
use std::fmt;
use std::hash::Hasher as _;

use rustc_hash::FxHasher;

use crate::time::{Instant, now};

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Takes the lines of a trace.
pub type Sink = Box<dyn FnMut(fmt::Arguments<'_>)>;

struct Trace {
    started: Instant,
    hash: u64,
    events: u64,
    sink: Option<Sink>,
}

/// What a trace came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub hash: u64,
    pub events: u64,
}

/// Begins a trace, and ends the one before.
pub fn begin(sink: Option<Sink>) {
    TRACE.set(Some(Trace { started: now(), hash: 0, events: 0, sink }));
}

/// Ends the trace.
pub fn end() -> Option<Summary> {
    TRACE.take().map(|trace| Summary { hash: trace.hash, events: trace.events })
}

/// The trace so far.
#[must_use]
pub fn summary() -> Option<Summary> {
    TRACE.with_borrow(|trace| trace.as_ref().map(|trace| Summary { hash: trace.hash, events: trace.events }))
}

/// Notes that something happened, with the numbers that tell it apart from others of its kind.
pub fn event(kind: &'static str, numbers: &[u64]) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        let at = u64::try_from(trace.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        trace.add(kind.as_bytes(), at, numbers);
        if let Some(sink) = &mut trace.sink {
            sink(format_args!("{:>12.6} {kind} {numbers:?}", MicrosAsSeconds(at)));
        }
    });
}

/// Notes something in words. The words are made only if there is a trace.
pub fn note(kind: &'static str, words: impl FnOnce() -> String) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        let at = u64::try_from(trace.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let words = words();
        trace.add(kind.as_bytes(), at, &[hash_of(words.as_bytes())]);
        if let Some(sink) = &mut trace.sink {
            sink(format_args!("{:>12.6} {kind} {words}", MicrosAsSeconds(at)));
        }
    });
}

/// A number for bytes, to be noted instead of them.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

impl Trace {
    fn add(&mut self, kind: &[u8], at: u64, numbers: &[u64]) {
        let mut hasher = FxHasher::default();
        hasher.write_u64(self.hash);
        hasher.write(kind);
        hasher.write_u64(at);
        numbers.iter().for_each(|number| hasher.write_u64(*number));
        self.hash = hasher.finish();
        self.events += 1;
    }
}

struct MicrosAsSeconds(u64);

impl fmt::Display for MicrosAsSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_events_apart_by_kind_number_and_order() {
        let run = |events: &[(&'static str, u64)]| {
            begin(None);
            events.iter().for_each(|(kind, number)| event(kind, &[*number]));
            end().unwrap().hash
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let expected = run(&[("a", 1), ("b", 2)]);
            assert_eq!(run(&[("a", 1), ("b", 2)]), expected);
            for other in [&[("b", 2), ("a", 1)][..], &[("a", 1), ("b", 3)], &[("a", 1), ("c", 2)], &[("a", 1)]] {
                assert_ne!(run(other), expected);
            }
        });
    }
}
