//! Produce: batches are submitted in the order of the request and answered when all of them are durable or refused.
//!
//! All batches of a request are checked before the first is submitted: only then is it known how much of the request
//! stays in memory ([`retained`]).
//!
//! Submitting ends before anything is durable, so that several requests of a connection wait together; [`Produce`]
//! is what waits.

mod retained;
mod sequences;
mod submission;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use base::memory::Permit;
use base::task::yield_now;
use base::time::{Duration, Instant, now};
use broker::produce::{Acks, CheckedBatch, PendingProduce, ProduceError, Produced};
use broker::topics::{PartitionRef, Topic};
use bytes::Bytes;
use record::Sequence;

use crate::context::{Context, Shared, node_id};
use crate::endpoints::Endpoints;
use crate::errors::{
    Code, INVALID_RECORD, INVALID_REQUIRED_ACKS, NONE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION, UNSUPPORTED_COMPRESSION_TYPE,
};
use crate::frame::Hold;
use crate::handshake::RequestHeader;
use crate::limits::LEADER_WAIT_MAX;
use crate::wire::produce::{
    AnswerDetail, PARTITION_COST, PartitionAnswer, ProducePartition, ProduceRequest, ProduceTopic, TopicKey,
    write_response,
};
use crate::wire::read::Malformed;
use crate::wire::response::{EncodeError, Response, ResponseBuilder};

pub(crate) use sequences::Sequences;
use sequences::{BYTES_PER_BATCH, Sent, told_apart};
pub(crate) use submission::Submission;

/// The first version whose clients know zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// Where the low byte of a batch's attributes is, and its bits that say how the records are compressed.
const ATTRIBUTES_AT: usize = 22;
const COMPRESSION_BITS: u8 = 0b111;
const ZSTD: u8 = 4;

/// Bytes of batches that are checked before others have their turn on the thread.
const CHECKED_BYTES_MAX: usize = 1 << 20;

/// A produce request that waits for its batches.
pub(crate) struct Produce {
    header: RequestHeader,
    acks: i16,
    topics: Vec<ProduceTopic>,
    slots: Vec<Slot>,
    /// The first slot that may still wait.
    at: usize,
    deadline: Instant,
    /// Until when it waits for leaders to be known.
    leaders_until: Option<Instant>,
    /// The wait of the slot at `at`.
    leader_known: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Memory of the request and of what was made of it; given back when it is complete, at the latest before its answer is sent.
    hold: Option<(Hold, Permit)>,
}

struct Slot {
    index: i32,
    state: State,
    /// Of an idempotent producer.
    sent: Option<Sent>,
}

enum State {
    Done(PartitionAnswer),
    Waiting {
        pending: PendingProduce,
        partition: PartitionRef,
    },
    /// Refused, and to be answered when it is known who leads.
    Leaderless {
        partition: PartitionRef,
    },
}

/// Why a completed request gets no response, and the connection ends.
#[derive(Debug)]
pub(crate) enum Unanswerable {
    /// The client wants no answer, and something failed: closing is the only way to tell it.
    Failed {
        code: i16,
    },
    Encode(EncodeError),
}

/// Reads the request.
pub(crate) fn decode(context: &Context, header: &RequestHeader, body: &Bytes) -> Result<ProduceRequest, Malformed> {
    let cost_max = context.shared.memory.decoded_bytes_max();
    ProduceRequest::decode(body, header.body_at, header.version, header.api.is_flexible(header.version), cost_max)
}

/// A request whose batches were checked, and not submitted yet.
pub(crate) struct CheckedRequest {
    acks: i16,
    timeout: Duration,
    topics: Vec<ProduceTopic>,
    batches: Vec<Checked>,
}

/// What is to be done about a partition of a request.
struct Checked {
    index: i32,
    verdict: Result<(PartitionRef, CheckedBatch), PartitionAnswer>,
    /// Refused because another node leads.
    leaderless: Option<PartitionRef>,
    sent: Option<Sent>,
}

const _: () = assert!(
    size_of::<ProducePartition>() + size_of::<Checked>() + size_of::<Slot>() + BYTES_PER_BATCH <= PARTITION_COST,
    "what a partition takes is counted when it is decoded"
);

/// Checks every batch, in the order of the request.
pub(crate) async fn check(context: &Context, header: &RequestHeader, request: ProduceRequest) -> CheckedRequest {
    let ProduceRequest { acks, timeout_ms, topics, partitions, .. } = request;
    let known_acks = matches!(acks, -1..=1);
    let waits = if acks == -1 { Acks::All } else { Acks::Any };
    let mut batches = Vec::with_capacity(partitions.len());
    let mut partitions = partitions.into_iter();
    let mut bytes = 0;
    for topic in &topics {
        let found = find(context, &topic.key);
        let apart = told_apart(&topic.key);
        for ProducePartition { index, records } in partitions.by_ref().take(topic.partitions) {
            bytes += records.as_ref().map_or(0, Bytes::len);
            if bytes >= CHECKED_BYTES_MAX {
                bytes = 0;
                yield_now().await;
            }
            let sent = records.as_ref().and_then(|records| Sent::read(apart, index, records));
            let place = Place { key: &topic.key, topic: found.as_ref(), index };
            let verdict = check_batch(context, (header.version, waits), place, records);
            let verdict = if known_acks { verdict } else { Err(without_acks(verdict)) };
            let is_leaderless = verdict.as_ref().is_err_and(|answer| answer.error == NOT_LEADER_OR_FOLLOWER);
            let leaderless =
                found.as_ref().filter(|_| is_leaderless).and_then(|topic| PartitionRef::new(Arc::clone(topic), index));
            batches.push(Checked { index, verdict, leaderless, sent });
        }
    }
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    CheckedRequest { acks, timeout, topics, batches }
}

