//! Who leads a shard, as far as this node knows, and what a new leader does first.

use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep, timeout};
use record::{NodeId, Term, TimestampMs};
use shard::commands::LeaderChange;
use shard::{Command, EntryBuilder};
use storage::Payload;

use crate::core::Core;
use crate::errors::OutOfService;
use crate::proposer::{EntryEnd, Gate};
use crate::raft::Group;
use crate::raft::types::Commands;

/// Pause before a leader that could not announce itself tries again.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(2);

/// Pause between two looks of a leader that hears from no majority.
const SILENCE_PAUSE: Duration = Duration::from_millis(100);

/// How often a member stands for the place of a leader that is gone, before it leaves that to the timers.
const SUCCESSIONS_MAX: usize = 3;

/// How long it waits for what came of it.
const SUCCESSION_WAIT: Duration = Duration::from_millis(150);

/// So many leases, and a leader that is heard of again goes on.
const SUCCESSION_LEASES: u32 = 4;

/// The leadership of one shard. `is_self` becomes true only when this node's leadership is
/// announced in the log (the streams' epochs have risen), so whoever sees it may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader, where it is known.
    pub leader: Option<NodeId>,
    /// The term in which it leads.
    pub term: Term,
    /// Whether it is this node, ready to serve.
    pub is_self: bool,
}

/// Follows the group's leadership until consensus stops. A new leader's first entry lifts the
/// epoch of every stream; only then are proposals let through. One that hears from no majority goes
/// on serving what is committed, but takes nothing: another may lead without its knowledge.
pub(crate) async fn follow(core: Arc<Core>, group: Group) {
    let mut changes = group.changes();
    let mut failure = core.failure.subscribe();
    let mut announced = None;
    let mut heartbeats: Option<Heartbeats> = None;
    loop {
        let view = group.view();
        if let Some(reason) = view.stopped {
            stopped(&core, reason);
            return;
        }
        if core.is_failed() {
            // It neither votes nor leads any more: the others elect one of theirs.
            drop(heartbeats);
            group.shutdown(core.config.shutdown_wait_max).await;
            return;
        }
        let Leadership { leader, term, is_self } = view.leadership;
        if !is_self || view.alone {
            heartbeats = None;
        } else if heartbeats.is_none() {
            // Begun here and not by a second one who follows the changes: who of two is woken first is chance.
            heartbeats = Some(Heartbeats(spawn("heartbeats", group.clone().beat(core.config.heartbeat))));
        }
        if !is_self {
            announced = None;
            publish(&core, view.leadership, Gate::Closed { leader });
            group.set_timers(true);
        } else if announced != Some(term) {
            let waiting = Leadership { leader, term, is_self: false };
            publish(&core, waiting, Gate::Closed { leader: None });
            if !announce(&core, &group, term).await {
                sleep(ANNOUNCE_PAUSE).await;
                continue;
            }
            announced = Some(term);
            tracing::info!(shard = core.config.shard.0, term = term.0, "this node leads the shard");
            publish(&core, view.leadership, Gate::Open { term });
            continue;
        } else {
            // A leader has nobody to hear from: its timers are idle work.
            group.set_timers(false);
        }
        let look = if announced == Some(term) { watch_majority(&core, &group, term) } else { None };
        let changed = async {
            tokio::select! {
                biased;
                _ = failure.wait_for(Option::is_some) => true,
                changed = changes.next() => changed,
            }
        };
        let changed = match look {
            Some(pause) => timeout(pause, changed).await.unwrap_or(true),
            None => changed.await,
        };
        if !changed {
            // The library is gone; that it stopped may be told a moment later, a panic never.
            sleep(ANNOUNCE_PAUSE).await;
            let reason = group.view().stopped.unwrap_or_else(|| "its core ended without a reason".to_owned());
            stopped(&core, reason);
            return;
        }
    }
}

/// Ends with its drop.
struct Heartbeats(JoinHandle<()>);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Closes and opens the gate of a leader by whether it hears from a majority, and whether one takes what is proposed. When to
/// look again; never when nobody else decides.
fn watch_majority(core: &Core, group: &Group, term: Term) -> Option<Duration> {
    let silence = group.majority_silence();
    let shard = core.config.shard.0;
    let is_closed = matches!(core.proposals.gate(), Gate::Closed { .. });
    let stalled = core.proposals.stalled();
    if let Some(silence) = silence
        && (silence >= core.config.majority_silence_max || stalled >= core.config.commit_wait_max)
    {
        if !is_closed && silence >= core.config.majority_silence_max {
            tracing::warn!(shard, term = term.0, ?silence, "no majority answers: the shard takes no writes here");
        } else if !is_closed {
            tracing::warn!(shard, term = term.0, ?stalled, "no majority takes entries: the shard takes no writes here");
        }
        // Each time: the proposer may have handed over another entry meanwhile.
        core.proposals.close_without_majority();
        return Some(SILENCE_PAUSE);
    }
    if is_closed {
        tracing::info!(shard, term = term.0, "a majority answers again");
        core.proposals.set_gate(Gate::Open { term });
    }
    silence.map(|silence| core.config.majority_silence_max.saturating_sub(silence).max(SILENCE_PAUSE))
}

/// Stands for election in the place of `leader`, `turn` after its lease is over here: not while it goes on.
pub(crate) async fn succeed(group: &Group, leader: NodeId, turn: Duration) {
    let succession = async {
        for _ in 0..SUCCESSIONS_MAX {
            loop {
                match group.lease_left().await {
                    None => return,
                    Some(left) if left.is_zero() => break,
                    Some(left) => sleep(left).await,
                }
            }
            sleep(turn).await;
            if group.view().leadership.leader != Some(leader) || group.stand().await.is_err() {
                return;
            }
            sleep(SUCCESSION_WAIT).await;
        }
    };
    let _ = timeout(group.lease * SUCCESSION_LEASES, succession).await;
}

/// A stop that was asked for is no failure.
fn stopped(core: &Core, reason: String) {
    if core.proposals.gate() != Gate::Stopped {
        core.fail(OutOfService::Consensus { shard: core.config.shard, reason });
    }
}

async fn announce(core: &Core, group: &Group, term: Term) -> bool {
    let mut builder = EntryBuilder::new();
    builder.push(&Command::from(LeaderChange { leader: core.config.node }), None);
    let buffers = builder.finish(TimestampMs(core.env.wall_clock.now_ms()));
    let end = group.write_alone(term, Commands(Payload::from_iter(buffers))).await;
    matches!(end, EntryEnd::Applied(_))
}

fn publish(core: &Core, leadership: Leadership, gate: Gate) {
    core.proposals.set_gate(gate);
    let changed = core.leadership.send_if_modified(|current| {
        let changed = *current != leadership;
        *current = leadership;
        changed
    });
    if changed {
        core.waiters.wake_all();
    }
}
