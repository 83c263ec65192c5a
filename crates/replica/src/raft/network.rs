//! How a group's members reach each other.
//!
//! The consensus library asks for one client per member; each of its calls goes through [`Peer`],
//! which a transport implements. A node that is alone has no peers: [`Alone`] answers that nobody
//! can be reached, and no group of one voter ever asks.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use record::{NodeId, ShardId};

use super::state_machine::CheckpointImage;
use super::types::{ConsensusVote, TypeConfig};

/// A request to append entries, as the consensus library makes it.
pub type AppendRequest = AppendEntriesRequest<TypeConfig>;
/// The answer to one request of a stream of appends.
pub type AppendResult = StreamAppendResult<TypeConfig>;
/// A checkpoint on its way to a member that lacks the log before it.
pub type SnapshotImage = openraft::alias::SnapshotOf<TypeConfig, CheckpointImage>;

/// Which of the two connections between a pair of nodes a message takes, so that a heartbeat never
/// waits behind bulk data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The calls that a member makes to another of the same group. An error means that the member
/// could not be reached or gave no answer; what it decided is inside the answers.
pub trait Peer: Send + Sync + 'static {
    /// Sends requests one behind the other without waiting for answers; the answers come in the
    /// order of the requests, and the stream ends at the first that is refused.
    fn append(
        &mut self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxFuture<'_, io::Result<BoxStream<'_, io::Result<AppendResult>>>>;

    /// Asks for a vote, or whether one would be granted (`pre_vote`), without changing anything.
    fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
    ) -> BoxFuture<'_, io::Result<VoteResponse<TypeConfig>>>;

    /// Sends a checkpoint and returns once it is installed there; MUST stop when `cancel` ends.
    fn snapshot(
        &mut self,
        vote: ConsensusVote,
        snapshot: SnapshotImage,
        cancel: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, io::Result<SnapshotResponse<TypeConfig>>>;

    /// Asks the member to take over the leadership.
    fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, io::Result<TransferLeaderResponse<TypeConfig>>>;
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
    fn append(
        &mut self,
        _requests: BoxStream<'static, AppendRequest>,
    ) -> BoxFuture<'_, io::Result<BoxStream<'_, io::Result<AppendResult>>>> {
        self.unreachable()
    }

    fn vote(
        &mut self,
        _request: VoteRequest<TypeConfig>,
        _pre_vote: bool,
    ) -> BoxFuture<'_, io::Result<VoteResponse<TypeConfig>>> {
        self.unreachable()
    }

    fn snapshot(
        &mut self,
        _vote: ConsensusVote,
        _snapshot: SnapshotImage,
        _cancel: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, io::Result<SnapshotResponse<TypeConfig>>> {
        self.unreachable()
    }

    fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, io::Result<TransferLeaderResponse<TypeConfig>>> {
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
        PeerClient(self.transport.peer(self.shard, NodeId(target), Lane::Bulk))
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> PeerClient {
        PeerClient(self.transport.peer(self.shard, NodeId(target), Lane::Control))
    }
}

/// One member's client in the form that the consensus library calls.
pub(crate) struct PeerClient(Box<dyn Peer>);

fn unreachable(error: &io::Error) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = CheckpointImage;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Heartbeats come this way: a stream of one request.
        let requests = futures_util::stream::iter([rpc]).boxed();
        let mut answers = self.0.append(requests).await.map_err(|error| unreachable(&error))?;
        let answer = answers.next().await.unwrap_or_else(|| {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the member closed the stream without an answer"))
        });
        match answer.map_err(|error| unreachable(&error))? {
            Ok(_) => Ok(AppendEntriesResponse::Success),
            Err(openraft::raft::StreamAppendError::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Err(openraft::raft::StreamAppendError::HigherVote(vote)) => Ok(AppendEntriesResponse::HigherVote(vote)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        async move {
            let answers = self.0.append(input.boxed()).await.map_err(|error| unreachable(&error))?;
            Ok(answers.map(|answer| answer.map_err(|error| unreachable(&error))).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.0.vote(rpc, false).await.map_err(|error| unreachable(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.0.vote(rpc, true).await.map_err(|error| unreachable(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: ConsensusVote,
        snapshot: SnapshotImage,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let cancel = cancel.map(|_| ()).boxed();
        self.0
            .snapshot(vote, snapshot, cancel)
            .await
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.0.transfer_leader(request).await.map_err(|error| unreachable(&error))
    }
}
