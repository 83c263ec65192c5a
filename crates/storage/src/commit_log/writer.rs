//! The writer thread: one write for everything that is queued, of all shards, in order.

mod next;
mod write;

pub(crate) use next::{create_segment, make_segment};

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base::disk::File;
use base::queue::{Receiver, Sender};
use bytes::Bytes;
use record::{ShardId, Term};

use super::LogState;
use super::footer::{Slot, footer_bytes};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, frame_bytes};
use super::group::{Effect, Group};
use super::position::align_up;
use super::request::{Control, Done, Request};
use super::segment::Segment;
use super::shard_state::ShardState;
use super::shared::Shared;
use super::staging::BLOCK_BYTES;
use super::sync::{Written, sync_and_complete};
use crate::types::Entry;

/// One write takes at most about this.
pub(crate) const GROUP_BYTES_MAX: usize = 8 << 20;

/// What may be written and not yet synced. Recovery relies on it: see `UNCERTAIN_BYTES_MAX` there.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = 24 << 20;

/// Room that every segment keeps for the frames that close it and that open it again.
pub(crate) const CLOSING_BYTES: u32 = 4 * FRAME_HEADER_BYTES;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Receiver<Request>,
    sync_queue: Sender<Written>,
    in_flight: Arc<AtomicUsize>,
    /// The log is to be closed: no waiting for space any more.
    impatient: Arc<AtomicBool>,
    segment: Arc<Segment>,
    /// For writes past the page cache; opened with the first large one of a segment.
    direct: Option<Arc<dyn File>>,
    direct_refused: bool,
    group: Group,
    /// The state of every shard at the group's end.
    states: BTreeMap<ShardId, LogState>,
    /// What the footer of the current segment will have to hold.
    tails: BTreeMap<ShardId, (Term, u64)>,
    runs: u32,
    slots: u32,
    /// Requests in the write before.
    last_requests: usize,
    reserved_to: u32,
    /// Bytes written that no sync was asked for.
    unsent_bytes: u64,
}

