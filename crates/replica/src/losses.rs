//! What a start finds lost of the log: refused, or given up when the operator accepts it.
//!
//! Three things need entries: the checkpoint says that they were there, the replay reads them, and the
//! restored state refers to them. Whatever lacks one of these is damage by one rule. A loss that is
//! accepted leaves a state that agrees with the log:
//! - a log that ends before its checkpoint goes on behind it; what lies between answers damage
//! - an entry that the replay needs ends the log before it, and the shard goes on as of there
//! - live data that is gone answers damage, now and at every later start
//!
//! Where the others of the group decide without this member nothing is accepted: they have what is lost, and whoever
//! acknowledged it and votes without it could lose it for all. Such a copy is set aside, and brought here anew.

use std::collections::BTreeSet;

use record::LogIndex;
use storage::{Damage, EntryKind, LogId, ShardLog, Vote};

use crate::config::Config;
use crate::core::Core;
use crate::errors::StartError;
use crate::raft::decode_membership;
use crate::raft::types::{Membership, StoredMembership};

/// The log before the replay, seen from a checkpoint at `covered`.
pub(crate) async fn settle(
    config: &Config,
    log: &ShardLog,
    covered: Option<(LogId, &StoredMembership)>,
) -> Result<(), StartError> {
    let members = covered.map(|(_, members)| members);
    let covered = covered.map(|(at, _)| at);
    if let Some(at) = covered {
        settle_end(config, log, at, members).await?;
        settle_unpurged(config, log, at).await?;
    }
    settle_replay(config, log, covered, members).await
}

async fn settle_end(
    config: &Config,
    log: &ShardLog,
    at: LogId,
    members: Option<&StoredMembership>,
) -> Result<(), StartError> {
    let state = log.log_state();
    if state.last.is_some_and(|last| last.index >= at.index) {
        return Ok(());
    }
    let from = state.last.map_or(LogIndex(0), |last| last.index.next());
    let lacking = log.lacking(from..=at.index);
    let lost = accepted(config, log, members, lacking, "the checkpoint was made of more").await?;
    let failed = |source| StartError::Log { shard: config.shard, source };
    log.give_up(lost).await.map_err(failed)?;
    // The vote that stood behind the last entry may be gone with it, and terms never go back.
    if state.vote.is_none_or(|vote| vote.term < at.term) {
        let vote = Vote { term: at.term, node_id: config.node, committed: false };
        log.save_vote(vote).await.map_err(failed)?;
    }
    log.purge(at).await.map_err(failed)
}

/// Consensus looks at what is not purged, and needs nothing of what the checkpoint covers. Whether
/// anything live is lost with it shows after the replay.
async fn settle_unpurged(config: &Config, log: &ShardLog, at: LogId) -> Result<(), StartError> {
    let from = log.log_state().purged.map_or(LogIndex(0), |purged| purged.index.next());
    if from > at.index || log.lacking(from..=at.index).is_empty() {
        return Ok(());
    }
    log.purge(at).await.map_err(|source| StartError::Log { shard: config.shard, source })
}

async fn settle_replay(
    config: &Config,
    log: &ShardLog,
    covered: Option<LogId>,
    members: Option<&StoredMembership>,
) -> Result<(), StartError> {
    let from = covered.map_or(LogIndex(0), |at| at.index.next());
    let Some(last) = log.log_state().last.filter(|last| last.index >= from) else { return Ok(()) };
    let lacking = log.lacking(from..=last.index);
    let Some(start) = lacking.first().and_then(|damage| damage.indexes.as_ref()).map(|range| *range.start()) else {
        return Ok(());
    };
    accepted(config, log, members, lacking, "the state after its checkpoint is made of them").await?;
    let failed = |source| StartError::Log { shard: config.shard, source };
    let keep = match LogIndex(start.0.saturating_sub(1)) {
        _ if start == from => covered,
        before => log.meta(before).await.map_err(failed)?.map(|meta| meta.id),
    };
    tracing::error!(shard = config.shard.0, from = start.0, through = last.index.0, "entries are given up");
    log.truncate_after(keep).await.map_err(failed)
}

