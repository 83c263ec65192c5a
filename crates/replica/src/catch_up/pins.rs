//! What a donor holds for those that pull from it: a checkpoint, its index files, the live entries
//! up to it, and the log behind it.
//!
//! A pin goes when nothing was asked of it for a while, and when the disk becomes full or a full one has a new checkpoint.
//! One that came to its end holds nothing but the log behind its checkpoint, for the member that is about to start there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base::time::{Duration, Instant, now};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use record::{FileNumber, LogIndex, NodeId, ObjectKey};
use storage::LogId;
use storage::checkpoint::Loaded;
use tokio::sync::Semaphore;

use super::wire::PART_BYTES;

/// Pins of one replica.
const PINS_MAX: usize = 4;
/// Answers that are put together at once.
const ANSWERING_MAX: usize = 2;
/// A pin goes when nothing was asked of it for so long.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What is held for one that pulls.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) id: u64,
    pub(crate) at: LogId,
    /// The index files of the checkpoint that were there, with their sizes.
    pub(crate) files: BTreeMap<FileNumber, u64>,
    /// The objects of the checkpoint that were there, in order.
    pub(crate) objects: Arc<[ObjectKey]>,
    /// The live entries up to the checkpoint.
    pub(crate) ranges: Vec<RangeInclusive<LogIndex>>,
    /// The checkpoint as far as it was read.
    pub(crate) chunks: tokio::sync::Mutex<ChunkStream>,
}

impl Pin {
    /// The first index from `from` on that lies in a live range, and the end of that range.
    pub(crate) fn next_live(&self, from: LogIndex) -> Option<RangeInclusive<LogIndex>> {
        let place = self.ranges.partition_point(|range| *range.end() < from);
        let range = self.ranges.get(place)?;
        Some(from.max(*range.start())..=*range.end())
    }
}

#[derive(Debug)]
struct Held {
    /// For whom.
    node: NodeId,
    pin: Arc<Pin>,
    until: Instant,
    ended: bool,
}

#[derive(Debug, Default)]
struct Inner {
    held: Vec<Held>,
    /// Some went since the housekeeping looked.
    released: bool,
    /// What the group's log was asked to let go up to.
    purged: Option<LogId>,
}

/// The pins of one replica, and how far its log may be purged for their sake.
#[derive(Debug)]
pub(crate) struct Pins {
    inner: Mutex<Inner>,
    pub(crate) answering: Semaphore,
}

/// Why there is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPinned {
    /// There are as many as there may be.
    Busy,
    /// The log behind the checkpoint is gone.
    Purged,
}

impl Pins {
    pub(crate) fn new(purged: Option<LogId>) -> Self {
        let inner = Inner { held: Vec::new(), released: false, purged };
        Self { inner: Mutex::new(inner), answering: Semaphore::new(ANSWERING_MAX) }
    }

    /// Holds `pin` in place of the one that `node` has, which it does not ask for any more.
    pub(crate) fn insert(&self, node: NodeId, pin: Arc<Pin>) -> Result<(), NotPinned> {
        let mut inner = self.inner.lock();
        inner.forget_idle();
        if inner.purged > Some(pin.at) {
            return Err(NotPinned::Purged);
        }
        let before = inner.held.iter().position(|held| held.node == node);
        if before.is_some() || inner.held.len() >= PINS_MAX {
            let goes = before.or_else(|| inner.held.iter().position(|held| held.ended)).ok_or(NotPinned::Busy)?;
            inner.held.remove(goes);
            inner.released = true;
        }
        inner.held.push(Held { node, pin, until: now() + IDLE_MAX, ended: false });
        Ok(())
    }

    /// The pin `id`, which is held for longer by that.
    pub(crate) fn renew(&self, id: u64) -> Option<Arc<Pin>> {
        let mut inner = self.inner.lock();
        inner.forget_idle();
        let held = inner.held.iter_mut().find(|held| held.pin.id == id && !held.ended)?;
        held.until = now() + IDLE_MAX;
        Some(Arc::clone(&held.pin))
    }