/// Where the writer goes on.
pub(crate) struct Resume {
    pub(crate) segment: Arc<Segment>,
    pub(crate) at: u32,
    /// What the file has in that block before it.
    pub(crate) before: Vec<u8>,
    pub(crate) states: BTreeMap<ShardId, LogState>,
    pub(crate) runs: u32,
    pub(crate) slots: u32,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Receiver<Request>,
        sync_queue: Sender<Written>,
        (in_flight, impatient): (Arc<AtomicUsize>, Arc<AtomicBool>),
        resume: Resume,
    ) -> Self {
        let group = Group::new(resume.at, &resume.before);
        Self {
            shared,
            queue,
            sync_queue,
            in_flight,
            impatient,
            segment: resume.segment,
            direct: None,
            direct_refused: false,
            group,
            states: resume.states,
            tails: BTreeMap::new(),
            runs: resume.runs,
            slots: resume.slots,
            last_requests: 0,
            reserved_to: 0,
            unsent_bytes: 0,
        }
    }

    /// Runs until the log is closed or failed, or nobody can send any more.
    pub(crate) async fn run(mut self) {
        let mut requests = Vec::new();
        while let Some(first) = self.queue.recv().await {
            requests.push(first);
            self.queue.drain(&mut requests, GROUP_BYTES_MAX);
            if self.write_all(&mut requests).await.is_err() {
                self.refuse_all(requests);
                return;
            }
            if self.shared.closing.load(Ordering::Acquire) {
                self.refuse_all(requests);
                return;
            }
        }
    }

    /// Puts all requests into the file, in order.
    async fn write_all(&mut self, requests: &mut Vec<Request>) -> Result<(), Stopped> {
        let count = requests.len();
        self.wait_for_syncs().await?;
        let mut requests = requests.drain(..);
        while let Some(request) = requests.next() {
            let result = match request {
                Request::Append { shard, entries, taken, done } => {
                    let result = self.append(&shard, &entries, taken).await;
                    self.group.dones.push(done);
                    result
                }
                Request::Control { shard, control, done } => {
                    let result = self.control(&shard, control).await;
                    self.group.dones.push(done);
                    result
                }
                Request::Mark => self.mark().await,
                Request::Close(done) => {
                    let result = self.close().await;
                    let told = if result.is_ok() { Ok(()) } else { Err(self.shared.failure_error()) };
                    Done::Control(done).call(told);
                    result
                }
            };
            if result.is_err() || self.shared.closing.load(Ordering::Acquire) {
                for request in requests {
                    request.into_done().call(Err(self.shared.failure_error()));
                }
                return result;
            }
        }
        let alone = count == 1 && self.last_requests <= 1;
        self.last_requests = count;
        self.flush(alone).await
    }

    async fn append(
        &mut self,
        shard: &Arc<ShardState>,
        entries: &[Entry],
        taken: super::shard_state::Taken,
    ) -> Result<(), Stopped> {
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let payload_bytes = u32::try_from(entry.payload.len()).expect("checked when it was taken");
            if !self.fits(payload_bytes) || self.group.len() as usize >= GROUP_BYTES_MAX {
                let entries = std::mem::take(&mut places);
                self.group.effects.push(Effect::Entries { shard: Arc::clone(shard), entries, taken });
                self.make_room(payload_bytes).await?;
            }
            let offset = self.group.end();
            self.frame(FrameKind::Entry(entry.kind), shard.id, entry.id, entry.payload.buffers());
            places.push((entry.id, Slot::new(offset, payload_bytes, entry.kind)));
            self.group.entries += 1;
            self.group.payload_bytes += u64::from(payload_bytes);
            self.slots += 1;
            let tail = self.tails.insert(shard.id, (entry.id.term, entry.id.index.0 + 1));
            if tail != Some((entry.id.term, entry.id.index.0)) {
                self.runs += 1;
            }
            self.states.entry(shard.id).or_default().last = Some(entry.id);
        }
        self.group.effects.push(Effect::Entries { shard: Arc::clone(shard), entries: places, taken });
        Ok(())
    }

    async fn control(&mut self, shard: &Arc<ShardState>, control: Control) -> Result<(), Stopped> {
        self.make_room(16).await?;
        let zero = FrameHeader::bare(FrameKind::Mark, 0, self.shared.synced()).id;
        let state = self.states.entry(shard.id).or_default();
        match control {
            Control::Vote(vote) => {
                assert!(state.vote.is_none_or(|before| vote.may_follow(&before)), "a vote never goes back");
                state.vote = Some(vote);
                let mut payload = Vec::with_capacity(16);
                payload.extend_from_slice(&vote.node_id.0.to_le_bytes());
                payload.extend_from_slice(&u64::from(vote.committed).to_le_bytes());
                let id = crate::types::LogId { term: vote.term, ..zero };
                self.frame(FrameKind::Vote, shard.id, id, &[Bytes::from(payload)]);
            }
            Control::Truncate(last) => {
                state.last = last;
                state.committed = state.committed.min(last);
                self.tails.remove(&shard.id);
                let from = last.map_or(0, |last| last.index.0 + 1);
                let kind = if last.is_some() { FrameKind::Truncate } else { FrameKind::Clear };
                self.frame(kind, shard.id, last.unwrap_or(zero), &[]);
                self.group.effects.push(Effect::Truncate { shard: Arc::clone(shard), from });
            }
            Control::Purge(through) => {
                state.purged = state.purged.max(Some(through));
                if state.last.is_none_or(|last| last.index < through.index) {
                    state.last = Some(through);
                }
                self.frame(FrameKind::Purge, shard.id, through, &[]);
            }
            Control::Forget => {
                (state.last, state.committed, state.purged) = (None, None, None);
                self.tails.remove(&shard.id);
                self.frame(FrameKind::Clear, shard.id, zero, &[]);
                self.group.effects.push(Effect::Truncate { shard: Arc::clone(shard), from: 0 });
            }
            Control::Committed(committed) => {
                state.committed = Some(committed).filter(|committed| Some(*committed) <= state.last);
                self.frame(FrameKind::Committed, shard.id, committed, &[]);
            }
        }
        Ok(())
    }

    async fn mark(&mut self) -> Result<(), Stopped> {
        if self.shared.recorded.load(Ordering::Relaxed) < self.shared.synced().pack() {
            self.make_room(0).await?;
            self.bare_frame(FrameKind::Mark);
        }
        Ok(())
    }

    /// Makes everything durable, and then says so in the log.
    async fn close(&mut self) -> Result<(), Stopped> {
        self.flush(false).await?;
        self.make_room(0).await?;
        self.wait_until(|_, in_flight| in_flight == 0).await?;
        self.bare_frame(FrameKind::Mark);
        self.write_group().await?;
        let mut last = vec![self.take_written()];
        sync_and_complete(&self.shared, &mut last).await;
        self.shared.closing.store(true, Ordering::Release);
        self.shared.keeper_wake.notify_one();
        if self.shared.has_failed() { Err(Stopped) } else { Ok(()) }
    }

    fn frame(&mut self, kind: FrameKind, shard: ShardId, id: crate::types::LogId, payload: &[Bytes]) {
        let synced = self.shared.synced();
        self.shared.recorded.store(synced.pack(), Ordering::Relaxed);
        let payload_bytes = payload.iter().map(Bytes::len).sum::<usize>();
        let payload_bytes = u32::try_from(payload_bytes).expect("a payload fits its slot");
        let header = FrameHeader { shard, id, payload_bytes, ..FrameHeader::bare(kind, self.shared.life, synced) };
        self.group.frame(self.segment.sequence, self.segment.salt, header, payload);
    }

    fn bare_frame(&mut self, kind: FrameKind) {
        let bare = FrameHeader::bare(kind, self.shared.life, self.shared.synced());
        self.frame(kind, bare.shard, bare.id, &[]);
    }

    /// Whether a frame fits the segment, with all that must still follow it.
    fn fits(&self, payload_bytes: u32) -> bool {
        let end = self.group.end() + frame_bytes(payload_bytes) + CLOSING_BYTES;
        let footer = footer_bytes(self.runs + 1, self.slots + 1);
        u64::from(align_up(end, BLOCK_BYTES)) + u64::from(footer) <= u64::from(self.segment.capacity)
    }

    /// Makes sure that a frame can be added: writes a group that is large enough, and goes to the
    /// next segment when this one is full.
    async fn make_room(&mut self, payload_bytes: u32) -> Result<(), Stopped> {
        if self.fits(payload_bytes) {
            if self.group.len() as usize >= GROUP_BYTES_MAX {
                self.flush(false).await?;
                self.wait_for_syncs().await?;
            }
            return Ok(());
        }
        self.bare_frame(FrameKind::End);
        let end = self.group.end();
        self.group.dones.push(Done::Nobody);
        self.write_group().await?;
        self.segment.set_end(end, self.shared.life);
        self.send_to_sync().await?;
        self.wait_for_syncs().await?;
        self.next_segment().await?;
        assert!(self.fits(payload_bytes), "an entry that was taken fits an empty segment");
        Ok(())
    }

    fn fail(&mut self, operation: &'static str, path: &Path, error: io::Error) -> Stopped {
        self.shared.fail(operation, path, error);
        Stopped
    }

    /// Tells everyone who still waits that the log is gone.
    fn refuse_all(mut self, requests: Vec<Request>) {
        let mut rest = requests;
        self.queue.drain(&mut rest, usize::MAX);
        let dones = std::mem::take(&mut self.group.dones).into_iter();
        for done in dones.chain(rest.into_iter().map(Request::into_done)) {
            done.call(Err(self.shared.failure_error()));
        }
    }
}

/// The log failed or was closed; why stands in its failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped;
