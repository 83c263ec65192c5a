//! Streams from one shard to another: an intention in shard 0, idempotent steps in the two shards, a completion in
//! shard 0. Whoever leads the metadata does it, and goes on with what another began.
//!
//! ```text
//! MoveStreams (0) -> ReceiveStream (to: a place)
//!                 -> CloseStream (from) -> ReceiveStream (to)     once for each piece; the last one opens the stream
//!                 -> SetLogStart (0), CompleteMove (0)
//! given up:          CancelMove (from) -> CancelMove (to) -> CancelMove (0)        only before it is closed
//! ```
//! Nothing is ended before there is a place for it on a shard that works, so that between the end on the one and the
//! beginning on the other there are a few entries.

use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep, timeout};
use futures_util::StreamExt;
use record::{LeaderEpoch, ShardId, StreamOffset, TopicId};
use replica::{ProposeError, Replica};
use shard::commands::{
    CancelAt, CancelMove, CloseStream, CompleteMove, DeleteStreams, MoveStreams, NewMove, OpenStream, ReceiveStream,
    SetLogStart,
};
use shard::{
    CancelMoveError, CloseStreamError, Command, CompleteMoveError, MoveId, MoveStreamError, Outcome,
    ReceiveStreamError, Received, StreamMove, TopicState,
};
use thiserror::Error;

use crate::cluster::{Cluster, METADATA};
use crate::node::Node;
use crate::topics::unexpected;

/// Moves that are worked on together.
const MOVES_AT_ONCE: usize = 4;
/// How long one step waits for somebody who leads.
const STEP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause before a move is gone on with that could not be ended.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Pieces of one stream: far more than a shard remembers producers.
const PIECES_MAX: usize = 10_000;
/// A stream goes on in an epoch so much higher: until all nodes know where it is, those without a copy of the shard where it was
/// go on counting that shard's leaders, and no client believes an epoch that is lower than one it was told.
const EPOCHS_LEFT_OUT: i32 = 64;

/// Why a move does not go on now.
#[derive(Debug, Clone, Error)]
enum MoveError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("this node does not lead the metadata any more")]
    NotLeading,
    #[error("the topic is gone, or going")]
    NoTopic,
    #[error("the stream cannot end where it is: {0}")]
    Close(#[source] CloseStreamError),
    #[error("the stream cannot begin where it is to be: {0}")]
    Receive(#[source] ReceiveStreamError),
    #[error("the move cannot be completed: {0}")]
    Complete(#[source] CompleteMoveError),
    #[error("the stream ended at {ended} and would begin at {begun}")]
    Offsets { ended: StreamOffset, begun: StreamOffset },
    #[error("the stream has more pieces than can be")]
    Pieces,
}

/// The level of features that knows the commands.
const FEATURE_LEVEL: u32 = 2;
/// The level from which on records are deleted from a stream's front.
const DELETIONS_FEATURE_LEVEL: u32 = 4;

/// Why moves were not begun, or one was not given up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MovesError {
    #[error("a node of the cluster runs a program that does not know how streams move")]
    NotYet,
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("the partition does not move")]
    NoMove,
    #[error("the stream has ended where it was: the move is brought to its end")]
    TooLate,
}

/// Whether every node of the cluster knows the commands that move streams.
pub(crate) fn moves_allowed(node: &Node) -> bool {
    node.feature_level() >= FEATURE_LEVEL
}

impl Cluster {
    /// Begins to move partitions to other shards; one result for each, in their order. Whoever leads the metadata
    /// brings them to their end.
    ///
    /// # Errors
    /// When the metadata group cannot be reached, or not all nodes know how streams move.
    pub async fn move_streams(&self, moves: Vec<NewMove>) -> Result<Vec<Result<MoveId, MoveStreamError>>, MovesError> {
        if !moves_allowed(&self.inner.node) {
            return Err(MovesError::NotYet);
        }
        // A shard that is not in use yet is none to whoever asks.
        let is_used = |shard: ShardId| self.metadata().founder(shard).is_none();
        let (begun, refused): (Vec<NewMove>, Vec<NewMove>) = moves.iter().partition(|new| is_used(new.to));
        if begun.is_empty() {
            return Ok(vec![Err(MoveStreamError::UnknownShard); refused.len()]);
        }
        match self.decide(MoveStreams { moves: begun }.into()).await? {
            Outcome::MoveStreams(results) => {
                self.follow_metadata().await;
                let mut results = results.into_iter();
                let result = |new: &NewMove| {
                    let known = if refused.contains(new) { None } else { results.next() };
                    known.unwrap_or(Err(MoveStreamError::UnknownShard))
                };
                Ok(moves.iter().map(result).collect())
            }
            other => Err(unexpected(&other).into()),
        }
    }

