//! Appends: what a batch must satisfy before it is proposed, and what its producer is told.
//!
//! The order of calls to [`Broker::append`] on one partition is the order of the appends: the proposal happens inside
//! the call, only the wait for the quorum happens in the returned future. What a batch must satisfy is checked before,
//! so that whoever has several batches knows which of them will stay when the first is proposed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use base::time::{Instant, timeout_at};
use bytes::Bytes;
use record::{BatchError, BatchSummary, Patched, ProducerId, TimestampMs, TimestampType};
use replica::{Pending, ProposeError, Replica};
use shard::{AppendError, Outcome};
use smallvec::smallvec;
use storage::Payload;

use crate::Broker;
use crate::topics::PartitionRef;

mod keys;
mod repeated;
mod timestamps;

use repeated::Sent;

/// What a producer is told about a batch that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the batch's first record; of the original one when the batch is a duplicate.
    pub base_offset: i64,
    /// The time written into the batch when the topic uses `LogAppendTime`.
    pub log_append_time: Option<TimestampMs>,
    /// Of what is on the shard: see [`Partition::log_start`](crate::topics::Partition::log_start).
    pub log_start_offset: i64,
    /// The batch had been appended before; nothing was appended now.
    pub duplicate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
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
    /// Records of the batch break a rule of the topic.
    #[error("{message}")]
    InvalidRecords { records: Vec<InvalidRecord>, message: String },
    #[error("sequence {actual} where {expected} was due")]
    OutOfOrderSequence { expected: i32, actual: i32 },
    #[error("the producer's epoch {actual} is older than {current}")]
    InvalidProducerEpoch { current: i16, actual: i16 },
    #[error("the shard remembers as many producers as it may")]
    TooManyProducers,
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
    /// What would be acknowledged would be on fewer nodes than the topic asks for; nothing was appended.
    #[error(
        "{copies} of the partition's replicas would have what is acknowledged, {wanted} are asked for by min.insync.replicas"
    )]
    NotEnoughReplicas { copies: usize, wanted: usize },
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
    Proposed {
        pending: Pending,
        bytes: usize,
        log_append_time: Option<TimestampMs>,
        /// Of an idempotent producer.
        sent: Option<Sent>,
    },
    /// It may have been appended longer ago than the shard remembers.
    Sought(repeated::Search),
    Done,
}

/// What a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Whatever copies there are.
    Any,
    /// As many as the topic asks for (`min.insync.replicas`): where there are fewer, nothing is appended.
    All,
}

/// A batch that may be appended: its form and its timestamps were checked.
#[derive(Debug)]
pub struct CheckedBatch {
    /// This node's copy of the partition it is for, which led when it was checked.
    replica: Replica,
    summary: BatchSummary,
    batch: Bytes,
    is_shared: bool,
    /// So many nodes must have it when it is acknowledged.
    copies_min: u8,
}

impl CheckedBatch {
    /// Bytes that it keeps of the buffer that it came in: none when it was copied on the way.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        if self.is_shared { self.batch.len() } else { 0 }
    }

    /// Waits until the partition's shard takes more bytes; to be called before the append.
    pub async fn ready(&self) {
        self.replica.ready().await;
    }

    /// Copies the batch out of the buffer that it came in.
    pub fn detach(&mut self) {
        if self.is_shared {
            self.batch = Bytes::copy_from_slice(&self.batch);
            self.is_shared = false;
        }
    }
}

impl Broker {
    /// [`Self::check`] and [`Self::append`] at once.
    pub fn produce(&self, partition: &PartitionRef, batch: Bytes) -> PendingProduce {
        match self.check(partition, batch, Acks::All) {
            Ok(checked) => self.append(partition, checked),
            Err(error) => PendingProduce::refused(error),
        }
    }

    /// Decides whether, and with which header, a batch is stored. `batch` is the records field of a produce request:
    /// exactly one batch of format 2. Takes time for its bytes, and unpacks nothing, unless the topic is compacted.
    pub fn check(&self, partition: &PartitionRef, batch: Bytes, acks: Acks) -> Result<CheckedBatch, ProduceError> {
        let Some(replica) = partition.partition().replica().filter(Replica::is_leader) else {
            return Err(ProduceError::NotLeader);
        };
        let settings = &partition.topic().settings;
        let copies_min = match acks {
            Acks::Any => 0,
            Acks::All => settings.in_sync_min,
        };
        check_copies(&replica, copies_min)?;
        let limit = settings.message_bytes_max.min(self.config().batch_bytes_max);
        if batch.len() > limit {
            return Err(ProduceError::MessageTooLarge { bytes: batch.len(), limit });
        }
        let summary = record::validate(&batch)?;
        if summary.transactional {
            return Err(ProduceError::TransactionsUnsupported);
        }
        if settings.retention.compacts {
            keys::check(&batch, partition)?;
        }
        match settings.timestamp_type {
            TimestampType::LogAppendTime => Ok(CheckedBatch { replica, summary, batch, is_shared: true, copies_min }),
            TimestampType::CreateTime => {
                let now = TimestampMs(self.environment().wall_clock.now_ms());
                let came_at = batch.as_ptr();
                let (summary, batch) = timestamps::with_create_time(summary, batch)?;
                timestamps::check(&summary, &batch, settings, now)?;
                let is_shared = batch.as_ptr() == came_at;
                Ok(CheckedBatch { replica, summary, batch, is_shared, copies_min })
            }
        }
    }

