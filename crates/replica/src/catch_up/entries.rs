//! Entries on their way into the log: put together, checked, and appended behind gaps.
//!
//! What lies in a gap died before it was asked for. The purge mark passes it, by an entry's term that
//! is not above that of what lay there, so that the marks and the checkpoint only rise.

use std::io;

use base::time::{Duration, sleep};
use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use futures_util::poll;
use record::{LogIndex, Term};
use storage::{DiskState, Entry, EntryKind, LogId, Payload, Refused, ShardLog};
use tokio::sync::oneshot;

use super::install::InstallError;
use super::wire::Piece;
use crate::raft::decode_membership;

/// Pause before a full queue is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
const BUSY_TRIES_MAX: usize = 6_000;
/// No entry is larger: it went over a connection between nodes once.
const ENTRY_BYTES_MAX: u32 = 8 << 20;

type Durable = BoxFuture<'static, io::Result<()>>;

/// Appends what comes to the log of a shard that no replica runs on.
pub(super) struct EntryWriter<'a> {
    log: &'a ShardLog,
    /// The checkpoint that is installed: nothing behind it is taken.
    at: LogId,
    last: Option<LogId>,
    partial: Option<Partial>,
    /// What was put into the log's queue and is not known to be durable.
    queued: Vec<Durable>,
}

/// A large entry that is not whole yet.
struct Partial {
    id: LogId,
    kind: EntryKind,
    payload_bytes: u32,
    payload: BytesMut,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(log: &'a ShardLog, at: LogId) -> Self {
        Self { log, at, last: log.log_state().last, partial: None, queued: Vec::new() }
    }

    /// From where to ask: an index, and a byte of its payload.
    pub(super) fn next(&self) -> (LogIndex, u32) {
        match &self.partial {
            Some(partial) => (partial.id.index, u32::try_from(partial.payload.len()).unwrap_or(u32::MAX)),
            None => (self.last.map_or(LogIndex(0), |last| last.index.next()), 0),
        }
    }

    /// Takes the pieces of one answer. Returns when those of the answer before are durable, so that little is queued.
    pub(super) async fn take(&mut self, pieces: Vec<Piece>) -> Result<(), InstallError> {
        let before = std::mem::take(&mut self.queued);
        let mut run: Vec<Entry> = Vec::new();
        for piece in pieces {
            let Some(entry) = self.assemble(piece)? else { continue };
            self.check(&entry)?;
            let follows = self.last.is_none_or(|last| last.index.next() == entry.id.index);
            // The first entry of all may be any, but the places before it count as purged.
            if !follows || (self.last.is_none() && entry.id.index.0 > 0) {
                self.append(std::mem::take(&mut run)).await?;
                self.pass(entry.id.index).await?;
            }
            self.last = Some(entry.id);
            run.push(entry);
        }
        self.append(run).await?;
        try_join_all(before).await.map_err(InstallError::Log)?;
        Ok(())
    }

    /// Returns when all that was taken is durable.
    pub(super) async fn finish(self) -> Result<(), InstallError> {
        if self.partial.is_some() {
            return Err(InstallError::Answer("the entries end within one".to_owned()));
        }
        try_join_all(self.queued).await.map_err(InstallError::Log)?;
        Ok(())
    }

    fn assemble(&mut self, piece: Piece) -> Result<Option<Entry>, InstallError> {
        let Piece { id, kind, payload_bytes, from, bytes } = piece;
        if payload_bytes > ENTRY_BYTES_MAX {
            return Err(InstallError::Answer(format!("an entry of {payload_bytes} bytes")));
        }
        let known = self.partial.take();
        let whole = if from == 0 && bytes.len() == payload_bytes as usize {
            bytes
        } else {
            let mut payload = match known {
                Some(known) if (known.id, known.kind, known.payload_bytes) == (id, kind, payload_bytes) => {
                    known.payload
                }
                _ => BytesMut::with_capacity(payload_bytes as usize),
            };
            if payload.len() != from as usize || bytes.is_empty() {
                return Err(InstallError::Answer("a part of an entry that was not asked for".to_owned()));
            }
            payload.extend_from_slice(&bytes);
            if payload.len() < payload_bytes as usize {
                self.partial = Some(Partial { id, kind, payload_bytes, payload });
                return Ok(None);
            }
            payload.freeze()
        };
        Ok(Some(Entry { id, kind, payload: Payload::from(whole) }))
    }

    /// What the log would take as an error of ours, and what no replica could apply.
    fn check(&self, entry: &Entry) -> Result<(), InstallError> {
        let Entry { id, kind, payload } = entry;
        let rises = self.last.is_none_or(|last| last.index < id.index && last.term <= id.term);
        let within = id.index < self.at.index && id.term <= self.at.term || *id == self.at;
        if !rises || !within {
            return Err(InstallError::Answer(format!("the entry {} of term {} is out of order", id.index, id.term)));
        }
        let payload: Bytes = payload.to_bytes();
        let sound = match kind {
            EntryKind::Blank => payload.is_empty(),
            EntryKind::Membership => decode_membership(&payload).is_ok(),
            EntryKind::Commands => shard::entry_head_bytes(&payload).is_some_and(|head| head <= payload.len()),
        };
        if sound { Ok(()) } else { Err(InstallError::Answer(format!("the entry {} is none", id.index))) }
    }

    async fn append(&mut self, entries: Vec<Entry>) -> Result<(), InstallError> {
        if entries.is_empty() {
            return Ok(());
        }
        // What is needed to let go of something goes on; it may be the checkpoint behind these entries that frees room.
        if self.log.disk_state() == DiskState::Exhausted {
            return Err(InstallError::Refused(Refused::DiskFull));
        }
        for _ in 0..BUSY_TRIES_MAX {
            let (sender, durable) = oneshot::channel();
            let done = Box::new(move |result| drop(sender.send(result)));
            match self.log.append_each(entries.clone(), done) {
                Ok(()) => {
                    let durable = durable.map(|told| told.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())));
                    self.queued.push(durable.boxed());
                    return Ok(());
                }
                Err(Refused::Busy) => sleep(BUSY_PAUSE).await,
                Err(refused) => return Err(InstallError::Refused(refused)),
            }
        }
        Err(InstallError::Refused(Refused::Busy))
    }

    /// Moves the log's end to the place before `index`.
    async fn pass(&mut self, index: LogIndex) -> Result<(), InstallError> {
        let term = self.last.map_or(Term(0), |last| last.term);
        let mark = LogId { term, index: LogIndex(index.0 - 1) };
        let log = self.log.clone();
        let mut passed = async move { log.purge(mark).await }.boxed();
        // It is in the queue after the first look; what follows it there need not wait for the disk.
        match poll!(&mut passed) {
            std::task::Poll::Ready(result) => result.map_err(InstallError::Log),
            std::task::Poll::Pending => {
                self.queued.push(passed);
                Ok(())
            }
        }
    }
}