impl Core {
    /// Before it takes part in its group: where others vote it has all that its state refers to and what lies behind that.
    pub(crate) async fn check_whole(&self) -> Result<(), StartError> {
        let (damaged, members) = {
            let state = self.state.read();
            let behind = state.last.map_or(LogIndex(0), |last| last.index.next());
            let mut needed = state.shard.live_ranges();
            needed.extend(self.here.needed().log);
            needed.extend(state.shard.unsealed_range());
            needed.extend(self.log.log_state().last.map(|last| behind..=last.index).filter(|range| !range.is_empty()));
            let mut damaged: Vec<Damage> = needed.into_iter().flat_map(|range| self.log.damage_within(range)).collect();
            if self.log.accepts_loss() {
                // What is lost of the end of the log nobody knows.
                damaged.push(Damage { file: self.log.accept_file(), position: 0, bytes: 0, indexes: None });
            }
            (damaged, state.membership.clone())
        };
        match damaged.first() {
            Some(damage) if has_others(&self.config, &self.log, Some(&members)).await => {
                Err(set_aside(&self.config, damage, "live data lies there"))
            }
            _ => Ok(()),
        }
    }

    /// After a replay: what the state refers to is in the log.
    pub(crate) async fn settle_live(&self) -> Result<(), StartError> {
        let lost = self.lost_live();
        if lost.is_empty() {
            return Ok(());
        }
        let members = self.state.read().membership.clone();
        let lost = accepted(&self.config, &self.log, Some(&members), lost, "live data lies there").await?;
        self.log.give_up(lost).await.map_err(|source| StartError::Log { shard: self.config.shard, source })
    }

    fn lost_live(&self) -> Vec<Damage> {
        // Under the lock nothing dies, so that nothing of what is looked for is let go meanwhile.
        let state = self.state.read();
        let unsealed = state.shard.unsealed_range();
        let of_objects = self.here.needed().log;
        let live = state.shard.live_ranges().into_iter().chain(of_objects).chain(unsealed);
        live.flat_map(|range| self.log.taken_away(range)).collect()
    }
}

/// The losses, if the operator accepts them.
async fn accepted(
    config: &Config,
    log: &ShardLog,
    members: Option<&StoredMembership>,
    lost: Vec<Damage>,
    needed: &'static str,
) -> Result<Vec<Damage>, StartError> {
    let shard = config.shard;
    for damage in &lost {
        tracing::error!(shard = shard.0, needed, "{damage}");
    }
    match lost.first() {
        Some(damage) if has_others(config, log, members).await => Err(set_aside(config, damage, needed)),
        Some(damage) if !log.accepts_loss() => {
            Err(StartError::Lost { shard, damage: damage.clone(), needed, accept: log.accept_file() })
        }
        _ => Ok(lost),
    }
}

fn set_aside(config: &Config, damage: &Damage, needed: &'static str) -> StartError {
    StartError::SetAside { shard: config.shard, damage: damage.clone(), needed }
}

/// Whether those of a group that vote decide without `me`: what is committed is with them, too.
pub(crate) fn decide_without<'a>(me: u64, mut voters: impl Iterator<Item = &'a BTreeSet<u64>>) -> bool {
    let decides = |voters: &BTreeSet<u64>| 2 * voters.iter().filter(|voter| **voter != me).count() > voters.len();
    voters.all(decides)
}

/// Whether others decide in the group without this node, as far as what is left here says: `members` are those of the
/// checkpoint.
async fn has_others(config: &Config, log: &ShardLog, members: Option<&StoredMembership>) -> bool {
    if config.others_are_gone {
        return false;
    }
    let me = config.node.0;
    let others = |membership: &Membership| {
        let voters = membership.get_joint_config();
        !voters.is_empty() && decide_without(me, voters.iter())
    };
    let mut found = members.is_some_and(|members| others(members.membership()));
    let state = log.log_state();
    let mut next = state.purged.map_or(LogIndex(0), |purged| purged.index.next());
    while let Some(index) = log.first_held(next).filter(|index| state.last.is_some_and(|last| *index <= last.index)) {
        next = index.next();
        let Ok(Some(meta)) = log.meta(index).await else { continue };
        if meta.kind != EntryKind::Membership {
            continue;
        }
        let Ok(chunk) = log.read(index, 0..meta.payload_bytes).await else { continue };
        if let Ok(bytes) = chunk.into_bytes().await
            && let Ok(membership) = decode_membership(&bytes)
        {
            found = others(&membership);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_decide_where_each_set_of_voters_has_a_majority_of_them() {
        let set = |voters: &[u64]| voters.iter().copied().collect::<BTreeSet<_>>();
        for (voters, expected) in [
            (vec![set(&[1, 2, 3])], true),
            (vec![set(&[2])], true),
            (vec![set(&[1])], false),
            (vec![set(&[1, 2])], false),
            (vec![set(&[1]), set(&[1, 2, 3])], false),
            (vec![set(&[1, 2, 3]), set(&[2, 3, 4])], true),
        ] {
            assert_eq!(decide_without(1, voters.iter()), expected, "{voters:?}");
        }
    }
}
