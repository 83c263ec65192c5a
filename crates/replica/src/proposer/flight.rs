//! Entries under way in consensus, and what becomes of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::NodeId;
use std::sync::Arc;
use storage::Payload;

use super::queue::Queue;
use crate::errors::ProposeError;
use crate::pending::Answer;
use crate::raft::types::Answers;

/// How consensus ended an entry.
#[derive(Debug)]
pub(crate) enum EntryEnd {
    /// Durable on a quorum and applied.
    Applied(Answers),
    /// Refused before it was appended: it is in no log.
    Refused(Refusal),
    /// Nobody can tell.
    Unknown,
}

/// Why an entry was refused before it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This node leads but has not heard from a quorum for a while, as right after an election.
    LeaseExpired,
    /// Another node leads or takes over.
    NotLeader { leader: Option<NodeId> },
}

/// An entry that consensus works on. It ends exactly once: by [`Flight::end`], or as unknown when
/// consensus drops it.
#[derive(Debug)]
pub(crate) struct Flight {
    entry: Option<Underway>,
    flights: Arc<Flights>,
}

/// The entry of a flight; those who wait for its outcomes stand in [`Flights::waiting`].
#[derive(Debug)]
struct Underway {
    sequence: u64,
    payload: Payload,
    refused_since: Option<Instant>,
}

/// An entry with those who wait for its outcomes.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    /// The order in which entries were handed over.
    pub(crate) sequence: u64,
    pub(crate) payload: Payload,
    pub(crate) answers: Vec<Answer>,
    /// When it was first refused, for the time limit.
    pub(crate) refused_since: Option<Instant>,
}

impl OpenEntry {
    pub(crate) fn answer_all(self, error: &ProposeError) {
        self.answers.into_iter().for_each(|answer| answer.send(Err(error.clone())));
    }
}

/// What the proposer knows of its entries under way.
#[derive(Debug)]
pub(crate) struct Flights {
    count: AtomicUsize,
    /// When one ended last, or the first began where none was.
    moved: Mutex<Instant>,
    /// The highest sequence that consensus accepted, or may have accepted; 0 when none.
    accepted: AtomicU64,
    /// Those who wait for the outcomes of entries under way, by the entries' sequences in their order. Who was told
    /// that the fate is unknown stands here no more.
    waiting: Mutex<VecDeque<(u64, Vec<Answer>)>>,
    refused: Mutex<Refused>,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Refused {
    entries: Vec<(OpenEntry, Refusal)>,
    /// The proposer is gone: nobody settles them any more.
    error: Option<ProposeError>,
}

impl Flights {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self {
            count: AtomicUsize::new(0),
            moved: Mutex::new(now()),
            accepted: AtomicU64::new(0),
            waiting: Mutex::default(),
            refused: Mutex::default(),
            queue,
        }
    }

    pub(crate) fn begin(self: &Arc<Self>, entry: OpenEntry) -> Flight {
        let OpenEntry { sequence, payload, answers, refused_since } = entry;
        assert!(sequence > 0, "sequences begin at 1");
        if self.count.fetch_add(1, Ordering::AcqRel) == 0 {
            *self.moved.lock() = now();
        }
        self.waiting.lock().push_back((sequence, answers));
        Flight { entry: Some(Underway { sequence, payload, refused_since }), flights: Arc::clone(self) }
    }

    /// An entry whose end concerns nobody.
    pub(crate) fn of_nobody(self: &Arc<Self>) -> Flight {
        Flight { entry: None, flights: Arc::clone(self) }
    }

    /// Whether the entry, or one behind it, was accepted or may have been.
    pub(crate) fn has_accepted(&self, sequence: u64) -> bool {
        self.accepted.load(Ordering::Acquire) >= sequence
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// For how long none has ended of those that are under way.
    pub(crate) fn stalled(&self) -> Duration {
        let moved = *self.moved.lock();
        if self.count() == 0 { Duration::ZERO } else { moved.elapsed() }
    }

    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.lock().entries.is_empty()
    }

    /// Tells all who wait for entries under way that the fate is unknown: it may stay so for long.
    pub(crate) fn give_up(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (sequence, answers) in waiting {
            self.accepted.fetch_max(sequence, Ordering::AcqRel);
            answers.into_iter().for_each(|answer| answer.send(Err(ProposeError::Unknown)));
        }
    }

    /// Who still waits for an entry: nobody when they were told already.
    fn take_waiting(&self, sequence: u64) -> Option<Vec<Answer>> {
        let mut waiting = self.waiting.lock();
        let place = waiting.iter().position(|(of, _)| *of == sequence)?;
        waiting.remove(place).map(|(_, answers)| answers)
    }

    /// The refused entries in their order, and whether something behind the first of them was, or
    /// may have been, accepted: only known when nothing is under way.
    pub(crate) fn take_refused(&self) -> (Vec<(OpenEntry, Refusal)>, bool) {
        let mut refused = std::mem::take(&mut self.refused.lock().entries);
        refused.sort_by_key(|(entry, _)| entry.sequence);
        let first = refused.first().map_or(u64::MAX, |(entry, _)| entry.sequence);
        (refused, self.accepted.load(Ordering::Acquire) > first)
    }

    /// Refused entries, and those that will be, are answered with `error` and not settled.
    pub(crate) fn answer_refused(&self, error: &ProposeError) {
        let refused = {
            let mut refused = self.refused.lock();
            refused.error = Some(error.clone());
            std::mem::take(&mut refused.entries)
        };
        refused.into_iter().for_each(|(entry, _)| entry.answer_all(error));
    }

    fn refuse(&self, entry: OpenEntry, refusal: Refusal) {
        let mut refused = self.refused.lock();
        match refused.error.clone() {
            None => refused.entries.push((entry, refusal)),
            Some(error) => {
                drop(refused);
                entry.answer_all(&error);
            }
        }
    }

    fn ended(&self) {
        *self.moved.lock() = now();
        let before = self.count.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "an entry ended that was not under way");
        self.queue.wake.notify_one();
    }
}

impl Flight {
    /// Tells the outcomes to those who wait for them.
    pub(crate) fn end(mut self, end: EntryEnd) {
        let Some(entry) = self.entry.take() else { return };
        self.settle(entry, end);
    }

    fn settle(&self, entry: Underway, end: EntryEnd) {
        let Underway { sequence, payload, refused_since } = entry;
        let answers = self.flights.take_waiting(sequence);
        match (end, answers) {
            (EntryEnd::Refused(refusal), Some(answers)) => {
                self.flights.refuse(OpenEntry { sequence, payload, answers, refused_since }, refusal);
            }
            (EntryEnd::Applied(Answers(outcomes)), Some(answers)) => {
                self.flights.accepted.fetch_max(sequence, Ordering::AcqRel);
                assert_eq!(outcomes.len(), answers.len(), "one outcome for each command");
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    answer.send(Ok(outcome));
                }
            }
            (EntryEnd::Unknown, Some(answers)) => {
                self.flights.accepted.fetch_max(sequence, Ordering::AcqRel);
                answers.into_iter().for_each(|answer| answer.send(Err(ProposeError::Unknown)));
            }
            // Their fate was unknown for too long, and they may have tried again: not even what was refused is
            // handed over once more.
            (_, None) => {}
        }
        self.flights.ended();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.settle(entry, EntryEnd::Unknown);
        }
    }
}
