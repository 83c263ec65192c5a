//! What the log must know of a batch without ever looking into its records.

use crate::{Compression, ProducerEpoch, ProducerId, Sequence, TimestampMs, TimestampType};

/// What an idempotent producer writes into each of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: Sequence,
}

/// A checked batch, in a few numbers. It takes `record_count` offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// Of the whole batch, header included.
    pub bytes: u32,
    /// At least one.
    pub record_count: u32,
    pub compression: Compression,
    pub timestamp_type: TimestampType,
    pub base_timestamp: TimestampMs,
    /// As the header says it.
    pub max_timestamp: TimestampMs,
    /// What the header's largest timestamp must be corrected to before the batch is stored; only known for a batch
    /// that is not compressed. Kafka's broker writes it anew, too.
    pub max_timestamp_correction: Option<TimestampMs>,
    pub producer: Option<ProducerStamp>,
    pub transactional: bool,
    pub control: bool,
}
