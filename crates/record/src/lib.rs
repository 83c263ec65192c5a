//! Record batches: the unit that is stored, replicated and read, byte for byte as the producer sent it, in the
//! layout of Kafka's record batch of magic 2. And the ids that every crate above speaks in.
//!
//! Nothing here reads a clock, a file or a socket, and nothing copies a record's bytes unless they were compressed.

mod entry;
mod error;
mod header;
mod ids;
mod summary;

pub use entry::{BatchEntry, Extent};
pub use error::{BatchError, RecordError};
pub use header::{
    Attributes, BATCH_OVERHEAD, BATCH_PREFIX, BatchHeader, CRC_START, Compression, LENGTH_OVERHEAD, MAGIC,
    TimestampType, read_prefix,
};
pub use ids::{
    FileNumber, LeaderEpoch, LogIndex, NodeId, Partition, ProducerEpoch, ProducerId, Sequence, ShardId, StreamId,
    StreamOffset, Term, TimestampMs, TopicId,
};
pub use summary::{BatchSummary, ProducerStamp};
