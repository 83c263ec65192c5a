//! How a group's members reach each other.
//!
//! The consensus library asks for one client per member; what it says goes as bytes through
//! [`Peer`], which a transport implements, and is answered by [`crate::Replica::answer`] and
//! [`crate::Replica::answer_appends`] over there. A node that is alone has no peers: [`Alone`]
//! answers that nobody can be reached, and no group of one voter ever asks.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::time::{Duration, Instant, now, sleep};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use parking_lot::Mutex;
use record::{NodeId, ShardId};
use storage::Payload;

use super::state_machine::CheckpointImage;
use super::trust::{self, Unanswered};
use super::types::{ConsensusVote, TypeConfig};
use super::wire;
use crate::catch_up::Donor;
use crate::errors::AnswerError;

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

    /// The way to ask the member on `target` for what it has beside the log. MUST return at once, too.
    fn donor(&self, shard: ShardId, target: NodeId) -> Box<dyn Donor>;
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

    fn donor(&self, _shard: ShardId, target: NodeId) -> Box<dyn Donor> {
        Box::new(Absent(target))
    }
}

impl Donor for Absent {
    fn ask(&self, _request: Bytes) -> BoxFuture<'_, io::Result<Bytes>> {
        self.unreachable()
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
    shard: ShardId,
    transport: Arc<dyn Transport>,
    /// When it was last told that a member lacks the log.
    told: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
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
    pub(crate) fn new(shard: ShardId, transport: Arc<dyn Transport>) -> Self {
        Self { shard, transport, told: Arc::default() }
    }

    fn client(&self, target: u64, lane: Lane) -> PeerClient {
        let target = NodeId(target);
        let peer = self.transport.peer(self.shard, target, lane);
        // The library asks for votes through the client that it replicates with.
        let votes = self.transport.peer(self.shard, target, Lane::Control);
        let told = Arc::clone(&self.told);
        PeerClient { target, shard: self.shard, peer, votes, lane, told, full: Arc::default() }
    }
}

/// One member's client in the form that the consensus library calls.
pub(crate) struct PeerClient {
    peer: Box<dyn Peer>,
    votes: Box<dyn Peer>,
    lane: Lane,
    target: NodeId,
    shard: ShardId,
    told: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
    /// It has refused entries for want of room, the last time.
    full: Arc<AtomicBool>,
}

/// Whether a member refused entries for want of room: what it says is text.
fn is_of_full_disk(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string() == AnswerError::DiskFull.to_string()
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

/// How long the answer of a member is waited for that is asked whether it has pulled what it lacks.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Pause between two such questions.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// Pause after a stream that ended with an error: the library waits only when it takes the next request out of its own
/// stream, which it never comes to while none can be opened.
const STREAM_PAUSE: Duration = Duration::from_millis(50);
/// Pause of a member that is not reached, and of one that has no room: nothing is sent to that one only to be refused.
const UNREACHED_PAUSE: Duration = Duration::from_millis(200);
const FULL_PAUSE: Duration = Duration::from_secs(2);
/// One line in so long says that a member lacks entries.
const TELL_PAUSE: Duration = Duration::from_secs(60);

impl PeerClient {
    fn tell_behind(&self, purged: u64) {
        let mut told = self.told.lock();
        let now = now();
        if told.get(&self.target).is_some_and(|before| now < *before + TELL_PAUSE) {
            return;
        }
        told.insert(self.target, now);
        let (shard, node) = (self.shard.0, self.target.0);
        tracing::warn!(
            shard,
            node,
            purged,
            "a member lacks entries that are purged: it takes part again when it has pulled them"
        );
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
        let (before, last) = trust::span(&rpc);
        let answer = self.peer.call(wire::encode_append(rpc), option.soft_ttl()).await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let appended = wire::decode_appended(answer).map_err(|error| unreachable(&error))?;
        trust::check_appended(&appended, before, last).map_err(|text| unreachable(&io::Error::other(text)))?;
        Ok(match appended {
            Ok(through) if through < last => AppendEntriesResponse::PartialSuccess(through),
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
            let unanswered = Unanswered::default();
            let sent = unanswered.clone();
            let requests = input.map(move |request| {
                sent.sent(&request);
                wire::encode_append(request)
            });
            let requests = requests.boxed();
            let full = Arc::clone(&self.full);
            let answers = match self.peer.stream(requests).await {
                Ok(answers) => answers,
                Err(error) => {
                    sleep(STREAM_PAUSE).await;
                    return Err(unreachable(&error));
                }
            };
            let results = answers.then(move |answer| {
                let decoded = answer.and_then(|answer| wire::decode_appended(answer).map_err(io::Error::other));
                let decoded = decoded.and_then(|answer| {
                    unanswered.check(&answer).map_err(io::Error::other)?;
                    Ok(answer)
                });
                full.store(decoded.as_ref().is_err_and(is_of_full_disk), Ordering::Relaxed);
                async move {
                    if decoded.is_err() {
                        sleep(STREAM_PAUSE).await;
                    }
                    decoded.map_err(|error| unreachable(&error))
                }
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

    /// A member that lacks the log before the purge mark pulls what it lacks before it takes part: this only asks
    /// whether it has. `snapshot` names the purge mark, and who has that entry can be given those behind it.
    async fn full_snapshot(
        &mut self,
        vote: ConsensusVote,
        snapshot: SnapshotImage,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let purged = snapshot.meta.last_log_id;
        let probe = AppendEntriesRequest { vote, prev_log_id: purged, entries: Vec::new(), leader_commit: None };
        let wait = option.soft_ttl().min(PROBE_WAIT_MAX);
        let answer = self.votes.call(wire::encode_append(probe), wait).await;
        let answer = answer.and_then(|answer| wire::decode_appended(answer).map_err(io::Error::other));
        let answer = answer.and_then(|answer| {
            trust::check_appended(&answer, purged, purged).map_err(io::Error::other)?;
            Ok(answer)
        });
        // However it answers, it is not asked in a tight loop.
        tokio::select! {
            closed = cancel => return Err(closed.into()),
            () = sleep(PROBE_PAUSE) => {}
        }
        match answer {
            Ok(Ok(_)) => Ok(SnapshotResponse::new(vote)),
            Ok(Err(StreamAppendError::HigherVote(higher))) => Ok(SnapshotResponse::new(higher)),
            Ok(Err(StreamAppendError::Conflict(_))) => {
                self.tell_behind(purged.map_or(0, |id| id.index));
                let text = format!("node {} lacks entries that are purged, and has to pull them", self.target.0);
                Err(StreamingError::Unreachable(Unreachable::new(&io::Error::other(text))))
            }
            Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let full = Arc::clone(&self.full);
        let pause = move || if full.load(Ordering::Relaxed) { FULL_PAUSE } else { UNREACHED_PAUSE };
        Some(Backoff::new(std::iter::repeat_with(pause)))
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
