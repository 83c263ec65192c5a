//! A batch that comes again behind more than its shard remembers of its producer.
//!
//! Kafka calls it out of order, and its producer, which sends it until its time is over, tells the application that its
//! fate is not known. What a shard takes of a producer it takes without gaps, so what is before the one that is due is in the
//! log or was never sent there; the log says which.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use record::{BatchSummary, ProducerStamp, Sequence, StreamId, TimestampMs};
use replica::Replica;

use super::{ProduceError, Produced};

/// What a batch is found again by.
#[derive(Debug)]
pub(super) struct Sent {
    replica: Replica,
    stream: StreamId,
    stamp: ProducerStamp,
    records: u32,
}

impl Sent {
    pub(super) fn new(replica: Replica, stream: StreamId, summary: &BatchSummary) -> Option<Self> {
        summary.producer.map(|stamp| Self { replica, stream, stamp, records: summary.record_count })
    }

    /// Whether what was refused with `error` may have been appended before.
    pub(super) fn may_be_there(&self, error: &ProduceError) -> bool {
        match error {
            ProduceError::OutOfOrderSequence { expected, .. } => {
                Sequence(*expected).is_behind(self.stamp.base_sequence)
            }
            _ => false,
        }
    }

    /// Looks for it; who made it is told `error` when it is not there.
    pub(super) fn search(self, error: ProduceError, log_append_time: Option<TimestampMs>) -> Search {
        Search(Box::pin(async move {
            let Self { replica, stream, stamp, records } = self;
            match replica.find_repeated(stream, stamp, records).await {
                Ok(Some(found)) => Ok(Produced {
                    base_offset: found.base_offset.0,
                    log_append_time: log_append_time.map(|_| found.max_timestamp),
                    log_start_offset: found.first_offset.0,
                    duplicate: true,
                }),
                Ok(None) => Err(error),
                Err(failure) => {
                    tracing::warn!(%failure, ?stream, ?stamp, "a batch that comes again cannot be looked for");
                    Err(error)
                }
            }
        }))
    }
}

/// On its way through the log.
pub(super) struct Search(Pin<Box<dyn Future<Output = Result<Produced, ProduceError>> + Send>>);

impl Search {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Produced, ProduceError>> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Search")
    }
}
