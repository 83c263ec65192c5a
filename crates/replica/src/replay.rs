//! The state of a replica that does not run, computed from its files: what it would come to at its next start, and
//! the digest by which it can be compared with that of another replica, or of another program.

use std::io;

use bytes::Bytes;
use record::LogIndex;
use shard::{AssertionFailed, Shard};
use storage::checkpoint::CheckpointStore;
use storage::{EntryKind, LogId, ShardLog};
use thiserror::Error;

use crate::checkpoint;
use crate::config::Config;
use crate::core::Applied;
use crate::errors::StartError;

/// What is read of an entry to see how long its head is; most heads are shorter.
const HEAD_GUESS_BYTES: u32 = 4_096;

/// A state, by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// The last entry applied.
    pub last: LogId,
    /// Equal on all replicas at equal entries.
    pub digest: u64,
    /// Where the checkpoint is that the replay began with, if it began with one.
    pub checkpoint: Option<LogIndex>,
}

/// Why there is no digest.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The checkpoint cannot be used, or the log does not reach back to it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] io::Error),
    /// An entry was let go, or was never here.
    #[error("the entry {0} is not in the log (any more)")]
    Missing(LogIndex),
    /// The state of then is not here any more.
    #[error("the checkpoint is of entry {checkpoint}, behind {through}")]
    Behind {
        /// What the checkpoint covers.
        checkpoint: LogIndex,
        /// What was asked for.
        through: LogIndex,
    },
    /// The state machine does not take an entry.
    #[error(transparent)]
    Apply(#[from] AssertionFailed),
}

/// Replays what the files of a replica hold that does not run, up to the entry `through` or to the last one, committed or
/// not; `None` when they hold nothing.
///
/// # Errors
/// When a file cannot be read or is damaged, or the state that is wished for cannot be made of them.
pub async fn replay(
    config: &Config,
    checkpoints: &CheckpointStore,
    log: &ShardLog,
    through: Option<LogIndex>,
) -> Result<Option<Replayed>, ReplayError> {
    let come_to = come_to(config, checkpoints, log, through).await?;
    Ok(come_to.map(|ComeTo { mut shard, last, checkpoint }| Replayed { last, digest: shard.digest(), checkpoint }))
}

/// As [`replay`], the state itself as of the last entry.
///
/// # Errors
/// As with [`replay`].
pub async fn replay_state(
    config: &Config,
    checkpoints: &CheckpointStore,
    log: &ShardLog,
) -> Result<Option<Shard>, ReplayError> {
    Ok(come_to(config, checkpoints, log, None).await?.map(|come_to| come_to.shard))
}

struct ComeTo {
    shard: Shard,
    last: LogId,
    checkpoint: Option<LogIndex>,
}

async fn come_to(
    config: &Config,
    checkpoints: &CheckpointStore,
    log: &ShardLog,
    through: Option<LogIndex>,
) -> Result<Option<ComeTo>, ReplayError> {
    let Applied { mut shard, mut last, .. } = checkpoint::restore(config, checkpoints, log).await?;
    let checkpoint = last.map(|last| last.index);
    let Some(end) = log.log_state().last.max(last) else { return Ok(None) };
    let through = through.unwrap_or(end.index);
    if let Some(checkpoint) = checkpoint.filter(|checkpoint| *checkpoint > through) {
        return Err(ReplayError::Behind { checkpoint, through });
    }
    let mut index = checkpoint.map_or(LogIndex(0), LogIndex::next);
    while index <= through {
        match log.meta(index).await? {
            Some(meta) if meta.kind == EntryKind::Commands => {
                let head = read_head(log, index, meta.payload_bytes).await?;
                shard.apply(index, meta.id.term, &head)?;
                last = Some(meta.id);
            }
            Some(meta) => {
                shard.advance(index, meta.id.term)?;
                last = Some(meta.id);
            }
            // Some groups begin with entry 0, others with 1.
            None if index == LogIndex(0) => {}
            None => return Err(ReplayError::Missing(index)),
        }
        index = index.next();
    }
    Ok(last.map(|last| ComeTo { shard, last, checkpoint }))
}

/// The front of an entry's payload, with all of its commands.
async fn read_head(log: &ShardLog, index: LogIndex, payload_bytes: u32) -> io::Result<Bytes> {
    let first = log.read(index, 0..payload_bytes.min(HEAD_GUESS_BYTES)).await?.into_bytes().await?;
    let length = shard::entry_head_bytes(&first)
        .and_then(|length| u32::try_from(length).ok())
        .filter(|length| *length <= payload_bytes)
        .ok_or_else(|| io::Error::other(format!("the entry {index} does not begin with its head")))?;
    if length as usize <= first.len() { Ok(first) } else { log.read(index, 0..length).await?.into_bytes().await }
}
