//! Appends: what a batch must satisfy before it is proposed, and what its producer is told.
//!
//! The order of calls to [`Broker::produce`] on one partition is the order of the appends: everything up to the
//! proposal happens inside the call, only the wait for the quorum happens in the returned future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use record::{BatchError, NodeId, TimestampMs};

use crate::topics::PartitionRef;
use crate::Broker;

/// What a producer is told about a batch that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the batch's first record; of the original one when the batch is a duplicate.
    pub base_offset: i64,
    /// The time written into the batch when the topic uses `LogAppendTime`.
    pub log_append_time: Option<TimestampMs>,
    pub log_start_offset: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader { leader: Option<NodeId> },
    #[error("the batch of {bytes} bytes exceeds max.message.bytes {limit}")]
    MessageTooLarge { bytes: usize, limit: usize },
    /// The bytes are no valid batch: `BatchError` says whether they are corrupt or break a rule.
    #[error(transparent)]
    InvalidBatch(#[from] BatchError),
    #[error("control records cannot be written by clients")]
    ControlBatch,
    /// Nobody waits for transactions here yet; clients must not repeat this.
    #[error("transactions are not supported")]
    TransactionsUnsupported,
    #[error("a timestamp is out of the topic's range")]
    InvalidTimestamp { records: Vec<InvalidRecord> },
    #[error("sequence {actual} where {expected} was due")]
    OutOfOrderSequence { expected: i32, actual: i32 },
    #[error("the producer's epoch is older than the current one")]
    InvalidProducerEpoch,
    #[error("the producer is unknown and its batch is not its first")]
    UnknownProducerId,
    #[error("the shard remembers as many producers as it may")]
    TooManyProducers,
    /// The disk is nearly full; writing resumes by itself.
    #[error("the disk is full")]
    DiskFull,
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
#[must_use = "the append's fate is in the future"]
pub struct PendingProduce(Pin<Box<dyn Future<Output = Result<Produced, ProduceError>> + Send>>);

impl std::fmt::Debug for PendingProduce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingProduce")
    }
}

impl Future for PendingProduce {
    type Output = Result<Produced, ProduceError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl Broker {
    /// Validates the batch and proposes it; the future ends when it is durable on a quorum, or refused.
    /// `batch` is the records field of a produce request: exactly one v2 batch is allowed.
    pub fn produce(&self, partition: &PartitionRef, batch: Bytes) -> PendingProduce {
        let _ = (partition, batch);
        todo!()
    }

    /// Waits until the partition's shard takes more bytes; call it before reading more from a socket.
    pub async fn ready_to_produce(&self, partition: &PartitionRef) {
        let _ = partition;
        todo!()
    }
}