    /// Nothing more is asked of the pin `id`.
    pub(crate) fn end(&self, id: u64) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.held.iter_mut().find(|held| held.pin.id == id) {
            held.ended = true;
            held.until = now() + IDLE_MAX;
        }
    }

    /// Forgets all pins: whoever pulls begins anew from a later checkpoint, with what it has.
    pub(crate) fn let_go(&self) {
        let mut inner = self.inner.lock();
        inner.released |= !inner.held.is_empty();
        inner.held.clear();
    }

    /// Forgets the pins whose time is over; whether some went since this was asked last.
    pub(crate) fn take_released(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.forget_idle();
        std::mem::take(&mut inner.released)
    }

    /// When the next pin goes if nothing is asked of it.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.inner.lock().held.iter().map(|held| held.until).min()
    }

    /// The entries that are held.
    pub(crate) fn ranges(&self) -> Vec<RangeInclusive<LogIndex>> {
        let inner = self.inner.lock();
        inner.held.iter().filter(|held| !held.ended).flat_map(|held| held.pin.ranges.iter().cloned()).collect()
    }

    pub(crate) fn holds_object(&self, key: ObjectKey) -> bool {
        let inner = self.inner.lock();
        inner.held.iter().any(|held| !held.ended && held.pin.objects.binary_search(&key).is_ok())
    }

    pub(crate) fn holds_file(&self, file: FileNumber) -> bool {
        let inner = self.inner.lock();
        inner.held.iter().any(|held| !held.ended && held.pin.files.contains_key(&file))
    }

    /// What the group's log was asked to let go up to: who lacks an entry behind it is not given that.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.inner.lock().purged
    }

    /// The furthest that may be purged.
    pub(crate) fn purge_max(&self) -> LogIndex {
        let inner = self.inner.lock();
        inner.held.iter().map(|held| held.pin.at.index).min().unwrap_or(LogIndex(u64::MAX))
    }

    /// Notes that the log is to be purged up to `id`, unless that is not further than before or somebody holds what
    /// lies there.
    pub(crate) fn note_purge(&self, id: LogId) -> bool {
        let mut inner = self.inner.lock();
        let held = inner.held.iter().any(|held| held.pin.at.index < id.index);
        let further = inner.purged.is_none_or(|purged| purged.index < id.index);
        if held || !further {
            return false;
        }
        inner.purged = Some(id);
        true
    }
}

impl Inner {
    fn forget_idle(&mut self) {
        let (now, before) = (now(), self.held.len());
        self.held.retain(|held| held.until > now);
        self.released |= self.held.len() < before;
    }
}

/// The chunks of a checkpoint as one stream of bytes, `length u32 | chunk` each, given in parts.
#[derive(Debug)]
pub(crate) struct ChunkStream {
    chain: Loaded,
    /// Read and not given.
    left: BytesMut,
    ended: bool,
    /// Where the next part begins.
    position: u64,
    /// The last part that was given, in case its answer was lost.
    last: Bytes,
}

impl ChunkStream {
    pub(crate) fn new(chain: Loaded) -> Self {
        Self { chain, left: BytesMut::new(), ended: false, position: 0, last: Bytes::new() }
    }

    /// The part at `position` and whether it is the last one; none when it is neither the next nor the last given.
    pub(crate) async fn part(&mut self, position: u64) -> std::io::Result<Option<(Bytes, bool)>> {
        if position != self.position {
            let again = position + self.last.len() as u64 == self.position && !self.last.is_empty();
            return Ok(again.then(|| (self.last.clone(), self.is_at_end())));
        }
        while !self.ended && self.left.len() < PART_BYTES {
            match self.chain.next_chunk().await? {
                Some(chunk) => {
                    self.left.put_u32_le(u32::try_from(chunk.len()).expect("a chunk is bounded"));
                    self.left.extend_from_slice(&chunk);
                }
                None => self.ended = true,
            }
        }
        self.last = self.left.split_to(self.left.len().min(PART_BYTES)).freeze();
        self.position += self.last.len() as u64;
        Ok(Some((self.last.clone(), self.is_at_end())))
    }

    fn is_at_end(&self) -> bool {
        self.ended && self.left.is_empty()
    }
}
