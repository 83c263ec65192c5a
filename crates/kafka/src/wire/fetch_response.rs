//! The response to Fetch. Payload is handed on as slices of memory or ranges of files; only the 16 bytes in front of
//! each batch, which are outside its CRC, are written anew.

use std::sync::Arc;

use base::disk::File;
use bytes::{BufMut, Bytes};
use record::{BATCH_PREFIX, LENGTH_OVERHEAD, LeaderEpoch, StreamOffset, read_prefix};

use super::produce::{NodeEndpoint, TopicKey, write_leader_tag, write_node_endpoints};
use super::response::ResponseBuilder;
use super::write::Write;

/// What one partition is told, besides its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionHead {
    pub(crate) index: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// Epoch and end offset to truncate to.
    pub(crate) diverging_epoch: Option<(i32, i64)>,
    /// Leader and its epoch, for a client that asked the wrong node (KIP-951).
    pub(crate) current_leader: Option<(i32, i32)>,
    pub(crate) aborted: Aborted,
}

/// The list of aborted transactions. There are no transactions; Kafka answers null to who reads uncommitted, and for a
/// partition that exists and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aborted {
    Null,
    Empty,
}

impl PartitionHead {
    pub(crate) const fn refused(index: i32, error: i16, aborted: Aborted) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted,
        }
    }
}

/// Where a piece of a batch lies.
pub(crate) enum Piece {
    Memory(Bytes),
    File { file: Arc<dyn File>, position: u64, len: u64 },
}

pub(crate) fn begin(
    builder: &mut ResponseBuilder,
    version: i16,
    flexible: bool,
    error: i16,
    session_id: i32,
    topics: usize,
) {
    let head = builder.head();
    head.put_i32(0);
    if version >= 7 {
        head.put_i16(error);
        head.put_i32(session_id);
    }
    head.count(flexible, topics);
}

pub(crate) fn begin_topic(builder: &mut ResponseBuilder, flexible: bool, key: &TopicKey, partitions: usize) {
    key.write(builder.head(), flexible);
    builder.head().count(flexible, partitions);
}

/// Everything of a partition up to its batches, of which `records_bytes` follow.
pub(crate) fn begin_partition(
    builder: &mut ResponseBuilder,
    version: i16,
    flexible: bool,
    partition: &PartitionHead,
    records_bytes: u64,
) {
    let head = builder.head();
    head.put_i32(partition.index);
    head.put_i16(partition.error);
    head.put_i64(partition.high_watermark);
    head.put_i64(partition.last_stable_offset);
    if version >= 5 {
        head.put_i64(partition.log_start_offset);
    }
    match partition.aborted {
        Aborted::Empty => head.count(flexible, 0),
        Aborted::Null if flexible => head.put_u8(0),
        Aborted::Null => head.put_i32(-1),
    }
    if version >= 11 {
        head.put_i32(-1); // preferred read replica
    }
    let records_bytes = usize::try_from(records_bytes).unwrap_or(usize::MAX);
    head.count(flexible, records_bytes);
}

/// One batch: its prefix with the offset and epoch that the log gave it, then its own bytes behind theirs.
pub(crate) fn batch(
    builder: &mut ResponseBuilder,
    base_offset: StreamOffset,
    epoch: LeaderEpoch,
    bytes: u32,
    pieces: impl Iterator<Item = Piece>,
) {
    let length = i32::try_from(bytes as usize - LENGTH_OVERHEAD).expect("a batch is far below 2 GiB");
    builder.head().extend_from_slice(&read_prefix(base_offset, length, epoch));
    let mut prefix_left = BATCH_PREFIX;
    for piece in pieces {
        match piece {
            Piece::Memory(mut memory) => {
                let skipped = prefix_left.min(memory.len());
                prefix_left -= skipped;
                builder.memory(memory.split_off(skipped));
            }
            Piece::File { file, position, len } => {
                let skipped = (prefix_left as u64).min(len);
                prefix_left -= usize::try_from(skipped).unwrap_or(prefix_left);
                builder.file(file, position + skipped, len - skipped);
            }
        }
    }
}

pub(crate) fn end_partition(builder: &mut ResponseBuilder, flexible: bool, partition: &PartitionHead) {
    if !flexible {
        return;
    }
    let head = builder.head();
    let tags = u32::from(partition.diverging_epoch.is_some()) + u32::from(partition.current_leader.is_some());
    head.varint(tags);
    if let Some((epoch, end_offset)) = partition.diverging_epoch {
        head.varint(0);
        head.varint(13);
        head.put_i32(epoch);
        head.put_i64(end_offset);
        head.no_tags(true);
    }
    if let Some(leader) = partition.current_leader {
        write_leader_tag(head, 1, leader);
    }
}

pub(crate) fn end_topic(builder: &mut ResponseBuilder, flexible: bool) {
    builder.head().no_tags(flexible);
}

pub(crate) fn end(builder: &mut ResponseBuilder, version: i16, flexible: bool, endpoints: &[NodeEndpoint]) {
    if flexible {
        write_node_endpoints(builder.head(), if version >= 16 { endpoints } else { &[] });
    }
}
