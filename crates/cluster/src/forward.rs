//! The way to another node: commands and reads for a shard that it leads.

use std::fmt;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use record::{NodeId, ShardId, StreamId, StreamOffset};
use replica::{FetchError, Fetched, ProposeError, ProposeResult};
use shard::Command;

/// Reaches other nodes. What is sent to one node for one shard arrives in the order of the calls.
pub trait Forward: Send + Sync + fmt::Debug + 'static {
    /// Proposes a command, with its body where it has one. MUST take its place in the order when
    /// called, not when the future is polled; MUST answer `Unknown` when the command was sent and
    /// no answer came.
    fn propose(
        &self,
        node: NodeId,
        shard: ShardId,
        command: Command,
        body: Option<Bytes>,
    ) -> BoxFuture<'static, ProposeResult>;

    /// Reads as [`replica::Replica::fetch`] does; the bytes come in memory.
    fn fetch(
        &self,
        node: NodeId,
        shard: ShardId,
        stream: StreamId,
        from: StreamOffset,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, FetchError>>;
}

/// The way of a node that is alone: there is nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

impl Forward for NoPeers {
    fn propose(
        &self,
        _node: NodeId,
        _shard: ShardId,
        _command: Command,
        _body: Option<Bytes>,
    ) -> BoxFuture<'static, ProposeResult> {
        std::future::ready(Err(ProposeError::NotLeader { leader: None })).boxed()
    }

    fn fetch(
        &self,
        _node: NodeId,
        _shard: ShardId,
        _stream: StreamId,
        _from: StreamOffset,
        _bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        std::future::ready(Err(FetchError::Stopped)).boxed()
    }
}
