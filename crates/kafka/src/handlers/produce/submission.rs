//! A produce request on its way into the shards.
//!
//! What is kept true: its batches are admitted, and then appended, in the order of the request, and no wait keeps the
//! connection from its other work: every wait can be given up and begun again.

use std::vec;

use base::memory::Permit;
use base::time::Instant;
use broker::produce::ProduceError;

use super::sequences::{Held, Missing};
use super::{Checked, CheckedRequest, Produce, Sequences, Slot, State, refusal, retained};
use crate::context::Context;
use crate::errors::{NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT};
use crate::frame::Hold;
use crate::handshake::RequestHeader;
use crate::wire::produce::PartitionAnswer;

pub(crate) struct Submission {
    /// What waits already; it has no more slots than batches that were appended or refused.
    produce: Produce,
    batches: vec::IntoIter<Checked>,
    request_bytes: usize,
    /// Batches of the front that were admitted.
    admitted: usize,
    /// Whether the next one has waited for those before.
    has_waited: bool,
}

impl Submission {
    /// Of a request of `request_bytes` that came at `now`.
    pub(crate) fn new(
        header: RequestHeader,
        request: CheckedRequest,
        request_bytes: usize,
        memory: (Hold, Permit),
        now: Instant,
    ) -> Self {
        let CheckedRequest { acks, timeout, topics, batches } = request;
        let slots = Vec::with_capacity(batches.len());
        let produce = Produce {
            header,
            acks,
            topics,
            slots,
            at: 0,
            deadline: now + timeout,
            leaders_until: None,
            leader_known: None,
            hold: Some(memory),
        };
        Self { produce, batches: batches.into_iter(), request_bytes, admitted: 0, has_waited: false }
    }

    /// Notes the batches in `sequences`. Whether all are; if not, those before MUST be complete before the next call.
    pub(crate) fn admit(&mut self, context: &Context, sequences: &mut Sequences, now: Instant) -> bool {
        let broker = context.broker();
        for Checked { verdict, sent, leaderless, .. } in self.batches.as_mut_slice().iter_mut().skip(self.admitted) {
            let Some(stamped) = sent else {
                self.admitted += 1;
                continue;
            };
            let partition = verdict.as_ref().ok().map(|(partition, _)| partition);
            let may_wait = partition.is_some() && !self.has_waited;
            let is_known = || partition.is_some_and(|partition| broker.knows_producer(partition, stamped.producer()));
            match sequences.admit(stamped, may_wait, now, is_known) {
                Ok(()) => {}
                Err(Held::Wait) => {
                    self.has_waited = true;
                    return false;
                }
                Err(Held::Behind(expected, missing)) => {
                    let actual = stamped.sequence;
                    *sent = None;
                    *leaderless = None;
                    if let Ok((partition, _)) = verdict {
                        *verdict = Err(match missing {
                            Missing::ComesAgain => PartitionAnswer::refused(NOT_LEADER_OR_FOLLOWER),
                            Missing::GivenUp => {
                                let (expected, actual) = (expected.0, actual.0);
                                refusal(ProduceError::OutOfOrderSequence { expected, actual }, partition)
                            }
                        });
                    }
                }
            }
            self.admitted += 1;
            self.has_waited = false;
        }
        retained::detach(self.request_bytes, self.batches.as_mut_slice());
        true
    }

    /// Appends the batches; waits only for room in the shards' queues. Cancelling it loses nothing.
    pub(crate) async fn append(&mut self, context: &Context) {
        while let Some(next) = self.batches.as_slice().first() {
            if let Ok((_, batch)) = &next.verdict {
                batch.ready().await;
            }
            let Some(Checked { index, verdict, leaderless, sent }) = self.batches.next() else { return };
            let state = match (verdict, leaderless) {
                (Ok((partition, batch)), _) => {
                    State::Waiting { pending: context.broker().append(&partition, batch), partition }
                }
                (Err(_), Some(partition)) => State::Leaderless { partition },
                (Err(answer), None) => State::Done(answer),
            };
            self.produce.slots.push(Slot { index, state, sent });
        }
    }

    /// At its deadline, what was not appended is not any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now >= self.produce.deadline {
            for Checked { verdict, .. } in self.batches.as_mut_slice() {
                if verdict.is_ok() {
                    *verdict = Err(PartitionAnswer::refused(REQUEST_TIMED_OUT));
                }
            }
        }
    }

    /// Refuses what was not appended: the broker stops.
    pub(crate) fn stop(&mut self) {
        for Checked { verdict, .. } in self.batches.as_mut_slice() {
            if let Ok((partition, _)) = verdict {
                *verdict = Err(refusal(ProduceError::Stopped, partition));
            }
        }
    }

    /// When every batch was appended or refused.
    pub(crate) fn into_produce(self) -> Produce {
        debug_assert!(self.batches.as_slice().is_empty(), "nothing is left out");
        self.produce
    }
}
