//! Carrying out moves of slots, step by step, by whoever leads the metadata group.

use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, now, sleep};
use record::{ShardId, TopicId};
use replica::{ProposeError, Replica};
use shard::commands::{CloseSlots, CompleteSlots, DeleteOffsets, DropSlots, MoveSlots, ReceiveGroups};
use shard::{Command, MoveCursor, MovingPiece, Outcome, ReceivedGroups, Shard, SlotMove, TopicState};
use thiserror::Error;

use super::plan::plan_slots;
use crate::cluster::METADATA;
use crate::messages::{GroupsOfSlots, GroupsPiece, Request};
use crate::node::Node;
use crate::placement::{Placed, look, plan};

/// Pause between two looks whether something is to be moved.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// Pause between two moves, so that others have their turn.
const MOVE_PAUSE: Duration = Duration::from_millis(50);
/// Pause before a move that was interrupted is gone on with; doubled while it cannot be.
const RESUME_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long one step may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(10);
/// What one piece of groups has, unless a single group's record has more.
pub(crate) const PIECE_BYTES_MAX: usize = 512 << 10;
/// The level of features that knows the commands.
const FEATURE_LEVEL: u32 = 2;
/// Groups and offsets that one command drops, so that no entry takes long to apply.
const DROPPED_PER_COMMAND: u32 = 10_000;
/// Topics that one command forgets, for the same reason.
const TOPICS_PER_COMMAND: usize = 1_000;

/// Why a move was interrupted.
#[derive(Debug, Error)]
enum Interrupted {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("another node: {0}")]
    Ask(#[from] std::io::Error),
    #[error("{step} of shard {}: {why}", shard.0)]
    Refused { step: &'static str, shard: ShardId, why: String },
    #[error("shard {} has no leader", .0.0)]
    NoLeader(ShardId),
    #[error("this node does not lead the metadata any more")]
    Deposed,
}

/// Moves slots while this node leads the metadata group, until the task is aborted.
pub(crate) fn keep_moving_slots(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("moves of slots", async move {
        let mut pause = RESUME_PAUSE;
        loop {
            let Some(metadata) = node.metadata().filter(Replica::is_leader) else {
                sleep(ROUND_PAUSE).await;
                continue;
            };
            let underway = metadata.state().slot_moves().first().map(|known| (*known).clone());
            if let Some(known) = underway {
                match carry_out(&node, &metadata, &known).await {
                    Ok(()) => {
                        tracing::info!(
                            from = known.from.0,
                            to = known.to.0,
                            slots = known.slots.len(),
                            "slots have moved"
                        );
                        pause = RESUME_PAUSE;
                        sleep(MOVE_PAUSE).await;
                    }
                    Err(error) => {
                        tracing::warn!(from = known.from.0, to = known.to.0, %error, "a move of slots goes on later");
                        sleep(pause).await;
                        pause = (2 * pause).min(RESUME_PAUSE_MAX);
                    }
                }
                continue;
            }
            pause = RESUME_PAUSE;
            match next_move(&node, &metadata) {
                Some(planned) if begin(&metadata, planned.clone()).await => {}
                _ => sleep(ROUND_PAUSE).await,
            }
        }
    })
}

/// Whether moves of slots may begin: those that have begun always come to their end.
fn may_begin(metadata: &Shard) -> bool {
    metadata.feature_level() >= FEATURE_LEVEL && metadata.rebalances()
}

/// What is to move next, when everything else is where it should be.
fn next_move(node: &Node, metadata: &Replica) -> Option<MoveSlots> {
    let (homes, shards) = look(node)?;
    // A shard that has few copies, or whose copies are on their way, gets no groups to answer for.
    let has_its_copies =
        |placed: &Placed| placed.is_settled() && (placed.id == METADATA || placed.has_its_copies(&homes));
    if !shards.iter().all(has_its_copies) || plan(&homes, &shards, true).is_some() {
        return None;
    }
    let state = metadata.state();
    let data: Vec<ShardId> = shards.iter().map(|placed| placed.id).filter(|id| *id != METADATA).collect();
    if !may_begin(&state) {
        return None;
    }
    plan_slots(state.slot_shards(), &data)
}

async fn begin(metadata: &Replica, planned: MoveSlots) -> bool {
    tracing::info!(from = planned.from.0, to = planned.to.0, slots = planned.slots.len(), "slots are to move");
    match metadata.propose_step(planned.into()).await {
        Ok(Outcome::MoveSlots(Ok(_))) => true,
        Ok(outcome) => {
            tracing::warn!(?outcome, "slots cannot move, trying on");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "slots cannot move, trying on");
            false
        }
    }
}

