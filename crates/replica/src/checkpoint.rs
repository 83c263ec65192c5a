//! Checkpoints: the state as of one entry, written beside apply, as a base and deltas on it.
//!
//! The state is captured in small steps under the lock, each well below a millisecond; what changes
//! between the steps does not show, the state machine sees to that. Every link of the chain begins
//! with a chunk of ours, all others are the state machine's:
//!
//! ```text
//! first chunk:  0 u8 | version u8 = 1 | term u64 | index u64 | membership's term u64, index u64 | membership
//! other chunks: 1 u8 | captured state
//! ```
//! All integers are little-endian. A membership's log id of all ones means that there is none.

use std::io;

use base::task::yield_now;
use bytes::{Bytes, BytesMut};
use record::{LogIndex, Term};
use shard::{Restore, RestoreError, Shard};
use storage::checkpoint::{CheckpointStore, CheckpointWriter};
use storage::{LogId, ShardLog};

use crate::config::Config;
use crate::core::{Applied, Core, DurableCheckpoint};
use crate::errors::StartError;
use crate::liveness;
use crate::losses;
use crate::raft::types::{StoredMembership, consensus_log_id, stored_log_id};
use crate::raft::{decode_membership, encode_membership};

pub(crate) const POSITION: u8 = 0;
pub(crate) const STATE: u8 = 1;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2 + 32;
const NO_LOG_ID: LogId = LogId { term: Term(u64::MAX), index: LogIndex(u64::MAX) };
/// A delta of less than this never makes a base due.
const DELTA_BYTES_MIN: u64 = 4 << 20;

/// The state to start from: that of the last checkpoint, or an empty one.
pub(crate) async fn restore(
    config: &Config,
    checkpoints: &CheckpointStore,
    log: &ShardLog,
) -> Result<Applied, StartError> {
    let shard = config.shard;
    let unreadable = |source| StartError::Checkpoint { shard, source };
    let damaged = |reason: String| StartError::Restore { shard, reason };
    let refused = |error: RestoreError| match (error.is_later(), error.to_string()) {
        (true, reason) => StartError::Later { shard, reason },
        (false, reason) => StartError::Restore { shard, reason },
    };
    let mut restore = Restore::new(shard);
    let mut position = None;
    let mut at = None;
    if let Some(mut loaded) = checkpoints.load().await.map_err(unreadable)? {
        for file in &loaded.damaged {
            tracing::error!(shard = shard.0, file = %file.display(), "a checkpoint is damaged and was passed over");
        }
        at = Some(loaded.at);
        while let Some(chunk) = loaded.next_chunk().await.map_err(unreadable)? {
            match chunk.first() {
                Some(&POSITION) => position = Some(decode_position(&chunk).map_err(damaged)?),
                Some(&STATE) => restore.chunk(&chunk[1..]).map_err(refused)?,
                _ => return Err(damaged("a chunk of unknown kind".to_owned())),
            }
        }
    }
    if position.as_ref().map(|(id, _)| *id) != at {
        return Err(damaged("the chain does not end where its files say".to_owned()));
    }
    let purged = log.log_state().purged;
    let covered = at.map_or(LogIndex(0), |id| id.index);
    if let Some(purged) = purged.filter(|purged| purged.index > covered) {
        return Err(StartError::Gap { shard, purged: purged.index, checkpoint: covered });
    }
    Box::pin(losses::settle(config, log, position.as_ref().map(|(at, members)| (*at, members)))).await?;
    let Some((last, membership)) = position else {
        return Ok(Applied { shard: Shard::new(shard), last: None, membership: StoredMembership::default() });
    };
    let restored = restore.finish().map_err(refused)?;
    tracing::info!(shard = shard.0, index = last.index.0, "restored a checkpoint");
    Ok(Applied { shard: restored, last: Some(last), membership })
}

/// What a round of checkpointing led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The checkpoint is durable.
    Durable,
    /// There was nothing to write, sealed ranges still wait for their files, or the state is not to
    /// be trusted.
    Nothing,
}

