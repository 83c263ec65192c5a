//! Appends: what a batch must satisfy before it is proposed, and what its producer is told.
//!
//! The order of calls to [`Broker::produce`] on one partition is the order of the appends: everything up to the
//! proposal happens inside the call, only the wait for the quorum happens in the returned future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use record::{BatchError, BatchSummary, NodeId, Patched, TimestampMs, TimestampType};
use replica::{Pending, ProposeError};
use shard::{AppendError, Outcome};
use smallvec::smallvec;
use storage::Payload;

use crate::Broker;
use crate::topics::PartitionRef;

mod timestamps;

/// What a producer is told about a batch that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the batch's first record; of the original one when the batch is a duplicate.
    pub base_offset: i64,
    /// The time written into the batch when the topic uses `LogAppendTime`.
    pub log_append_time: Option<TimestampMs>,
    pub log_start_offset: i64,
    /// The batch had been appended before; nothing was appended now.
    pub duplicate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader { leader: Option<NodeId> },
    #[error("the batch of {bytes} bytes exceeds the limit of {limit}")]
    MessageTooLarge { bytes: usize, limit: usize },
    /// The bytes are no valid batch: `BatchError` says whether they are corrupt or break a rule.
    #[error(transparent)]
    InvalidBatch(#[from] BatchError),
    /// Clients must not repeat this.
    #[error("transactions are not supported")]
    TransactionsUnsupported,
    /// `records` is empty when it is not known which they are.
    #[error("{message}")]
    InvalidTimestamp { records: Vec<InvalidRecord>, message: String },
    #[error("sequence {actual} where {expected} was due")]
    OutOfOrderSequence { expected: i32, actual: i32 },
    #[error("the producer's epoch {actual} is older than {current}")]
    InvalidProducerEpoch { current: i16, actual: i16 },
    #[error("the shard remembers as many producers as it may")]
    TooManyProducers,
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
    /// The disk is nearly full; writing resumes by itself.
    #[error("the disk is full")]
    DiskFull,
    /// Nothing was appended; it may be tried again.
    #[error("the broker is overloaded")]
    Busy,
    /// The append may or may not have happened.
    #[error("the fate of the append is unknown")]
    UnknownFate,
    #[error("the broker is stopping")]
    Stopped,
}

/// One record of a refused batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecord {
    /// Index in the batch.
    pub index: i32,
    pub message: String,
}

/// An append on its way. Dropping it does not take the append back.
#[derive(Debug)]
#[must_use = "the append's fate is in the future"]
pub struct PendingProduce(State);

#[derive(Debug)]
enum State {
    Refused(ProduceError),
    Proposed { pending: Pending, bytes: usize, log_append_time: Option<TimestampMs> },
    Done,
}

/// A batch that may be proposed.
struct Accepted {
    summary: BatchSummary,
    batch: Payload,
    log_append_time: Option<TimestampMs>,
}

impl Broker {
    /// Validates the batch and proposes it; the future ends when it is durable on a quorum, or refused.
    /// `batch` is the records field of a produce request: exactly one batch of format 2.
    pub fn produce(&self, partition: &PartitionRef, batch: Bytes) -> PendingProduce {
        let Some(replica) = partition.partition().replica() else {
            return PendingProduce(State::Refused(ProduceError::NotLeader { leader: None }));
        };
        match self.accept(partition, batch) {
            Ok(Accepted { summary, batch, log_append_time }) => {
                let bytes = summary.bytes as usize;
                assert_eq!(bytes, batch.len(), "the summary is that of the batch");
                let pending = replica.append(smallvec![partition.partition().stream], summary, batch);
                PendingProduce(State::Proposed { pending, bytes, log_append_time })
            }
            Err(error) => PendingProduce(State::Refused(error)),
        }
    }

    /// Waits until the partition's shard takes more bytes; to be called before reading more from a socket.
    pub async fn ready_to_produce(&self, partition: &PartitionRef) {
        if let Some(replica) = partition.partition().replica() {
            replica.ready().await;
        }
    }

