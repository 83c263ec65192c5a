//! Reads of streams that have ended on a shard: of another node's copy, where this one has none.

use std::io;

use base::time::{Duration, timeout};
use bytes::{Bytes, BytesMut};
use record::{NodeId, ShardId, StreamId, StreamOffset, TimestampMs};
use replica::{Lane, StoredBatch, TimedOffset};
use storage::Payload;
use thiserror::Error;

use crate::cluster::Cluster;
use crate::node::Node;
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
        let (node, first) = self.ask_any(shard, asked).await?;
        let Found { batches, bytes, next_offset } = first;
        let Some(head) = batches.first() else {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it has not come so far");
            return Err(EndedError::Refused { shard, node, source });
        };
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
            let answer = ask(&self.inner.node, node, shard, &request).await;
            match answer.and_then(&read) {
                Ok(answer) => return Ok((node, answer)),
                Err(source) => last = EndedError::Refused { shard, node, source },
            }
        }
        Err(last)
    }

    /// The other nodes that are here and are to have a copy, the leader first: it has all that there is.
    fn copies_elsewhere(&self, shard: ShardId) -> Vec<NodeId> {
        let mut nodes = self.voters(shard);
        nodes.retain(|node| *node != self.node_id() && self.is_live(*node));
        let leader = self.leader(shard);
        nodes.sort_by_key(|node| Some(*node) != leader);
        nodes
    }
}

fn invalid(error: &shard::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

async fn ask(node: &Node, of: NodeId, shard: ShardId, request: &ReadRequest) -> io::Result<Bytes> {
    let body = Payload::from(request.encode());
    let answer = async {
        let link = node.peers.link(of, Lane::Bulk).await?;
        link.call(Subject::Ended, shard, body)?.await
    };
    timeout(READ_WAIT_MAX, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The bytes of whole batches, each with its own.
fn cut(batches: &[crate::reads::Head], mut bytes: Bytes) -> Vec<StoredBatch> {
    batches.iter().map(|head| head.with(bytes.split_to(head.bytes as usize))).collect()
}
