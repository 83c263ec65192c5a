//! A table of records that knows what changed: since when it must be written again into a checkpoint, and whether its
//! digest is still true.
//!
//! Records lie in slots of fixed chunks, so that a growing table never moves what it holds. While a checkpoint is
//! captured, a record that is about to change is encoded first if the capture has not come to it yet: the checkpoint
//! shows the table as it was when the capture began, and no step of it takes longer than its budget.
//!
//! The digest of a table is the sum of its records' hashes, so it depends on what the table holds and not on the order
//! or the slots in which it came to hold it.

use std::fmt::Debug;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::codec::Wire;
use crate::digest::hash_bytes;

/// What a table holds. Fields that can be derived from elsewhere are left out of its bytes.
pub(crate) trait Record: Wire + Debug {
    type Key: Clone + Eq + Hash + Ord + Wire + Debug;
    /// Names the table in a checkpoint.
    const TABLE: u8;
    fn key(&self) -> Self::Key;
}

/// Slots in one chunk.
const CHUNK: usize = 1024;
/// How many digests may be out of date before they are brought up to date.
const STALE_MAX: usize = 4096;

#[derive(Debug)]
struct Slot<R> {
    record: Option<R>,
    /// What this slot adds to the table's sum; 0 for nothing.
    hash: u64,
    /// The interval of the last change.
    changed_in: u32,
    /// The interval whose capture has this slot, or need not have it.
    captured_in: u32,
    stale: bool,
}

/// What a capture says of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Put,
    Remove,
}

#[derive(Debug)]
struct TableCapture<K> {
    /// All records, not only changed ones.
    base: bool,
    /// The slots below were visited; only in a base.
    cursor: usize,
    /// The slots from here on came later.
    limit: usize,
    /// Changed slots, still to be visited; only in a delta.
    pending: Vec<u32>,
    removed: Vec<K>,
    /// Records encoded because they were about to change.
    copied: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Table<R: Record> {
    chunks: Vec<Vec<Slot<R>>>,
    index: FxHashMap<R::Key, u32>,
    free: Vec<u32>,
    /// Rises with every capture.
    interval: u32,
    /// Slots changed in this interval.
    dirty: Vec<u32>,
    /// Keys removed in this interval.
    removed: Vec<R::Key>,
    stale: Vec<u32>,
    sum: u64,
    capture: Option<TableCapture<R::Key>>,
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            index: FxHashMap::default(),
            free: Vec::new(),
            interval: 1,
            dirty: Vec::new(),
            removed: Vec::new(),
            stale: Vec::new(),
            sum: 0,
            capture: None,
        }
    }
}

const fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

impl<R: Record> Table<R> {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn slot(&self, key: &R::Key) -> Option<u32> {
        self.index.get(key).copied()
    }

    pub(crate) fn get(&self, key: &R::Key) -> Option<&R> {
        self.at(self.slot(key)?)
    }

    /// The record in a slot, if one is there.
    pub(crate) fn at(&self, slot: u32) -> Option<&R> {
        let (chunk, place) = place(slot);
        self.chunks.get(chunk)?.get(place)?.record.as_ref()
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<R>> {
        let (chunk, place) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(place)
    }

    /// For fields that are derived and stand neither in checkpoints nor in the digest.
    pub(crate) fn derived_mut(&mut self, slot: u32) -> Option<&mut R> {
        self.slot_mut(slot)?.record.as_mut()
    }

    /// The record in a slot, about to change.
    pub(crate) fn change(&mut self, slot: u32) -> Option<&mut R> {
        self.touch(slot);
        self.derived_mut(slot)
    }

    /// Encodes the record for a running capture that has not come to it yet, and notes that it changes.
    fn touch(&mut self, slot: u32) {
        // Before the record changes, not after: its new hash is not known yet.
        if self.stale.len() >= STALE_MAX {
            self.refresh();
        }
        let (chunk, place) = place(slot);
        let interval = self.interval;
        let Some(entry) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(place)) else { return };
        if let Some(capture) = &mut self.capture
            && entry.captured_in != interval
        {
            let wanted = if capture.base {
                (capture.cursor..capture.limit).contains(&(slot as usize))
            } else {
                entry.changed_in == interval - 1
            };
            if wanted && let Some(record) = &entry.record {
                let mut bytes = Vec::new();
                record.put(&mut bytes);
                capture.copied.push(bytes);
            }
            entry.captured_in = interval;
        }
        if entry.changed_in != interval {
            entry.changed_in = interval;
            self.dirty.push(slot);
        }
        if !entry.stale {
            entry.stale = true;
            self.stale.push(slot);
        }
    }

