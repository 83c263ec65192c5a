//! The keeper: everything about segment files that neither the writer nor a reader may wait for.
//!
//! It seals full segments, recycles or removes dead ones, makes the next one ready, fills zeros
//! ahead of the writer at a bounded rate, watches the free space, and records the synced position
//! when the log falls silent, in the log and, durably, beside it.

mod recycle;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::disk::{DIRECT_ALIGNMENT, File, OpenOptions};
use base::queue::Sender;
use base::time::{Duration, Instant};

use super::footer::{self, FullRun};
use super::lost::let_go::Numbers;
use super::position::{align_up, segment_name};
use super::request::{Control, Done, Request};
use super::runs::Slots;
use super::segment::Segment;
use super::shared::Shared;
use super::synced_file::SyncedFile;
use super::writer::create_segment;
use super::{DiskState, Options};
use crate::passing::is_lasting;

/// How often the keeper looks around when nothing wakes it.
const TICK: Duration = Duration::from_millis(100);

/// One direct write of zeros.
const FILL_BYTES: u32 = 1 << 20;

/// Zeros are kept this far ahead of the writer.
const FILL_AHEAD_BYTES: u32 = 64 << 20;

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    queue: Sender<Request>,
    /// For direct writes into the segment of that number.
    fill_file: Option<(u32, Arc<dyn File>)>,
    zeros: Vec<u8>,
    last_tick: Instant,
    payload_bytes_at_tick: u64,
    /// The writer is so fast that zeros ahead of it would cost more than they save.
    outrun: bool,
    synced_file: SyncedFile,
    let_go: Numbers,
    /// Tries to recycle in a row that an error stopped which passes.
    put_off_count: u64,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, queue: Sender<Request>, synced_file: SyncedFile, let_go: Numbers) -> Self {
        Self {
            shared,
            queue,
            fill_file: None,
            zeros: Vec::new(),
            last_tick: base::time::now(),
            payload_bytes_at_tick: 0,
            outrun: false,
            synced_file,
            let_go,
            put_off_count: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) && !self.shared.has_failed() {
            if self.last_tick.elapsed() >= TICK {
                self.tick().await;
            }
            self.watch_space();
            self.seal().await;
            self.recycle().await;
            self.prepare().await;
            let pause = if self.fill().await { self.pace() } else { TICK };
            // Either way round: woken or not, there is something to look at.
            let _ = base::time::timeout(pause, self.shared.keeper_wake.notified()).await;
        }
        self.record_synced().await;
    }

    async fn tick(&mut self) {
        self.last_tick = base::time::now();
        let payload_bytes = self.shared.counters.payload_bytes.load(Ordering::Relaxed);
        let per_tick = self.shared.options.fill_bytes_per_second / 20;
        self.outrun = payload_bytes - self.payload_bytes_at_tick > per_tick;
        let silent = payload_bytes == self.payload_bytes_at_tick;
        self.payload_bytes_at_tick = payload_bytes;
        self.shared.balance_memory();
        for shard in self.shared.all_shards() {
            let committed = shard.lock().take_unsaved_committed();
            if let Some(committed) = committed {
                let control = Control::Committed(committed);
                self.send(Request::Control { shard, control, done: Done::Nobody });
            }
        }
        if silent && self.shared.recorded.load(Ordering::Relaxed) < self.shared.synced().pack() {
            self.send(Request::Mark);
        }
        if silent {
            self.record_synced().await;
        }
    }

    /// Once for all that was written since the last time: what comes last in the log has no later
    /// frame to speak of it.
    async fn record_synced(&mut self) {
        let synced = self.shared.synced();
        if synced <= self.synced_file.recorded() || self.shared.has_failed() {
            return;
        }
        match self.synced_file.record(synced).await {
            Err(error) if is_lasting(&error) => self.shared.fail("write", &self.synced_file.path, error),
            // What it says is true, if not the latest, and the next tick tries again.
            Err(error) => tracing::debug!(%error, "the synced position is not recorded"),
            Ok(()) => {}
        }
    }

    /// A full queue has frames that will say the same.
    fn send(&self, request: Request) {
        let _ = self.queue.try_send(request, 64);
    }

    fn watch_space(&self) {
        let free = match self.shared.disk.free_bytes(&self.shared.dir) {
            Ok(free) => free.available,
            Err(error) => {
                tracing::warn!(%error, "cannot tell the free space");
                return;
            }
        };
        let has_ready = !self.shared.ready.lock().is_empty();
        let before = *self.shared.disk_state.borrow();
        let is_stalled = self.shared.stalled.load(Ordering::Acquire);
        let state =
            if is_stalled { DiskState::Exhausted } else { state(&self.shared.options, has_ready, free, before) };
        if !self.shared.disk_state.send_if_modified(|before| std::mem::replace(before, state) != state) {
            return;
        }
        let dir = self.shared.dir.display();
        match state {
            DiskState::Writable => tracing::info!(free, "there is room again: writes are taken"),
            DiskState::Exhausted if is_stalled => {
                tracing::error!(free, %dir, "writes are refused until a segment can be made");
            }
            _ if before == DiskState::Writable => {
                tracing::error!(free, %dir, "the disk is nearly full: writes are refused until there is room");
            }
            _ => {
                tracing::warn!(free, %dir, ?state, "of the space that is kept free another part is used, or free again");
            }
        }
    }

    /// Writes the footers of segments that are full and durable.
    async fn seal(&mut self) {
        let synced = self.shared.synced();
        let full: Vec<_> = {
            let segments = self.shared.segments.lock();
            let unsealed = segments.values().filter(|segment| !segment.is_sealed());
            unsealed.filter_map(|segment| segment.end().map(|end| (Arc::clone(segment), end))).collect()
        };
        for (segment, (data_end, life)) in full {
            if synced < segment.position(data_end) {
                continue;
            }
            if let Err(error) = self.seal_one(&segment, data_end, life).await {
                self.shared.fail("seal", &segment.path, error);
                return;
            }
        }
    }

    async fn seal_one(&self, segment: &Arc<Segment>, data_end: u32, life: u32) -> io::Result<()> {
        let shards = self.shared.all_shards();
        let mut runs = Vec::new();
        for shard in &shards {
            for (first, run) in shard.lock().runs.iter() {
                if let (true, Slots::Memory(slots)) = (Arc::ptr_eq(&run.segment, segment), &run.slots) {
                    let first = record::LogIndex(first);
                    runs.push(FullRun { shard: shard.id, term: run.term, first, slots: slots.clone() });
                }
            }
        }
        if !self.shared.truncations_are_durable() {
            // The footer must not lack what a crash may still bring back.
            return Ok(());
        }
        let (at, bytes, footer) = footer::encode(segment.sequence, life, segment.capacity, data_end, &runs);
        // The trailer last: where it is whole, everything that it speaks of is.
        let (body, trailer) = bytes.split_at(bytes.len() - footer::TRAILER_BYTES as usize);
        segment.file.write_at(u64::from(at), &[IoSlice::new(body)]).await?;
        segment.file.sync_data().await?;
        let trailer_at = u64::from(segment.capacity - footer::TRAILER_BYTES);
        segment.file.write_at(trailer_at, &[IoSlice::new(trailer)]).await?;
        segment.file.sync_data().await?;
        self.shared.counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        segment.set_sealed();
        for shard in shards {
            let of_shard = footer.runs.iter().filter(|run| run.shard == shard.id);
            let first_slots: BTreeMap<u64, u32> = of_shard.map(|run| (run.first.0, run.first_slot)).collect();
            shard.lock().runs.move_to_file(segment, footer.slots_at, &first_slots);
        }
        self.shared.liveness_changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes the space of the next segment before the writer needs it.
    async fn prepare(&mut self) {
        let shared = Arc::clone(&self.shared);
        let used = match self.active() {
            Some(active) => active.filling.lock().await.reserved_to > active.capacity / 4,
            None => false,
        };
        let _making = shared.making.lock().await;
        if !used || shared.ready.lock().len() >= shared.options.ready_segments.min(1) {
            return;
        }
        let enough = shared.options.reserve_bytes + shared.options.segment_bytes;
        if shared.disk.free_bytes(&shared.dir).is_ok_and(|free| free.available < enough) {
            return;
        }
        let sequence = shared.next_sequence.load(Ordering::Relaxed);
        match create_segment(&shared, sequence) {
            Ok(segment) => {
                shared.next_sequence.store(sequence + 1, Ordering::Relaxed);
                shared.ready.lock().push_back(Arc::new(segment));
            }
            // The writer will tell, if it comes to that.
            Err(error) if !is_lasting(&error) => {}
            Err(error) => shared.fail("make", &shared.dir.join(segment_name(sequence)), error),
        }
    }

    /// Writes one piece of zeros ahead of the writer. Returns whether there was one to write.
    async fn fill(&mut self) -> bool {
        if self.shared.options.fill_bytes_per_second == 0 || self.outrun {
            return false;
        }
        let ready = self.shared.ready.lock().front().cloned();
        for segment in [self.active(), ready].into_iter().flatten() {
            match self.fill_one(&segment).await {
                Ok(0) => {}
                Ok(bytes) => {
                    self.shared.counters.bytes_written.fetch_add(u64::from(bytes), Ordering::Relaxed);
                    self.shared.counters.bytes_filled.fetch_add(u64::from(bytes), Ordering::Relaxed);
                    return true;
                }
                Err(error) => {
                    self.shared.fail("fill", &segment.path, error);
                    return false;
                }
            }
        }
        false
    }

    async fn fill_one(&mut self, segment: &Segment) -> io::Result<u32> {
        let alignment = u32::try_from(DIRECT_ALIGNMENT).expect("a page fits 32 bits");
        let mut filling = segment.filling.lock().await;
        let from = filling.filled_to.max(align_up(filling.reserved_to, alignment));
        let to = filling.reserved_to.saturating_add(FILL_AHEAD_BYTES).min(segment.capacity) & !(alignment - 1);
        if from >= to || segment.end().is_some() {
            return Ok(0);
        }
        let bytes = (to - from).min(FILL_BYTES);
        let file = match &self.fill_file {
            Some((sequence, file)) if *sequence == segment.sequence => Arc::clone(file),
            _ => {
                let options = OpenOptions { direct: true, ..OpenOptions::read_write() };
                // Filling only saves time.
                let Ok(file) = self.shared.disk.open(&segment.path, options) else { return Ok(0) };
                self.fill_file = Some((segment.sequence, Arc::clone(&file)));
                file
            }
        };
        // The lock is held: the writer cannot come in between.
        file.write_at(u64::from(from), &[IoSlice::new(self.aligned_zeros(bytes as usize))]).await?;
        filling.filled_to = from + bytes;
        Ok(bytes)
    }

    fn aligned_zeros(&mut self, bytes: usize) -> &[u8] {
        if self.zeros.is_empty() {
            self.zeros = vec![0; FILL_BYTES as usize + DIRECT_ALIGNMENT];
        }
        let start = self.zeros.as_ptr().align_offset(DIRECT_ALIGNMENT);
        &self.zeros[start..start + bytes]
    }

    fn active(&self) -> Option<Arc<Segment>> {
        let segments = self.shared.segments.lock();
        segments.last_key_value().map(|(_, segment)| Arc::clone(segment))
    }

    /// The pause that keeps filling at its rate.
    fn pace(&self) -> Duration {
        let rate = self.shared.options.fill_bytes_per_second.max(1);
        Duration::from_micros(u64::from(FILL_BYTES) * 1_000_000 / rate).min(TICK)
    }
}

/// What the free space allows. Writes are taken again only well above what refused them: else both would follow in turn.
fn state(options: &Options, has_ready: bool, free: u64, before: DiskState) -> DiskState {
    let Options { reserve_bytes, segment_bytes, .. } = *options;
    let is_below = |level: DiskState, kept: u64| {
        let wanted = kept.max(if has_ready { 0 } else { segment_bytes });
        free < if before >= level { wanted + room_again(segment_bytes, wanted) } else { wanted }
    };
    let levels = [
        (DiskState::Exhausted, reserve_bytes / 4),
        (DiskState::Scarce, reserve_bytes / 2),
        (DiskState::Full, reserve_bytes),
    ];
    let worst = levels.into_iter().find(|(level, kept)| is_below(*level, *kept));
    worst.map_or(DiskState::Writable, |(level, _)| level)
}

/// Room that a full disk must have besides what refused writes: a quarter of a segment, and no more than
/// a quarter of the reserve.
fn room_again(segment_bytes: u64, wanted: u64) -> u64 {
    segment_bytes.min(wanted) / 4
}