impl Core {
    /// Writes a checkpoint of the state as of now. `base` asks for a whole one.
    pub(crate) async fn write_checkpoint(&self, base: bool) -> io::Result<Written> {
        let checkpoints = &self.checkpoints;
        let base = base || self.is_base_due(checkpoints);
        // Before the state is captured: what lives then lives now, or comes behind.
        let Some(live) = self.live_now() else { return Ok(Written::Nothing) };
        let (last, membership, files, objects, base) = {
            let mut state = self.state.write();
            let Some(last) = state.last else { return Ok(Written::Nothing) };
            // The failed entry counts as applied: a start from such a state would pass over it.
            if state.shard.is_failed() || self.is_failed() {
                return Ok(Written::Nothing);
            }
            if !self.chores.lock().sealed.is_empty() {
                return Ok(Written::Nothing);
            }
            let start = state.shard.begin_capture(base).map_err(io::Error::other)?;
            assert_eq!(start.applied, Some((last.index, last.term)), "the state knows where it stands");
            self.progress.checkpoint_begins();
            let files = liveness::files(&state, &self.index, &self.here.needed()).into();
            let objects = self.here.keys().into();
            (last, state.membership.clone(), files, objects, start.base)
        };
        let result = self.write_captured(checkpoints, base, last, &membership).await;
        if result.is_err() {
            self.state.write().shard.abort_capture();
        }
        let bytes = result?;
        tracing::debug!(shard = self.config.shard.0, index = last.index.0, bytes, base, "wrote a checkpoint");
        self.set_durable_checkpoint(DurableCheckpoint { id: last, membership, files, objects, live: live.into() });
        Ok(Written::Durable)
    }

    async fn write_captured(
        &self,
        checkpoints: &CheckpointStore,
        base: bool,
        last: LogId,
        membership: &StoredMembership,
    ) -> io::Result<u64> {
        let mut writer = if base { checkpoints.write_base(last).await? } else { checkpoints.write_delta(last).await? };
        writer.chunk(encode_position(last, membership)).await?;
        self.capture(&mut writer).await?;
        // Of several members others may have committed what is not durable here: a checkpoint must not
        // stand before its log.
        if !self.is_alone() {
            self.log.barrier().await?;
        }
        writer.finish().await
    }

    async fn capture(&self, writer: &mut CheckpointWriter) -> io::Result<()> {
        loop {
            let captured = {
                let mut state = self.state.write();
                if state.shard.is_failed() {
                    return Err(io::Error::other("an entry failed while the state was captured"));
                }
                state.shard.capture_some(self.config.capture_step_records)
            };
            let Some(state) = captured else { return Ok(()) };
            if !state.is_empty() {
                let mut chunk = BytesMut::with_capacity(1 + state.len());
                chunk.extend_from_slice(&[STATE]);
                chunk.extend_from_slice(&state);
                writer.chunk(chunk.freeze()).await?;
            }
            // Apply gets its turn between two steps.
            yield_now().await;
        }
    }

    fn is_base_due(&self, checkpoints: &CheckpointStore) -> bool {
        checkpoints.chain().is_none_or(|chain| {
            chain.deltas as usize >= self.config.checkpoint_deltas_max
                || (chain.delta_bytes > DELTA_BYTES_MIN && chain.delta_bytes > chain.base_bytes)
        })
    }
}

fn encode_position(last: LogId, membership: &StoredMembership) -> Bytes {
    let members_at = membership.log_id().map_or(NO_LOG_ID, stored_log_id);
    let mut chunk = BytesMut::with_capacity(HEADER_BYTES + 64);
    chunk.extend_from_slice(&[POSITION, VERSION]);
    for number in [last.term.0, last.index.0, members_at.term.0, members_at.index.0] {
        chunk.extend_from_slice(&number.to_le_bytes());
    }
    chunk.extend_from_slice(&encode_membership(membership.membership()));
    chunk.freeze()
}

pub(crate) fn decode_position(chunk: &[u8]) -> Result<(LogId, StoredMembership), String> {
    let (header, members) = chunk.split_at_checked(HEADER_BYTES).ok_or("its first chunk is short")?;
    if header[1] != VERSION {
        return Err(format!("its version {} is not known, unless to a later version of the program", header[1]));
    }
    let (numbers, _) = header[2..].as_chunks::<8>();
    let number = |place: usize| u64::from_le_bytes(numbers[place]);
    let last = LogId { term: Term(number(0)), index: LogIndex(number(1)) };
    let members_at = LogId { term: Term(number(2)), index: LogIndex(number(3)) };
    if members_at == NO_LOG_ID {
        return Ok((last, StoredMembership::default()));
    }
    let members = decode_membership(members).map_err(|error| error.to_string())?;
    Ok((last, StoredMembership::new(Some(consensus_log_id(members_at)), members)))
}
