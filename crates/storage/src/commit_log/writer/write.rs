//! How the writer hands a group to the file and to the sync thread.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::disk::{File, OpenOptions};

use super::{GROUP_BYTES_MAX, Stopped, UNSYNCED_BYTES_MAX, Writer};
use crate::commit_log::group::Effect;
use crate::commit_log::request::Done;
use crate::commit_log::shared::Shared;
use crate::commit_log::stalls::Operation;
use crate::commit_log::sync::{Written, sync_and_complete};

/// A single request up to this is synced by the writer itself when nobody else has anything to do:
/// that saves waking the sync thread.
const INLINE_SYNC_BYTES_MAX: u32 = 64 << 10;

/// Groups from this on go past the page cache: from here the kernel's copy into fresh pages costs
/// more than waiting for the device, which the sync after it would do anyway.
const DIRECT_BYTES_MIN: u32 = 64 << 10;

/// The writer reserves this much at once before the filler, of a segment that is large.
const RESERVE_STRIDE_BYTES: u32 = 1 << 20;
/// Of a small one it reserves such a part: the next one is made when a quarter is taken, and until then one in which
/// nothing lives any more may become the next.
const RESERVE_PARTS: u32 = 16;

impl Writer {
    /// Writes the group and has it synced, here when it is `alone`, else by the sync thread.
    pub(super) async fn flush(&mut self, alone: bool) -> Result<(), Stopped> {
        if self.group.is_empty() && self.group.dones.is_empty() {
            return Ok(());
        }
        let small = self.group.len() <= INLINE_SYNC_BYTES_MAX;
        self.write_group().await?;
        if self.group.dones.iter().all(|done| matches!(done, Done::Nobody)) {
            // Nobody waits: the next sync covers it.
            self.group.dones.clear();
            return Ok(());
        }
        let idle = self.in_flight.load(Ordering::Acquire) == 0 && self.queue.is_empty();
        if alone && idle && small {
            let mut written = vec![self.take_written()];
            sync_and_complete(&self.shared, &mut written).await;
            return if self.shared.has_failed() { Err(Stopped) } else { Ok(()) };
        }
        self.send_to_sync().await
    }

    pub(super) async fn send_to_sync(&mut self) -> Result<(), Stopped> {
        let written = self.take_written();
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.sync_queue.send(written, 1).await {
            let (base::queue::SendError::Full(written) | base::queue::SendError::Closed(written)) = error;
            written.dones.into_iter().for_each(|done| done.call(Err(self.shared.failure_error())));
            return Err(Stopped);
        }
        Ok(())
    }

    /// What was written, with those who wait for it.
    pub(super) fn take_written(&mut self) -> Written {
        assert!(self.group.is_empty(), "the group was written");
        Written {
            segment: Arc::clone(&self.segment),
            end: self.segment.position(self.group.end()),
            bytes: std::mem::take(&mut self.unsent_bytes),
            dones: std::mem::take(&mut self.group.dones),
        }
    }

    /// Hands the group's bytes to the file and tells readers where its entries are.
    pub(super) async fn write_group(&mut self) -> Result<(), Stopped> {
        if self.shared.has_failed() {
            return Err(Stopped);
        }
        let padded_end = self.group.staging.padded_end();
        assert!(padded_end <= self.segment.capacity, "a write stays within its segment");
        self.reserve(padded_end).await;
        self.shared.stalls.begin(Operation::Write);
        let written = self.write_blocks().await;
        self.shared.stalls.end(Operation::Write);
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                let path = self.segment.path.clone();
                return Err(self.fail("write", &path, error));
            }
        };
        self.group.staging.written();
        let counters = &self.shared.counters;
        counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        counters.writes.fetch_add(1, Ordering::Relaxed);
        counters.entries.fetch_add(self.group.entries, Ordering::Relaxed);
        counters.payload_bytes.fetch_add(self.group.payload_bytes, Ordering::Relaxed);
        (self.group.entries, self.group.payload_bytes) = (0, 0);
        self.unsent_bytes += bytes;
        self.shared.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        for effect in self.group.effects.drain(..) {
            match effect {
                Effect::Entries { shard, entries, taken } => {
                    shard.written(&self.segment, &entries, taken);
                    self.shared.make_room(&shard);
                }
                Effect::Truncate { shard, from } => {
                    self.shared.set_truncated_at(self.segment.position(self.group.staging.end()));
                    shard.lock().runs.truncate_from(from);
                }
            }
        }
        Ok(())
    }

    /// Writes whole blocks; how many bytes.
    async fn write_blocks(&mut self) -> io::Result<u64> {
        let large = self.group.len() >= DIRECT_BYTES_MIN;
        let direct = if large { self.direct_file() } else { None };
        let (position, blocks) = self.group.staging.blocks();
        let (position, bytes) = (u64::from(position), blocks.len() as u64);
        let blocks = [IoSlice::new(blocks)];
        if let Some(file) = direct {
            match file.write_at(position, &blocks).await {
                // The device wants another alignment and took nothing.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    tracing::warn!(%error, "this disk does not take direct writes");
                    self.direct_refused = true;
                }
                written => return written.map(|()| bytes),
            }
        }
        self.segment.file.write_at(position, &blocks).await.map(|()| bytes)
    }

    fn direct_file(&mut self) -> Option<Arc<dyn File>> {
        if self.direct.is_none() && !self.direct_refused {
            let options = OpenOptions { direct: true, ..OpenOptions::read_write() };
            // When there is no descriptor for it, the page cache does as well.
            self.direct = self.shared.disk.open(&self.segment.path, options).ok();
        }
        self.direct.clone().filter(|_| !self.direct_refused)
    }

    /// Takes the file up to `end` away from the filler.
    async fn reserve(&mut self, end: u32) {
        if end <= self.reserved_to {
            return;
        }
        let mut filling = self.segment.filling.lock().await;
        let capacity = self.segment.capacity;
        let reserved_to = end.saturating_add(RESERVE_STRIDE_BYTES.min(capacity / RESERVE_PARTS)).min(capacity);
        filling.reserved_to = filling.reserved_to.max(reserved_to);
        self.reserved_to = filling.reserved_to;
    }

    /// Waits until what is written and not synced is within its bound.
    pub(super) async fn wait_for_syncs(&mut self) -> Result<(), Stopped> {
        let unsent = self.unsent_bytes;
        self.wait_until(|shared, in_flight| {
            let written = shared.written_bytes.load(Ordering::Relaxed) - unsent;
            in_flight == 0
                || written - shared.synced_bytes.load(Ordering::Acquire) <= UNSYNCED_BYTES_MAX - GROUP_BYTES_MAX as u64
        })
        .await
    }

    pub(super) async fn wait_until(&mut self, enough: impl Fn(&Shared, usize) -> bool + Send) -> Result<(), Stopped> {
        loop {
            if self.shared.has_failed() {
                return Err(Stopped);
            }
            let progress = self.shared.sync_progress.notified();
            let mut progress = std::pin::pin!(progress);
            progress.as_mut().enable();
            if enough(&self.shared, self.in_flight.load(Ordering::Acquire)) {
                return Ok(());
            }
            progress.await;
        }
    }
}