    /// Gives up the move of a partition, as long as its stream has not ended where it is.
    ///
    /// # Errors
    /// When there is no such move, it is too late, or a shard cannot be reached.
    pub async fn cancel_move(&self, topic: TopicId, partition: u32) -> Result<(), MovesError> {
        let moving = self.metadata().stream_move(topic, partition).ok_or(MovesError::NoMove)?;
        let cancelled = cancel(&self.inner.node, &moving).await?;
        self.follow_metadata().await;
        if cancelled { Ok(()) } else { Err(MovesError::TooLate) }
    }
}

/// Brings moves to their end while this node leads the metadata group, until the task is aborted.
pub(crate) fn keep_moving(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("move streams", async move {
        let mut tries: u64 = 0;
        loop {
            let Some(metadata) = node.metadata() else {
                sleep(RETRY_PAUSE).await;
                continue;
            };
            let mut changed = metadata.changed();
            let mut leadership = metadata.leadership();
            let moves = if metadata.is_leader() { metadata.state().stream_moves() } else { Vec::new() };
            if moves.is_empty() {
                tries = 0;
                let changes = async {
                    tokio::select! {
                        _ = changed.changed() => {}
                        _ = leadership.changed() => {}
                    }
                };
                // The replica may be brought here anew meanwhile.
                let _ = timeout(10 * RETRY_PAUSE, changes).await;
                continue;
            }
            let failed = futures_util::stream::iter(moves)
                .map(|moving| drive(&node, &metadata, moving))
                .buffer_unordered(MOVES_AT_ONCE)
                .filter(|ended| std::future::ready(!ended))
                .count()
                .await;
            if failed > 0 {
                tries += 1;
                if tries.is_power_of_two() {
                    tracing::warn!(failed, tries, "streams could not be moved yet, trying on");
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    })
}

/// One try to bring a move to its end; whether it was.
async fn drive(node: &Node, metadata: &Replica, moving: StreamMove) -> bool {
    match advance(node, metadata, &moving).await {
        Ok(from_offset) => {
            let StreamMove { topic, partition, stream, to, .. } = moving;
            tracing::info!(%topic, partition, %stream, to = to.0, offset = from_offset.0, "a stream has moved");
            true
        }
        // It can be given up, as it is not closed; if another has closed it meanwhile, it is gone on with.
        Err(MoveError::NoTopic | MoveError::Receive(_) | MoveError::Close(CloseStreamError::Cancelled)) => {
            match cancel(node, &moving).await {
                Ok(cancelled) => cancelled,
                Err(error) => {
                    tracing::debug!(?moving, %error, "a move is given up later");
                    false
                }
            }
        }
        Err(error) => {
            tracing::debug!(?moving, %error, "a stream does not move now");
            false
        }
    }
}

async fn step(node: &Node, metadata: &Replica, shard: ShardId, command: Command) -> Result<Outcome, MoveError> {
    if !metadata.is_leader() {
        return Err(MoveError::NotLeading);
    }
    // It is tried again in a moment: others, of which some may have ended where they were, do not wait behind it.
    if node.leader(shard).is_none() {
        return Err(ProposeError::NotLeader { leader: None }.into());
    }
    Ok(node.propose_patiently(shard, command, STEP_WAIT_MAX).await?)
}

/// All that is left of a move; where the stream goes on.
async fn advance(node: &Node, metadata: &Replica, moving: &StreamMove) -> Result<StreamOffset, MoveError> {
    let StreamMove { topic, partition, id, stream, to, .. } = *moving;
    let lives = metadata.state().topic(topic).is_some_and(|topic| topic.state == TopicState::Live);
    if !lives {
        return Err(MoveError::NoTopic);
    }
    let from_offset = match receive(node, metadata, to, ReceiveStream::prepare(id, stream)).await? {
        // All but the last steps was done before.
        Received::Open { first_offset, .. } => first_offset,
        Received::Place => carry(node, metadata, moving).await?,
    };
    begin_later(node, metadata, moving).await?;
    let complete = CompleteMove { id, topic, partition, from_offset };
    match step(node, metadata, METADATA, complete.into()).await? {
        // Another has done it.
        Outcome::CompleteMove(Ok(()) | Err(CompleteMoveError::UnknownMove)) => Ok(from_offset),
        Outcome::CompleteMove(Err(CompleteMoveError::UnknownTopic)) => Err(MoveError::NoTopic),
        Outcome::CompleteMove(Err(error)) => {
            tracing::error!(?moving, %error, "a stream was moved and cannot be found there");
            Err(MoveError::Complete(error))
        }
        other => Err(unexpected(&other).into()),
    }
}

/// Says where the piece begins that stays: records may have been deleted from it. It has ended, so no more are before all nodes
/// go by what is said here.
async fn begin_later(node: &Node, metadata: &Replica, moving: &StreamMove) -> Result<(), MoveError> {
    let StreamMove { id, topic, partition, stream, from, .. } = *moving;
    if node.feature_level() < DELETIONS_FEATURE_LEVEL {
        return Ok(());
    }
    let before = match step(node, metadata, from, CloseStream { id, stream, after: None }.into()).await? {
        Outcome::CloseStream(Ok(closed)) => closed.first_offset,
        Outcome::CloseStream(Err(error)) => return Err(MoveError::Close(error)),
        other => return Err(unexpected(&other).into()),
    };
    let begins = metadata.state().topic(topic).is_some_and(|topic| {
        let placement = usize::try_from(partition).ok().and_then(|place| topic.partitions.get(place));
        placement.and_then(|placement| placement.history.last()).is_some_and(|home| home.from_offset >= before)
    });
    if begins {
        return Ok(());
    }
    match step(node, metadata, METADATA, SetLogStart { topic, partition, before }.into()).await? {
        Outcome::SetLogStart(Ok(_)) => Ok(()),
        Outcome::SetLogStart(Err(_)) => Err(MoveError::NoTopic),
        other => Err(unexpected(&other).into()),
    }
}

async fn receive(node: &Node, metadata: &Replica, to: ShardId, command: ReceiveStream) -> Result<Received, MoveError> {
    match step(node, metadata, to, command.into()).await? {
        Outcome::ReceiveStream(Ok(received)) => Ok(received),
        Outcome::ReceiveStream(Err(error)) => Err(MoveError::Receive(error)),
        other => Err(unexpected(&other).into()),
    }
}

/// Ends the stream where it is and brings what goes with it to where it has a place, which opens it. Whoever begins
/// anew sends the same pieces again, or fewer, as producers are forgotten with time.
async fn carry(node: &Node, metadata: &Replica, moving: &StreamMove) -> Result<StreamOffset, MoveError> {
    let StreamMove { id, stream, from, to, .. } = *moving;
    let mut after = None;
    for _ in 0..PIECES_MAX {
        let closed = match step(node, metadata, from, CloseStream { id, stream, after }.into()).await? {
            Outcome::CloseStream(Ok(closed)) => closed,
            Outcome::CloseStream(Err(error)) => return Err(MoveError::Close(error)),
            other => return Err(unexpected(&other).into()),
        };
        let ended = closed.next_offset;
        after = closed.producers.last().map(shard::MovedProducer::id);
        let open = OpenStream {
            first_offset: ended,
            epoch_start: LeaderEpoch(closed.epoch.0.saturating_add(EPOCHS_LEFT_OUT)),
            epochs: closed.epochs,
        };
        let open = (!closed.more).then_some(open);
        let piece = ReceiveStream { id, stream, producers: closed.producers, open };
        match receive(node, metadata, to, piece).await? {
            Received::Open { first_offset, .. } if first_offset == ended => return Ok(ended),
            Received::Open { first_offset, .. } => {
                tracing::error!(
                    ?moving,
                    ended = ended.0,
                    begun = first_offset.0,
                    "a stream goes on where it did not end"
                );
                return Err(MoveError::Offsets { ended, begun: first_offset });
            }
            Received::Place => {}
        }
    }
    Err(MoveError::Pieces)
}

/// Gives a move up, if the stream has not ended where it is, or its topic is going anyway; whether it is given up.
async fn cancel(node: &Node, moving: &StreamMove) -> Result<bool, ProposeError> {
    let StreamMove { topic, partition, id, stream, from, to } = *moving;
    let step = |shard, command| node.propose_patiently(shard, command, STEP_WAIT_MAX);
    // While the metadata is brought here anew nobody can say whether the topic lives.
    let metadata = node.metadata().ok_or(ProposeError::Busy)?;
    let lives = metadata.state().topic(topic).is_some_and(|topic| topic.state != TopicState::Deleting);
    match step(from, CancelMove { id, at: CancelAt::Shard(stream) }.into()).await? {
        Outcome::CancelMove(Err(CancelMoveError::Closed)) if lives => return Ok(false),
        Outcome::CancelMove(_) => {}
        other => return Err(unexpected(&other)),
    }
    // Of a topic that is gone the stream goes, whatever it is by now; else only its place, as a later move may have
    // brought it there.
    let let_go: Command = if lives {
        CancelMove { id, at: CancelAt::Shard(stream) }.into()
    } else {
        DeleteStreams { streams: vec![stream] }.into()
    };
    step(to, let_go).await?;
    match step(METADATA, CancelMove { id, at: CancelAt::Metadata { topic, partition } }.into()).await? {
        Outcome::CancelMove(_) => {
            tracing::info!(%topic, partition, %stream, to = to.0, "a move of a stream was given up");
            Ok(true)
        }
        other => Err(unexpected(&other)),
    }
}
