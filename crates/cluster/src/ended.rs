//! Reads of streams that have ended on a shard: of another node's copy, where this one has none.

use std::io;

use base::time::Duration;
use bytes::{Bytes, BytesMut};
use record::{NodeId, ShardId, StreamId, StreamOffset, TimestampMs};
use replica::{Lane, StoredBatch, TimedOffset};
use thiserror::Error;

use crate::cluster::Cluster;
use crate::messages::Phase;
use crate::peers::Subject;
use crate::reads::{ANSWER_BYTES_MAX, Batches, ByTime, Found, ReadRequest, decode_timed, found};

/// How long one node has to answer before another is asked.
const READ_WAIT_MAX: Duration = Duration::from_secs(3);

/// Batches of a stream that has ended.
#[derive(Debug)]
pub struct EndedRange {
    /// In order, whole; the first holds the offset that was asked for.
    pub batches: Vec<StoredBatch>,
    /// Behind the last record that the stream has on the shard, as far as the node that answered knew.
    pub next_offset: StreamOffset,
}

/// Why nothing was read.
#[derive(Debug, Error)]
pub enum EndedError {
    /// Ask again with so many.
    #[error("the first batch has {bytes} bytes")]
    TooLarge { bytes: usize },
    #[error("no other node that is here has the shard {shard}")]
    Nobody { shard: ShardId },
    #[error("node {node} does not give what the stream had on shard {shard}: {source}")]
    Refused { shard: ShardId, node: NodeId, source: io::Error },
}

impl Cluster {
    /// Reads batches of a stream that has ended on `shard`, from a node that has a copy: from the one that holds `from`
    /// on, up to `bytes_max` in all and some megabytes at most, but for a first one that has more.
    ///
    /// # Errors
    /// When nobody gives any, or the first has more than `bytes_max` bytes.
    pub async fn read_ended(
        &self,
        shard: ShardId,
        stream: StreamId,
        from: StreamOffset,
        bytes_max: usize,
    ) -> Result<EndedRange, EndedError> {
        let bytes_each = u32::try_from(bytes_max.min(ANSWER_BYTES_MAX)).expect("a few megabytes");
        let mut asked = Batches { stream, from, skip: 0, bytes_max: bytes_each };
        let (_, first) = self.ask_any(shard, asked).await?;
        let Found { batches, bytes, next_offset } = first;
        let Some(head) = batches.first() else { unreachable!("an answer without a batch is none") };
        if head.bytes as usize > bytes_max {
            return Err(EndedError::TooLarge { bytes: head.bytes as usize });
        }
        if bytes.len() >= head.bytes as usize {
            return Ok(EndedRange { batches: cut(&batches, bytes), next_offset });
        }
        let mut whole = BytesMut::with_capacity(head.bytes as usize);
        whole.extend_from_slice(&bytes);
        while whole.len() < head.bytes as usize {
            asked.skip = u32::try_from(whole.len()).expect("a part of a batch");
            // Its place is the same on every node, so any may give the rest.
            let (node, more) = self.ask_any(shard, asked).await?;
            let same = more.batches.first() == Some(head) && !more.bytes.is_empty();
            let left = head.bytes as usize - whole.len();
            if !same || more.bytes.len() > left {
                let source = io::Error::new(io::ErrorKind::InvalidData, "it gives another batch than before");
                return Err(EndedError::Refused { shard, node, source });
            }
            whole.extend_from_slice(&more.bytes);
        }
        Ok(EndedRange { batches: vec![head.with(whole.freeze())], next_offset })
    }

    /// As [`replica::Replica::offset_for_time`], of what a stream had on a shard on which it has ended.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn ended_offset_for_time(
        &self,
        shard: ShardId,
        stream: StreamId,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, EndedError> {
        self.ended_lookup(shard, ReadRequest::ByTime(ByTime { stream, time })).await
    }

    /// As [`replica::Replica::max_timestamp`], of what a stream had on a shard on which it has ended.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn ended_max_timestamp(
        &self,
        shard: ShardId,
        stream: StreamId,
    ) -> Result<Option<TimedOffset>, EndedError> {
        self.ended_lookup(shard, ReadRequest::MaxTime(stream)).await
    }

    async fn ended_lookup(&self, shard: ShardId, request: ReadRequest) -> Result<Option<TimedOffset>, EndedError> {
        let read = |answer: Bytes| decode_timed(&answer).map_err(|error| invalid(&error));
        self.of_any(shard, request, read).await.map(|(_, timed)| timed)
    }

    async fn ask_any(&self, shard: ShardId, asked: Batches) -> Result<(NodeId, Found), EndedError> {
        let read = |answer: Bytes| found(answer, &asked).map_err(|error| invalid(&error));
        self.of_any(shard, ReadRequest::Batches(asked), read).await
    }

    /// The answer of the first node that has the shard and gives a good one.
    async fn of_any<T>(
        &self,
        shard: ShardId,
        request: ReadRequest,
        read: impl Fn(Bytes) -> io::Result<T>,
    ) -> Result<(NodeId, T), EndedError> {
        let mut last = EndedError::Nobody { shard };
        for node in self.copies_elsewhere(shard) {
            let way = (node, Lane::Bulk);
            let answer = self.inner.node.call(way, (Subject::Ended, shard), request.encode(), READ_WAIT_MAX).await;
            match answer.and_then(&read) {
                Ok(answer) => return Ok((node, answer)),
                Err(source) => last = EndedError::Refused { shard, node, source },
            }
        }
        Err(last)
    }

    /// The other nodes that are here and have a copy.
    fn copies_elsewhere(&self, shard: ShardId) -> Vec<NodeId> {
        let statuses = &self.inner.node.statuses;
        let runs = |node: &NodeId| statuses.replica(*node, shard).is_some_and(|copy| copy.phase == Phase::Running);
        let running = self.inner.node.peers.known().into_iter().filter(runs);
        in_order(running.collect(), self.leader(shard), &self.voters(shard))
    }
}

/// The leader first, which has all that there is, then those that are to keep their copies. While a shard moves they may
/// not have any yet, and others have it.
fn in_order(mut running: Vec<NodeId>, leader: Option<NodeId>, wanted: &[NodeId]) -> Vec<NodeId> {
    running.sort_by_key(|node| (Some(*node) != leader, !wanted.contains(node), *node));
    running
}

fn invalid(error: &shard::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// The bytes of whole batches, each with its own.
fn cut(batches: &[crate::reads::Head], mut bytes: Bytes) -> Vec<StoredBatch> {
    batches.iter().map(|head| head.with(bytes.split_to(head.bytes as usize))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_copy_is_asked_whether_it_is_to_keep_it_or_not() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let check = |running: &[u64], leader: Option<u64>, wanted: &[u64], expected: &[u64]| {
            assert_eq!(in_order(ids(running), leader.map(NodeId), &ids(wanted)), ids(expected));
        };
        check(&[1, 2, 3], Some(3), &[1, 2, 3], &[3, 1, 2]);
        check(&[1, 2, 3], Some(2), &[4, 5, 6], &[2, 1, 3]);
        check(&[1, 2, 4], None, &[4, 5, 6], &[4, 1, 2]);
        check(&[], Some(2), &[4, 5, 6], &[]);
    }
}
