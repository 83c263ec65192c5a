//! What a start finds lost of the log: refused, or given up when the operator accepts it.
//!
//! Three things need entries: the checkpoint says that they were there, the replay reads them, and the
//! restored state refers to them. Whatever lacks one of these is damage by one rule. A loss that is
//! accepted leaves a state that agrees with the log:
//! - a log that ends before its checkpoint goes on behind it; what lies between answers damage
//! - an entry that the replay needs ends the log before it, and the shard goes on as of there
//! - live data that is gone answers damage, now and at every later start

use record::LogIndex;
use storage::{Damage, LogId, ShardLog, Vote};

use crate::config::Config;
use crate::core::Core;
use crate::errors::StartError;

/// The log before the replay, seen from a checkpoint at `covered`.
pub(crate) async fn settle(config: &Config, log: &ShardLog, covered: Option<LogId>) -> Result<(), StartError> {
    if let Some(at) = covered {
        settle_end(config, log, at).await?;
        settle_unpurged(config, log, at).await?;
    }
    settle_replay(config, log, covered).await
}

async fn settle_end(config: &Config, log: &ShardLog, at: LogId) -> Result<(), StartError> {
    let state = log.log_state();
    if state.last.is_some_and(|last| last.index >= at.index) {
        return Ok(());
    }
    let from = state.last.map_or(LogIndex(0), |last| last.index.next());
    let lost = accepted(config, log, log.lacking(from..=at.index), "the checkpoint was made of more")?;
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

async fn settle_replay(config: &Config, log: &ShardLog, covered: Option<LogId>) -> Result<(), StartError> {
    let from = covered.map_or(LogIndex(0), |at| at.index.next());
    let Some(last) = log.log_state().last.filter(|last| last.index >= from) else { return Ok(()) };
    let lacking = log.lacking(from..=last.index);
    let Some(start) = lacking.first().and_then(|damage| damage.indexes.as_ref()).map(|range| *range.start()) else {
        return Ok(());
    };
    accepted(config, log, lacking, "the state after its checkpoint is made of them")?;
    let failed = |source| StartError::Log { shard: config.shard, source };
    let keep = match LogIndex(start.0.saturating_sub(1)) {
        _ if start == from => covered,
        before => log.meta(before).await.map_err(failed)?.map(|meta| meta.id),
    };
    tracing::error!(shard = config.shard.0, from = start.0, through = last.index.0, "entries are given up");
    log.truncate_after(keep).await.map_err(failed)
}

impl Core {
    /// After a replay: what the state refers to is in the log.
    pub(crate) async fn settle_live(&self) -> Result<(), StartError> {
        let lost = self.lost_live();
        if lost.is_empty() {
            return Ok(());
        }
        let lost = accepted(&self.config, &self.log, lost, "live data lies there")?;
        self.log.give_up(lost).await.map_err(|source| StartError::Log { shard: self.config.shard, source })
    }

    fn lost_live(&self) -> Vec<Damage> {
        // Under the lock nothing dies, so that nothing of what is looked for is let go meanwhile.
        let state = self.state.read();
        let unsealed = state.shard.unsealed_range();
        state.shard.live_ranges().into_iter().chain(unsealed).flat_map(|range| self.log.taken_away(range)).collect()
    }
}

/// The losses, if the operator accepts them.
fn accepted(
    config: &Config,
    log: &ShardLog,
    lost: Vec<Damage>,
    needed: &'static str,
) -> Result<Vec<Damage>, StartError> {
    let shard = config.shard;
    for damage in &lost {
        tracing::error!(shard = shard.0, needed, "{damage}");
    }
    match lost.first() {
        Some(damage) if !log.accepts_loss() => {
            Err(StartError::Lost { shard, damage: damage.clone(), needed, accept: log.accept_file() })
        }
        _ => Ok(lost),
    }
}