/// Takes every step of a move that is not taken yet.
async fn carry_out(node: &Node, metadata: &Replica, known: &SlotMove) -> Result<(), Interrupted> {
    let SlotMove { id, slots, from, to, switched } = known;
    let (id, from, to) = (*id, *from, *to);
    // The target first: what it cannot take stays where it is, and open.
    let mut received = receive(node, known, None, MovingPiece { groups: Vec::new(), last: false }).await?;
    match step(node, from, CloseSlots { id, slots: slots.clone() }).await? {
        Outcome::CloseSlots(Ok(())) => {}
        other => return Err(refused("closing", from, &other)),
    }
    while !received.complete {
        if !metadata.is_leader() {
            return Err(Interrupted::Deposed);
        }
        let piece = piece(node, known, received.cursor.clone()).await?;
        received = receive(node, known, received.cursor, piece).await?;
    }
    if !switched {
        forget_topics(node, known).await?;
        complete(node, known, false).await?;
    }
    loop {
        match step(node, from, DropSlots { id, slots: slots.clone(), count_max: DROPPED_PER_COMMAND }).await? {
            Outcome::DropSlots(Ok(true)) => {}
            Outcome::DropSlots(Ok(false)) => break,
            other => return Err(refused("dropping", from, &other)),
        }
    }
    tracing::debug!(from = from.0, to = to.0, "slots are dropped where they were");
    complete(node, known, true).await
}

async fn step(node: &Node, shard: ShardId, command: impl Into<Command>) -> Result<Outcome, ProposeError> {
    node.propose_patiently(shard, command.into(), STEP_WAIT_MAX).await
}

fn refused(step: &'static str, shard: ShardId, outcome: &Outcome) -> Interrupted {
    Interrupted::Refused { step, shard, why: format!("{outcome:?}") }
}

async fn receive(
    node: &Node,
    known: &SlotMove,
    after: Option<MoveCursor>,
    piece: MovingPiece,
) -> Result<ReceivedGroups, Interrupted> {
    let MovingPiece { groups, last } = piece;
    let command = ReceiveGroups { id: known.id, slots: known.slots.clone(), after, groups, last };
    match step(node, known.to, command).await? {
        Outcome::ReceiveGroups(Ok(received)) => Ok(received),
        other => Err(refused("receiving", known.to, &other)),
    }
}

async fn complete(node: &Node, known: &SlotMove, dropped: bool) -> Result<(), Interrupted> {
    match step(node, METADATA, CompleteSlots { id: known.id, dropped }).await? {
        Outcome::CompleteSlots { .. } => Ok(()),
        other => Err(refused("completing", METADATA, &other)),
    }
}

/// The next piece: from the replica here if it has closed the slots, since nothing of them changes then, or from the
/// leader.
async fn piece(node: &Node, known: &SlotMove, after: Option<MoveCursor>) -> Result<MovingPiece, Interrupted> {
    let SlotMove { id, slots, from, .. } = known;
    let here = node.shards.replica(*from);
    let here = here.and_then(|here| here.state().moving_piece(*id, slots, after.as_ref(), PIECE_BYTES_MAX));
    if let Some(piece) = here {
        return Ok(piece);
    }
    let leader = node.leader(*from).filter(|leader| *leader != node.id()).ok_or(Interrupted::NoLeader(*from))?;
    let request = Request::GroupsOfSlots(GroupsOfSlots { id: *id, slots: slots.clone(), after });
    let GroupsPiece { groups, last } = node.ask_in_bulk(leader, *from, &request, STEP_WAIT_MAX).await?;
    Ok(MovingPiece { groups, last })
}

/// Topics may be deleted while their offsets are on the way: then the target's part in that may have come before the
/// offsets did, which nobody would remove any more. Its leader removes them before the slots are its own.
async fn forget_topics(node: &Node, known: &SlotMove) -> Result<(), Interrupted> {
    let deadline = now() + STEP_WAIT_MAX;
    let index = node.barrier(METADATA, deadline).await.ok_or(Interrupted::NoLeader(METADATA))?;
    let leader = node.leader(known.to).ok_or(Interrupted::NoLeader(known.to))?;
    if leader == node.id() {
        if !node.applied(METADATA, index, deadline).await {
            return Err(Interrupted::NoLeader(METADATA));
        }
        let forgotten = committed_of_gone(node, known.to, &known.slots).await;
        return forgotten.map_err(|why| Interrupted::Refused { step: "forgetting topics", shard: known.to, why });
    }
    let request = Request::ForgetTopics { slots: known.slots.clone(), index };
    node.ask(leader, known.to, &request, STEP_WAIT_MAX).await?;
    Ok(())
}

/// Removes, on a shard that this node leads, what groups of these slots committed of topics that this node's copy of
/// the metadata does not have, or has as being deleted.
pub(crate) async fn committed_of_gone(node: &Node, shard: ShardId, slots: &[u16]) -> Result<(), String> {
    let replica = node.shards.replica(shard).ok_or_else(|| format!("the node has no replica of shard {}", shard.0))?;
    replica.read_barrier().await.map_err(|error| error.to_string())?;
    let committed = replica.state().committed_topics(slots);
    let gone: Vec<TopicId> = {
        let metadata = node.metadata().ok_or("the node is starting")?;
        let state = metadata.state();
        let is_gone = |id: &TopicId| state.topic(*id).is_none_or(|topic| topic.state == TopicState::Deleting);
        committed.into_iter().filter(is_gone).collect()
    };
    for topics in gone.chunks(TOPICS_PER_COMMAND) {
        let command = DeleteOffsets::Topics { topics: topics.to_vec() };
        replica.propose_step(command.into()).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
