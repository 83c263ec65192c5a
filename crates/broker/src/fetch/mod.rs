//! Fetch: reads over many partitions with Kafka's limits, and readers that wait.
//!
//! ```text
//!  look at all partitions --> enough, an error, or no time to wait --------------------> answer
//!        ^                |
//!        |                 --> subscribe, look again, sleep until the missing bytes came,
//!        +---------------------  a topic went, leadership changed, or the time is up
//! ```
//! A look finds which batches would be read and how many bytes they are; they are read when the answer is given, as
//! many as there is memory for. A reader that waits has read nothing, and costs an append one counter.

use base::memory::Permit;
use base::time::Duration;

use crate::topics::PartitionRef;

mod answer;
mod elsewhere;
mod places;
mod read;
mod rules;
mod wait;

pub(crate) use places::check_leader;
pub(crate) use rules::{EpochMismatch, check_epoch};

pub use replica::StoredBatch;
pub use storage::{Chunk, Slice};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// Partitions that the protocol could not resolve are not part of it: they neither end the wait nor count.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// Read in this order; bytes are given out in this order.
    pub partitions: Vec<FetchPartition>,
    pub bytes_min: i32,
    pub bytes_max: i32,
    pub wait_max: Duration,
    pub isolation: Isolation,
}

#[derive(Debug, Clone)]
pub struct FetchPartition {
    pub partition: PartitionRef,
    pub fetch_offset: i64,
    pub bytes_max: i32,
    /// -1: not checked.
    pub current_leader_epoch: i32,
    /// -1: not checked.
    pub last_fetched_epoch: i32,
}

/// The answer to a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// One per partition of the request, in its order.
    pub partitions: Vec<FetchedPartition>,
    /// The answer's part of the memory budget: to be held until the answer is sent.
    pub memory: Permit,
    /// The same for what other nodes gave.
    pub memory_of_brought: Permit,
}

impl Fetched {
    /// Whether nothing was read for lack of memory.
    pub fn lacks_memory(&self) -> bool {
        self.partitions.iter().any(|partition| partition.error == Some(FetchError::NoMemory))
    }
}

#[derive(Debug)]
pub struct FetchedPartition {
    pub error: Option<FetchError>,
    /// -1 when there is an error, like the two below.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// The reader's log diverges: it must truncate to this epoch and end offset (KIP-595).
    pub diverging_epoch: Option<EpochEnd>,
    /// Whole batches, in order, each to be sent with its prefix patched in front. The first may begin before the
    /// fetch offset.
    pub batches: Vec<StoredBatch>,
    /// Sum of the batches' bytes.
    pub bytes: u64,
    /// What counts for the end of the wait: the limit, if the stream goes on behind a batch that did not fit.
    pub(crate) counted: u64,
    /// Another node gave the batches, which have memory of their own.
    pub(crate) is_brought: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the fetch offset is out of range")]
    OffsetOutOfRange,
    /// The topic was deleted (a protocol that asked by id says so in its own way).
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the reader's leader epoch is older than the current one")]
    FencedLeaderEpoch,
    #[error("the reader's leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    /// It cannot be read now.
    #[error("the data cannot be read: {0}")]
    Storage(String),
    /// What lies there is not what was written, or nothing does; it stays so.
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// Others hold the memory for answers, and went on to.
    #[error("there is no memory for the answer")]
    NoMemory,
    #[error("the broker is stopping")]
    Stopped,
}

impl FetchedPartition {
    fn failed(error: FetchError) -> Self {
        Self {
            error: Some(error),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            batches: Vec::new(),
            bytes: 0,
            counted: 0,
            is_brought: false,
        }
    }
}
