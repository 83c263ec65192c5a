//! The side that gives: any member, from its last durable checkpoint.
//!
//! What died behind the checkpoint may be gone here. That is told as gone or passed over: the one
//! that catches up will apply what let it die.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base::time::{Duration, now, sleep, timeout};
use bytes::Bytes;
use record::{FileNumber, LogIndex, NodeId};
use storage::checkpoint::Loaded;
use storage::{EntryMeta, LogId, Payload, Reading};

use super::pins::{ChunkStream, NotPinned, Pin};
use super::wire::{self, Answer, Ask, FILES_MAX, Later, Offer, PART_BYTES, PIECES_MAX, Piece};
use crate::core::{Core, DurableCheckpoint};
use crate::errors::AnswerError;
use crate::liveness;
use crate::replica::Replica;

/// How long an answer waits for a newer checkpoint.
const CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause before a checkpoint is opened again that was replaced meanwhile.
const OPEN_PAUSE: Duration = Duration::from_millis(10);
const OPEN_TRIES_MAX: usize = 20;

/// Why there is no answer of the usual kind.
enum Trouble {
    Later(Later),
    Io(io::Error),
}

/// What was found where an entry is looked for.
enum Read {
    Piece(Piece),
    TooLarge,
    Gone,
}

impl From<Later> for Trouble {
    fn from(later: Later) -> Self {
        Self::Later(later)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Replica {
    /// Answers a request of [`crate::install`] on another node, as [`crate::Donor::ask`] sent it. The answer fits
    /// 4 MiB less 64 KiB.
    ///
    /// # Errors
    /// When it is no request, or the replica is out of service.
    pub async fn answer_pull(&self, request: Bytes) -> Result<Payload, AnswerError> {
        let core = &self.inner.core;
        let ask = wire::decode_ask(request).map_err(|error| AnswerError::Message(error.to_string()))?;
        let _answering = core.pins.answering.acquire().await.map_err(|_| AnswerError::Stopped)?;
        if core.is_failed() {
            return Err(AnswerError::Stopped);
        }
        let answer = match self.pull_answer(ask).await {
            Ok(answer) => answer,
            Err(Trouble::Later(reason)) => Answer::Later(reason),
            Err(Trouble::Io(error)) => {
                tracing::warn!(shard = core.config.shard.0, %error, "another node cannot be given what it asks for");
                Answer::Later(Later::Damaged)
            }
        };
        Ok(wire::encode_answer(answer))
    }

    async fn pull_answer(&self, ask: Ask) -> Result<Answer, Trouble> {
        let core = &self.inner.core;
        let pin = |id| core.pins.renew(id).ok_or(Later::Unpinned);
        match ask {
            Ask::Begin { node, have, reach } => self.offer(node, have, reach).await,
            Ask::Files { pin: id, behind } => {
                let pin = pin(id)?;
                let mut files = pin.files.range(FileNumber(behind.0.saturating_add(1))..);
                let listed = files.by_ref().take(FILES_MAX).map(|(file, bytes)| (*file, *bytes)).collect();
                Ok(Answer::Files { more: files.next().is_some(), files: listed })
            }
            Ask::File { pin: id, file, position } => core.file_part(&*pin(id)?, file, position).await,
            Ask::Entries { pin: id, from, byte } => core.entries_from(&*pin(id)?, from, byte).await,
            Ask::Checkpoint { pin: id, position } => {
                let pin = pin(id)?;
                let part = pin.chunks.lock().await.part(position).await?;
                let (bytes, end) = part.ok_or(Later::Unpinned)?;
                Ok(Answer::Chunks { end, bytes })
            }
            Ask::Object { pin: id, object, position, bytes } => {
                if let Some(id) = id {
                    pin(id)?;
                }
                let len = u64::from(bytes).min(PART_BYTES as u64);
                match core.index.objects().raw(object, position, len).await? {
                    Some(part) => Ok(Answer::Part(part)),
                    // Index files and log do not stand for it here: whoever pulls all must have it of another, or later.
                    None if id.is_some() && core.here.has_older(object) => Err(Later::Behind.into()),
                    None => Ok(Answer::Gone),
                }
            }
            Ask::End { pin } => {
                core.pins.end(pin);
                core.maintenance.notify_one();
                Ok(Answer::Ended)
            }
        }
    }

    /// Pins the last durable checkpoint, or one that is written for that.
    async fn offer(&self, node: NodeId, have: Option<LogId>, reach: LogIndex) -> Result<Answer, Trouble> {
        let core = &self.inner.core;
        let reaches = |at: LogId| {
            at.index >= reach && have.is_none_or(|have| at == have || (at.index > have.index && at.term >= have.term))
        };
        let deadline = now() + CHECKPOINT_WAIT_MAX;
        let mut tries = 0;
        loop {
            let durable = core.durable_checkpoint().filter(|checkpoint| reaches(checkpoint.id));
            let Some(checkpoint) = durable else {
                let applied = core.applied_state().0;
                if !applied.is_some_and(reaches) || now() >= deadline {
                    return Err(Later::Behind.into());
                }
                let left = deadline.saturating_duration_since(now());
                let _ = timeout(left, self.checkpoint()).await;
                sleep(OPEN_PAUSE).await;
                continue;
            };
            let chain = core.checkpoints.open_chain().await?.filter(|chain| chain.at == checkpoint.id);
            if let Some(chain) = chain {
                let (pin, offer) = core.pin_of(&checkpoint, chain)?;
                match core.pins.insert(node, Arc::new(pin)) {
                    // With a newer one what only this one needs may have gone before the pin held it.
                    Ok(()) if core.durable_checkpoint().is_none_or(|durable| durable.id != checkpoint.id) => {
                        core.pins.end(offer.pin);
                    }
                    Ok(()) => return Ok(Answer::Offer(offer)),
                    Err(NotPinned::Busy) => return Err(Later::Busy.into()),
                    // A newer one is durable by now.
                    Err(NotPinned::Purged) => {}
                }
            }
            tries += 1;
            if tries >= OPEN_TRIES_MAX {
                return Err(Later::Behind.into());
            }
            sleep(OPEN_PAUSE).await;
        }
    }
}

impl Core {
    fn pin_of(&self, checkpoint: &DurableCheckpoint, chain: Loaded) -> Result<(Pin, Offer), Trouble> {
        let DurableCheckpoint { id: at, files, objects, .. } = checkpoint;
        let at = *at;
        let live_files = self.live_files();
        let mut held = BTreeMap::new();
        for file in &**files {
            match self.index.size(*file) {
                Some(bytes) => drop(held.insert(*file, bytes)),
                None if live_files.binary_search(file).is_ok() => return Err(Later::Damaged.into()),
                None => {}
            }
        }
        // Of the ranges in whose place objects are since then, too.
        let mut ranges: Vec<RangeInclusive<LogIndex>> = checkpoint
            .live
            .iter()
            .map(|range| *range.start()..=(*range.end()).min(at.index))
            .filter(|range| !range.is_empty())
            .collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let offer = Offer {
            pin: self.env.random.next_u64().max(1),
            at,
            checkpoint_bytes: chain.bytes,
            index_bytes: held.values().sum::<u64>()
                + objects.iter().filter_map(|key| self.index.objects().size(*key)).sum::<u64>(),
            entry_bytes: self.log.bytes_within(&ranges),
        };
        let chunks = tokio::sync::Mutex::new(ChunkStream::new(chain));
        let objects = Arc::clone(objects);
        Ok((Pin { id: offer.pin, at, files: held, objects, ranges, chunks }, offer))
    }

    /// Index files that are read now, in order.
    fn live_files(&self) -> Vec<FileNumber> {
        let state = self.state.read();
        liveness::files(&state, &self.index, &self.here.needed())
    }

    async fn file_part(&self, pin: &Pin, file: FileNumber, position: u64) -> Result<Answer, Trouble> {
        let bytes =
            if pin.files.contains_key(&file) { self.index.raw(file, position, PART_BYTES).await? } else { None };
        match bytes {
            Some(bytes) => Ok(Answer::Part(bytes)),
            None if self.live_files().binary_search(&file).is_ok() => Err(Later::Damaged.into()),
            None => Ok(Answer::Gone),
        }
    }

    /// Live entries from `from` on, of the first one what lies behind `byte`: as many as are an answer.
    async fn entries_from(&self, pin: &Pin, from: LogIndex, byte: u32) -> Result<Answer, Trouble> {
        let reading = self.log.reading().await;
        let mut pieces = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while pieces.len() < PIECES_MAX && bytes < PART_BYTES {
            let Some(live) = pin.next_live(next) else { return Ok(Answer::Entries { end: true, pieces }) };
            let index = *live.start();
            match self.log.first_held(index).filter(|held| held <= live.end()) {
                Some(held) if held == index => {}
                held => {
                    let behind = held.unwrap_or_else(|| live.end().next());
                    self.check_gone(&(index..=LogIndex(behind.0 - 1)))?;
                    next = behind;
                    continue;
                }
            }
            let byte = if index == from { byte } else { 0 };
            let left = PART_BYTES - bytes;
            match self.piece(&reading, index, byte, left, pieces.is_empty()).await {
                Ok(Read::Piece(piece)) => {
                    bytes += piece.bytes.len();
                    let whole = piece.bytes.len() == piece.payload_bytes as usize;
                    pieces.push(piece);
                    if !whole {
                        break;
                    }
                }
                Ok(Read::TooLarge) => break,
                Ok(Read::Gone) => self.check_gone(&(index..=index))?,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.check_gone_or(index, error)?,
                Err(error) => return Err(error.into()),
            }
            next = index.next();
        }
        Ok(Answer::Entries { end: false, pieces })
    }

    /// The payload of an entry behind `byte`; a part of at most `bytes_max` only if it is `alone` in its answer, so that
    /// few are in parts.
    async fn piece(
        &self,
        _reading: &Reading<'_>,
        index: LogIndex,
        byte: u32,
        bytes_max: usize,
        alone: bool,
    ) -> io::Result<Read> {
        let Some(meta) = self.log.meta(index).await? else { return Ok(Read::Gone) };
        let from = byte.min(meta.payload_bytes);
        let left = meta.payload_bytes - from;
        if !alone && (left as usize) > bytes_max {
            return Ok(Read::TooLarge);
        }
        let length = left.min(u32::try_from(bytes_max).unwrap_or(u32::MAX));
        let bytes = match self.log.read_checked(index, from..from + length).await {
            _ if length == 0 => Bytes::new(),
            Ok(chunk) => {
                let mut slice = chunk.into_slice().await?;
                // A block of the cache is not held for as long as an answer waits to be sent.
                if slice.backing().bytes() > 2 * slice.bytes().len() {
                    slice.detach();
                }
                slice.into_bytes()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Gone),
            Err(error) => return Err(error),
        };
        let EntryMeta { id, kind, payload_bytes } = meta;
        Ok(Read::Piece(Piece { id, kind, payload_bytes, from, bytes }))
    }

    /// What is not in the log was let go, or it is damage of what still lives.
    fn check_gone(&self, range: &RangeInclusive<LogIndex>) -> Result<(), Trouble> {
        if self.log.is_damaged(range) && self.is_live(range) { Err(Later::Damaged.into()) } else { Ok(()) }
    }

    fn check_gone_or(&self, index: LogIndex, error: io::Error) -> Result<(), Trouble> {
        if self.is_live(&(index..=index)) { Err(error.into()) } else { Ok(()) }
    }

    fn is_live(&self, range: &RangeInclusive<LogIndex>) -> bool {
        let state = self.state.read();
        let of_objects = self.here.needed().log;
        let live = state.shard.live_ranges().into_iter().chain(state.shard.unsealed_range()).chain(of_objects);
        live.into_iter().any(|live| live.start() <= range.end() && range.start() <= live.end())
    }
}
