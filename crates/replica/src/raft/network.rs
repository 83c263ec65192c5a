//! How a group's members reach each other.
//!
//! The consensus library asks for one client per member; what it says goes as bytes through
//! [`Peer`], which a transport implements, and is answered by [`crate::Replica::answer`] and
//! [`crate::Replica::answer_appends`] over there. A node that is alone has no peers: [`Alone`]
//! answers that nobody can be reached, and no group of one voter ever asks.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use base::time::Duration;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use record::{NodeId, ShardId};
use storage::Payload;

use super::state_machine::CheckpointImage;
use super::types::{ConsensusVote, TypeConfig};
use super::wire;

/// A checkpoint on its way to a member that lacks the log before it.
type SnapshotImage = openraft::alias::SnapshotOf<TypeConfig, CheckpointImage>;

/// Which of the two connections between a pair of nodes a message takes, so that a heartbeat never
/// waits behind bulk data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Votes, heartbeats, changes of leadership.
    Control,
    /// Entries and checkpoints.
    Bulk,
}

/// Opens the way to the other members of a group.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// A client of `shard` on `target`. MUST return at once: connecting is part of the first call.
    fn peer(&self, shard: ShardId, target: NodeId, lane: Lane) -> Box<dyn Peer>;
}

/// The answers to a stream of requests, in their order.
pub type AnswerStream<'a> = BoxStream<'a, io::Result<Bytes>>;

/// The calls that a member makes to another of the same group. An error means that the member
/// could not be reached or gave no answer; what it decided is inside the answers.
pub trait Peer: Send + Sync + 'static {
    /// Sends requests one behind the other without waiting for answers, and bounds the bytes that
    /// have none yet. Requests are taken only while the answers are asked for or `requests` is
    /// waited for by a task that ends when the answers are dropped.
    fn stream(&mut self, requests: BoxStream<'static, Payload>) -> BoxFuture<'_, io::Result<AnswerStream<'_>>>;

    /// Sends one request and waits no longer than `wait_max` for its answer.
    fn call(&mut self, request: Payload, wait_max: Duration) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// The transport of a node that is alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Transport for Alone {
    fn peer(&self, _shard: ShardId, target: NodeId, _lane: Lane) -> Box<dyn Peer> {
        Box::new(Absent(target))
    }
}

/// A member that cannot be reached.
struct Absent(NodeId);

impl Absent {
    fn unreachable<'a, T: Send + 'a>(&self) -> BoxFuture<'a, io::Result<T>> {
        let text = format!("node {} cannot be reached: this node is alone", self.0.0);
        std::future::ready(Err(io::Error::new(io::ErrorKind::NotConnected, text))).boxed()
    }
}

impl Peer for Absent {
    fn stream(&mut self, _requests: BoxStream<'static, Payload>) -> BoxFuture<'_, io::Result<AnswerStream<'_>>> {
        self.unreachable()
    }

    fn call(&mut self, _request: Payload, _wait_max: Duration) -> BoxFuture<'_, io::Result<Bytes>> {
        self.unreachable()
    }
}

/// Makes the clients of one group.
pub(crate) struct PeerFactory {
    pub(crate) shard: ShardId,
    pub(crate) transport: Arc<dyn Transport>,
}

impl RaftNetworkFactory<TypeConfig> for PeerFactory {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> PeerClient {
        self.client(target, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> PeerClient {
        self.client(target, Lane::Control)
    }
}

impl PeerFactory {
    fn client(&self, target: u64, lane: Lane) -> PeerClient {
        let target = NodeId(target);
        let peer = self.transport.peer(self.shard, target, lane);
        // The library asks for votes through the client that it replicates with.
        let votes = self.transport.peer(self.shard, target, Lane::Control);
        PeerClient { peer, votes, lane }
    }
}

/// One member's client in the form that the consensus library calls.
pub(crate) struct PeerClient {
    peer: Box<dyn Peer>,
    votes: Box<dyn Peer>,
    lane: Lane,
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl PeerClient {
    async fn ask(&mut self, request: Bytes, option: &RPCOption) -> Result<Bytes, RPCError<TypeConfig>> {
        let answer = self.votes.call(Payload::from(request), option.soft_ttl()).await;
        answer.map_err(|error| unreachable(&error))
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = CheckpointImage;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Heartbeats come this way.
        let answer = self.peer.call(wire::encode_append(rpc), option.soft_ttl()).await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let appended = wire::decode_appended(answer).map_err(|error| unreachable(&error))?;
        Ok(match appended {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        async move {
            if self.lane == Lane::Control {
                // Heartbeats: one at a time, each with its time limit.
                return stream_append_sequential(self, input, option).await;
            }
            let requests = input.map(wire::encode_append).boxed();
            let answers = self.peer.stream(requests).await.map_err(|error| unreachable(&error))?;
            let results = answers.map(|answer| {
                let answer = answer.map_err(|error| unreachable(&error))?;
                wire::decode_appended(answer).map_err(|error| unreachable(&error))
            });
            Ok(results.boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.ask(wire::encode_vote(&rpc, false), &option).await?;
        wire::decode_voted(answer).map_err(|error| unreachable(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.ask(wire::encode_vote(&rpc, true), &option).await?;
        wire::decode_voted(answer).map_err(|error| unreachable(&error))
    }

    async fn full_snapshot(
        &mut self,
        _vote: ConsensusVote,
        snapshot: SnapshotImage,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let at = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let text = format!("a member lacks what lies before the checkpoint at {at}, which this version cannot send");
        tracing::error!("{text}");
        let error = io::Error::new(io::ErrorKind::Unsupported, text);
        Err(StreamingError::Unreachable(Unreachable::new(&error)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.ask(wire::encode_transfer(&request), &option).await?;
        wire::decode_transferred(answer).map_err(|error| unreachable(&error))
    }
}