    /// Adds a record; its key is not there yet.
    pub(crate) fn insert(&mut self, record: R) -> u32 {
        let key = record.key();
        let slot = self.free.pop().unwrap_or_else(|| {
            let slots = self.slots();
            if slots.is_multiple_of(CHUNK) {
                self.chunks.push(Vec::with_capacity(if slots == 0 { 4 } else { CHUNK }));
            }
            let chunk = self.chunks.last_mut().expect("a chunk with room was pushed if there was none");
            if chunk.len() == chunk.capacity() {
                chunk.reserve_exact((chunk.len() * 3).min(CHUNK - chunk.len()));
            }
            chunk.push(Slot { record: None, hash: 0, changed_in: 0, captured_in: 0, stale: false });
            u32::try_from(slots).expect("a table has fewer than 2^32 records")
        });
        // Nothing is there that a running capture could want; what comes now came after it began.
        self.touch(slot);
        let interval = self.interval;
        let entry = self.slot_mut(slot).expect("the slot is free or was just made");
        assert!(entry.record.is_none(), "a free slot holds nothing");
        entry.record = Some(record);
        entry.captured_in = interval;
        let before = self.index.insert(key, slot);
        assert!(before.is_none(), "a key is inserted once");
        slot
    }

    pub(crate) fn remove(&mut self, key: &R::Key) -> Option<R> {
        let slot = self.index.remove(key)?;
        self.touch(slot);
        let entry = self.slot_mut(slot)?;
        let record = entry.record.take()?;
        let hash = std::mem::take(&mut entry.hash);
        self.sum = self.sum.wrapping_sub(hash);
        self.removed.push(key.clone());
        self.free.push(slot);
        Some(record)
    }

    /// The record of that key as it must be, whether or not one is there.
    pub(crate) fn put(&mut self, record: R) -> u32 {
        match self.slot(&record.key()) {
            Some(slot) => {
                if let Some(old) = self.change(slot) {
                    *old = record;
                }
                slot
            }
            None => self.insert(record),
        }
    }

    /// Every record is in a slot below this.
    pub(crate) fn slots(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// All records with their slots, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &R)> + '_ {
        (0_u32..).zip(self.chunks.iter().flatten()).filter_map(|(slot, entry)| Some((slot, entry.record.as_ref()?)))
    }

    /// All records in the order of their keys.
    pub(crate) fn sorted(&self) -> Vec<&R> {
        let mut records: Vec<&R> = self.iter().map(|(_, record)| record).collect();
        records.sort_by_cached_key(|record| record.key());
        records
    }

    fn refresh(&mut self) {
        let mut bytes = Vec::new();
        for slot in std::mem::take(&mut self.stale) {
            let Some(entry) = self.slot_mut(slot) else { continue };
            entry.stale = false;
            let hash = entry.record.as_ref().map_or(0, |record| {
                bytes.clear();
                bytes.push(R::TABLE);
                record.put(&mut bytes);
                hash_bytes(&bytes)
            });
            let before = std::mem::replace(&mut entry.hash, hash);
            self.sum = self.sum.wrapping_sub(before).wrapping_add(hash);
        }
    }

    /// The sum of the hashes of all records.
    pub(crate) fn digest(&mut self) -> u64 {
        self.refresh();
        self.sum
    }

    /// Records that changed since the last capture began.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len() + self.removed.len()
    }

    /// Begins to capture all records, or those that changed since the last capture began.
    pub(crate) fn begin_capture(&mut self, base: bool) {
        self.interval += 1;
        let pending = std::mem::take(&mut self.dirty);
        let removed = std::mem::take(&mut self.removed);
        self.capture = Some(TableCapture {
            base,
            cursor: 0,
            limit: self.slots(),
            pending: if base { Vec::new() } else { pending },
            removed: if base { Vec::new() } else { removed },
            copied: Vec::new(),
        });
    }

    /// Gives up to `budget` items to `emit`; removals come before everything else. False when nothing is left.
    pub(crate) fn capture_some(&mut self, budget: usize, mut emit: impl FnMut(Item, &[u8])) -> bool {
        let Some(capture) = &mut self.capture else { return false };
        let interval = self.interval;
        let mut bytes = Vec::new();
        for _ in 0..budget {
            bytes.clear();
            if let Some(key) = capture.removed.pop() {
                key.put(&mut bytes);
                emit(Item::Remove, &bytes);
            } else if let Some(copied) = capture.copied.pop() {
                emit(Item::Put, &copied);
            } else {
                let slot = if capture.base {
                    if capture.cursor == capture.limit {
                        return false;
                    }
                    capture.cursor += 1;
                    capture.cursor - 1
                } else {
                    let Some(slot) = capture.pending.pop() else { return false };
                    slot as usize
                };
                let Some(entry) = self.chunks.get_mut(slot / CHUNK).and_then(|chunk| chunk.get_mut(slot % CHUNK))
                else {
                    continue;
                };
                if entry.captured_in != interval {
                    entry.captured_in = interval;
                    if let Some(record) = &entry.record {
                        record.put(&mut bytes);
                        emit(Item::Put, &bytes);
                    }
                }
            }
        }
        true
    }

    /// Everything that is there stands in a checkpoint.
    pub(crate) fn settle(&mut self) {
        self.interval += 1;
        self.dirty.clear();
        self.removed.clear();
    }

    pub(crate) fn end_capture(&mut self) {
        self.capture = None;
    }
}

#[cfg(test)]
mod tests;