/// The answer to a batch in a request whose acks mean nothing. As in Kafka, a partition that does not exist and records
/// that are no batch come first.
fn without_acks(verdict: Result<(PartitionRef, CheckedBatch), PartitionAnswer>) -> PartitionAnswer {
    match verdict {
        Err(answer)
            if matches!(
                answer.error,
                UNKNOWN_TOPIC_OR_PARTITION | UNKNOWN_TOPIC_ID | INVALID_RECORD | UNSUPPORTED_COMPRESSION_TYPE
            ) =>
        {
            answer
        }
        Ok(_) | Err(_) => PartitionAnswer::refused(INVALID_REQUIRED_ACKS),
    }
}

fn find(context: &Context, key: &TopicKey) -> Option<Arc<Topic>> {
    match key {
        TopicKey::Name(name) => context.broker().topics().resolve(name.as_str()),
        TopicKey::Id(id) => context.broker().topics().resolve_id(*id),
    }
}

/// Which partition a batch is for, and what is known of its topic.
struct Place<'a> {
    key: &'a TopicKey,
    topic: Option<&'a Arc<Topic>>,
    index: i32,
}

fn check_batch(
    context: &Context,
    (version, acks): (i16, Acks),
    place: Place<'_>,
    records: Option<Bytes>,
) -> Result<(PartitionRef, CheckedBatch), PartitionAnswer> {
    let Some(topic) = place.topic else {
        return Err(PartitionAnswer::refused(match place.key {
            TopicKey::Name(_) => UNKNOWN_TOPIC_OR_PARTITION,
            TopicKey::Id(_) => UNKNOWN_TOPIC_ID,
        }));
    };
    let Some(partition) = PartitionRef::new(Arc::clone(topic), place.index) else {
        return Err(PartitionAnswer::refused(UNKNOWN_TOPIC_OR_PARTITION));
    };
    let Some(records) = records else {
        return Err(PartitionAnswer::refused(INVALID_RECORD));
    };
    if version < ZSTD_SINCE && records.get(ATTRIBUTES_AT).is_some_and(|bits| bits & COMPRESSION_BITS == ZSTD) {
        return Err(PartitionAnswer::refused(UNSUPPORTED_COMPRESSION_TYPE));
    }
    match context.broker().check(&partition, records, acks) {
        Ok(batch) => Ok((partition, batch)),
        Err(error) => Err(refusal(error, &partition)),
    }
}

impl Produce {
    pub(crate) const fn version(&self) -> i16 {
        self.header.version
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.at == self.slots.len()
    }