    /// Proposes a batch that was checked for this partition; the future ends when it is durable on a quorum, or refused.
    /// Of a buffer that it came in, the batches for one shard MUST be at least a quarter, and be appended together: the
    /// log counts their bytes only (see [`CheckedBatch::detach`]).
    pub fn append(&self, partition: &PartitionRef, batch: CheckedBatch) -> PendingProduce {
        match self.stamp(partition, batch) {
            Ok(Stamped { replica, summary, batch, log_append_time }) => {
                let bytes = summary.bytes as usize;
                assert_eq!(bytes, batch.len(), "the summary is that of the batch");
                let stream = partition.partition().stream;
                let pending = replica.append(smallvec![stream], summary, batch);
                let sent = Sent::new(replica, stream, &summary);
                PendingProduce(State::Proposed { pending, bytes, log_append_time, sent })
            }
            Err(error) => PendingProduce::refused(error),
        }
    }

    /// Whether the partition's shard knows the producer, and goes on to for minutes: it then takes no batch that is not
    /// the next one of it.
    pub fn knows_producer(&self, partition: &PartitionRef, producer: ProducerId) -> bool {
        let partition = partition.partition();
        partition.replica().is_some_and(|replica| replica.remembers_producer(partition.stream, producer))
    }

    /// The batch as it is stored: with the time of now where the topic wants that.
    fn stamp(&self, partition: &PartitionRef, checked: CheckedBatch) -> Result<Stamped, ProduceError> {
        let CheckedBatch { replica, summary, batch, is_shared: _, copies_min } = checked;
        // It may have waited for others to be appended while the members changed.
        check_copies(&replica, copies_min)?;
        match partition.topic().settings.timestamp_type {
            TimestampType::LogAppendTime => {
                let now = TimestampMs(self.environment().wall_clock.now_ms());
                let Patched { header, records } = record::with_log_append_time(&batch, now)?;
                let summary = BatchSummary {
                    timestamp_type: TimestampType::LogAppendTime,
                    max_timestamp: now,
                    max_timestamp_correction: None,
                    ..summary
                };
                let batch = Payload::from_iter([header, records]);
                Ok(Stamped { replica, summary, batch, log_append_time: Some(now) })
            }
            TimestampType::CreateTime => {
                Ok(Stamped { replica, summary, batch: Payload::from_iter([batch]), log_append_time: None })
            }
        }
    }
}

/// Whether what is appended now is on so many nodes when it is acknowledged.
fn check_copies(replica: &Replica, wanted: u8) -> Result<(), ProduceError> {
    let (copies, wanted) = (replica.copies_min(), usize::from(wanted));
    if copies < wanted { Err(ProduceError::NotEnoughReplicas { copies, wanted }) } else { Ok(()) }
}

impl PartitionRef {
    /// Returns when this node knows which other one leads the partition, and in which epoch, or at `until`: who was
    /// refused because another leads is best told then. The same of a partition that goes on on another shard.
    pub fn succeeded(&self, until: Instant) -> impl Future<Output = ()> + Send + use<> {
        let replica = self.partition().replica();
        let moving = self.partition().has_ended().then(|| self.clone());
        async move {
            if let Some(partition) = moving {
                let _ = timeout_at(until, partition.moved()).await;
                return;
            }
            // Without a copy of the shard it is what others told.
            if let Some(replica) = replica {
                let _ = timeout_at(until, replica.succeeded()).await;
            }
        }
    }
}

/// A batch as it is proposed.
struct Stamped {
    replica: Replica,
    summary: BatchSummary,
    batch: Payload,
    log_append_time: Option<TimestampMs>,
}

impl PendingProduce {
    const fn refused(error: ProduceError) -> Self {
        Self(State::Refused(error))
    }
}

impl Future for PendingProduce {
    type Output = Result<Produced, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut search = match std::mem::replace(&mut self.0, State::Done) {
            State::Refused(error) => return Poll::Ready(Err(error)),
            State::Proposed { mut pending, bytes, log_append_time, sent } => {
                let Poll::Ready(result) = Pin::new(&mut pending).poll(context) else {
                    self.0 = State::Proposed { pending, bytes, log_append_time, sent };
                    return Poll::Pending;
                };
                match (produced(result, bytes, log_append_time), sent) {
                    (Err(error), Some(sent)) if sent.may_be_there(&error) => sent.search(error, log_append_time),
                    (result, _) => return Poll::Ready(result),
                }
            }
            State::Sought(search) => search,
            State::Done => unreachable!("a future is not polled after its end"),
        };
        let sought = search.poll(context);
        if sought.is_pending() {
            self.0 = State::Sought(search);
        }
        sought
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
    // The original of a duplicate may be on the shard where the partition was before.
    assert!(
        appended.duplicate || appended.base_offset.0 >= appended.log_start_offset.0,
        "what was appended is still there"
    );
    Ok(Produced {
        base_offset: appended.base_offset.0,
        log_append_time: appended.log_append_time.or(log_append_time),
        log_start_offset: appended.log_start_offset.0,
        duplicate: appended.duplicate,
    })
}

fn not_proposed(error: ProposeError, bytes: usize) -> ProduceError {
    match error {
        ProposeError::NotLeader { .. } => ProduceError::NotLeader,
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
        // It goes on on another shard, of which the metadata tell now or in a moment.
        AppendError::Closed => ProduceError::NotLeader,
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