    /// Everything that decides whether, and as which bytes, a batch is stored.
    fn accept(&self, partition: &PartitionRef, batch: Bytes) -> Result<Accepted, ProduceError> {
        let settings = &partition.topic().settings;
        let limit = settings.message_bytes_max.min(self.config().batch_bytes_max);
        if batch.len() > limit {
            return Err(ProduceError::MessageTooLarge { bytes: batch.len(), limit });
        }
        let summary = record::validate(&batch)?;
        if summary.transactional {
            return Err(ProduceError::TransactionsUnsupported);
        }
        let now = TimestampMs(self.environment().wall_clock.now_ms());
        match settings.timestamp_type {
            TimestampType::LogAppendTime => {
                let Patched { header, records } = record::with_log_append_time(&batch, now)?;
                let batch = Payload::from_iter([header, records]);
                let stamped = BatchSummary {
                    timestamp_type: TimestampType::LogAppendTime,
                    max_timestamp: now,
                    max_timestamp_correction: None,
                    ..summary
                };
                Ok(Accepted { summary: stamped, batch, log_append_time: Some(now) })
            }
            TimestampType::CreateTime => {
                let (summary, batch) = timestamps::with_create_time(summary, batch)?;
                timestamps::check(&summary, &batch, settings, now)?;
                Ok(Accepted { summary, batch: Payload::from_iter([batch]), log_append_time: None })
            }
        }
    }
}

impl Future for PendingProduce {
    type Output = Result<Produced, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, State::Done) {
            State::Refused(error) => Poll::Ready(Err(error)),
            State::Proposed { mut pending, bytes, log_append_time } => match Pin::new(&mut pending).poll(context) {
                Poll::Ready(result) => Poll::Ready(produced(result, bytes, log_append_time)),
                Poll::Pending => {
                    self.0 = State::Proposed { pending, bytes, log_append_time };
                    Poll::Pending
                }
            },
            State::Done => unreachable!("a future is not polled after its end"),
        }
    }
}

fn produced(
    result: Result<Outcome, ProposeError>,
    bytes: usize,
    log_append_time: Option<TimestampMs>,
) -> Result<Produced, ProduceError> {
    let outcomes = match result {
        Ok(Outcome::Append(outcomes)) => outcomes,
        Ok(other) => unreachable!("an append has its own outcome, not {other:?}"),
        Err(error) => return Err(not_proposed(error, bytes)),
    };
    assert_eq!(outcomes.len(), 1, "one stream was appended to");
    let outcome = outcomes.into_iter().next().expect("there is one outcome");
    let appended = outcome.map_err(not_appended)?;
    assert!(appended.base_offset.0 >= appended.log_start_offset.0, "what was appended is still there");
    Ok(Produced {
        base_offset: appended.base_offset.0,
        log_append_time: appended.log_append_time.or(log_append_time),
        log_start_offset: appended.log_start_offset.0,
        duplicate: appended.duplicate,
    })
}

fn not_proposed(error: ProposeError, bytes: usize) -> ProduceError {
    match error {
        ProposeError::NotLeader { leader } => ProduceError::NotLeader { leader },
        ProposeError::Busy => ProduceError::Busy,
        ProposeError::DiskFull => ProduceError::DiskFull,
        ProposeError::Unknown => ProduceError::UnknownFate,
        ProposeError::Stopped => ProduceError::Stopped,
        ProposeError::TooLarge { bytes_max, .. } => ProduceError::MessageTooLarge { bytes, limit: bytes_max },
    }
}

fn not_appended(error: AppendError) -> ProduceError {
    match error {
        AppendError::UnknownStream => ProduceError::UnknownTopicOrPartition,
        AppendError::OutOfOrderSequence { expected, actual, .. } => {
            ProduceError::OutOfOrderSequence { expected: expected.0, actual: actual.0 }
        }
        AppendError::InvalidProducerEpoch { current, actual, .. } => {
            ProduceError::InvalidProducerEpoch { current: current.0, actual: actual.0 }
        }
        AppendError::TooManyProducers { .. } => ProduceError::TooManyProducers,
        AppendError::InvalidBatch => ProduceError::InvalidBatch(BatchError::Empty),
        AppendError::Transactional => ProduceError::TransactionsUnsupported,
        // Its parts were dropped before the last one came: nothing was appended.
        AppendError::MissingParts | AppendError::IndexFull { .. } => ProduceError::Busy,
        AppendError::OffsetsExhausted => ProduceError::OffsetsExhausted,
    }
}