    /// Ready when every batch is durable or refused. Only the first that waits is asked: all have to be done, and
    /// its end wakes us to ask the next.
    pub(crate) fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        while let Some(slot) = self.slots.get_mut(self.at) {
            match &mut slot.state {
                State::Done(_) => self.at += 1,
                State::Waiting { pending, partition } => match ready!(Pin::new(pending).poll(task)) {
                    Err(ProduceError::NotLeader) => {
                        slot.state = State::Leaderless { partition: partition.clone() };
                    }
                    result => slot.state = State::Done(answer(result, partition)),
                },
                State::Leaderless { partition } => {
                    // One time limit for all: who waits for many would wait too long.
                    let until = *self.leaders_until.get_or_insert_with(|| now() + LEADER_WAIT_MAX);
                    let known = self.leader_known.get_or_insert_with(|| Box::pin(partition.succeeded(until)));
                    ready!(known.as_mut().poll(task));
                    self.leader_known = None;
                    slot.state = State::Done(refusal(ProduceError::NotLeader, partition));
                }
            }
        }
        Poll::Ready(())
    }

    /// Polls a request whose answer cannot be sent yet. When it is complete it lets go of what was sent.
    pub(crate) fn settle(&mut self, task: &mut TaskContext<'_>) {
        if self.hold.is_some() && self.poll(task).is_ready() {
            for topic in &mut self.topics {
                topic.key = topic.key.detached();
            }
            self.hold = None;
        }
    }

    /// At its deadline a request stops waiting; its batches may still become durable.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now < self.deadline || self.is_complete() {
            return;
        }
        // What is done already is told as it is, not as timed out.
        let task = &mut TaskContext::from_waker(std::task::Waker::noop());
        for slot in &mut self.slots {
            let ended = match &mut slot.state {
                State::Done(_) => continue,
                State::Waiting { pending, partition } => match Pin::new(pending).poll(task) {
                    Poll::Ready(result) => answer(result, partition),
                    Poll::Pending => PartitionAnswer::refused(REQUEST_TIMED_OUT),
                },
                State::Leaderless { partition } => refusal(ProduceError::NotLeader, partition),
            };
            slot.state = State::Done(ended);
        }
        self.at = self.slots.len();
    }

    /// Tells `sequences` what became of the batches of a complete request, which MUST be the oldest.
    pub(crate) fn settle_sequences(&mut self, sequences: &mut Sequences, now: Instant) {
        for slot in &mut self.slots {
            if let (Some(sent), State::Done(answer)) = (&slot.sent, &mut slot.state) {
                let due = answer.detail.as_ref().and_then(|detail| detail.due).map(Sequence);
                let told = sequences.settle(sent, answer.error, due, now);
                if answer.error != NONE {
                    tracing::debug!(?sent, error = answer.error, ?due, told, "batch of an idempotent producer refused");
                }
                if told != answer.error {
                    *answer = PartitionAnswer::refused(told);
                }
            }
        }
    }

    /// The response of a complete request; none to a client that wants none.
    pub(crate) fn answer(mut self, shared: &Shared) -> Result<Option<Response>, Unanswerable> {
        debug_assert!(self.is_complete());
        let endpoints = self.name_leaders(shared);
        let answers = || {
            self.slots.iter().filter_map(|slot| match &slot.state {
                State::Done(answer) => Some((slot.index, answer)),
                State::Waiting { .. } | State::Leaderless { .. } => None,
            })
        };
        if self.acks == 0 {
            return match answers().find(|(_, answer)| answer.error != NONE) {
                Some((_, answer)) => Err(Unanswerable::Failed { code: answer.error }),
                None => Ok(None),
            };
        }
        let version = self.header.version;
        let mut builder = ResponseBuilder::new(&self.header, 64 + 64 * self.slots.len());
        let flexible = self.header.api.is_flexible(version);
        write_response(
            builder.head(),
            version,
            flexible,
            &self.topics,
            answers(),
            endpoints.as_deref().map_or(&[], Endpoints::all),
        );
        builder.finish().map(Some).map_err(Unanswerable::Encode)
    }
}

impl Produce {
    /// Leaves out leaders that clients of the listener cannot reach; the nodes, if one is left that is named.
    fn name_leaders(&mut self, shared: &Shared) -> Option<Arc<Endpoints>> {
        let mut endpoints = None;
        let mut is_named = false;
        for slot in &mut self.slots {
            if let State::Done(PartitionAnswer { detail: Some(detail), .. }) = &mut slot.state
                && let Some((leader, _)) = detail.current_leader
            {
                let endpoints = endpoints.get_or_insert_with(|| shared.endpoints());
                detail.current_leader.take_if(|_| !endpoints.lists(leader));
                is_named |= detail.current_leader.is_some();
            }
        }
        endpoints.filter(|_| is_named)
    }
}

fn answer(result: Result<Produced, ProduceError>, partition: &PartitionRef) -> PartitionAnswer {
    match result {
        Ok(produced) => PartitionAnswer {
            error: NONE,
            base_offset: produced.base_offset,
            log_append_time_ms: produced.log_append_time.map_or(-1, |time| time.0),
            log_start_offset: partition.partition().log_start(produced.log_start_offset),
            detail: None,
        },
        Err(error) => refusal(error, partition),
    }
}

fn refusal(error: ProduceError, partition: &PartitionRef) -> PartitionAnswer {
    let mut answer = PartitionAnswer::refused(error.code());
    let detail = match error {
        ProduceError::NotLeader | ProduceError::Stopped => {
            let leader = partition.leader_now();
            let Some(node) = leader.node else { return answer };
            AnswerDetail { current_leader: Some((node_id(node), leader.epoch)), ..AnswerDetail::default() }
        }
        ProduceError::InvalidTimestamp { records, message } | ProduceError::InvalidRecords { records, message } => {
            AnswerDetail {
                record_errors: records.into_iter().map(|record| (record.index, record.message)).collect(),
                message: Some(message),
                ..AnswerDetail::default()
            }
        }
        error @ (ProduceError::InvalidBatch(_)
        | ProduceError::TransactionsUnsupported
        | ProduceError::MessageTooLarge { .. }
        | ProduceError::TooManyProducers
        | ProduceError::OffsetsExhausted
        | ProduceError::NotEnoughReplicas { .. }
        | ProduceError::DiskFull) => {
            tracing::debug!(topic = %partition.topic().name, partition = partition.index(), %error, "batch refused");
            AnswerDetail { message: Some(error.to_string()), ..AnswerDetail::default() }
        }
        ProduceError::OutOfOrderSequence { expected, .. } if partition.may_be_led_elsewhere() => {
            AnswerDetail { due: Some(expected), ..AnswerDetail::default() }
        }
        ProduceError::UnknownTopicOrPartition
        | ProduceError::OutOfOrderSequence { .. }
        | ProduceError::InvalidProducerEpoch { .. }
        | ProduceError::UnknownFate
        | ProduceError::Busy => return answer,
    };
    answer.detail = Some(Box::new(detail));
    answer
}
