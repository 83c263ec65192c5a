//! Reading entries: from memory while they are recent, from the files afterwards.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use record::LogIndex;
use tokio::sync::SemaphorePermit;

use super::chunk::{Backing, Chunk, Slice, join, slices_of};
use super::footer::{self, Slot};
use super::frame::{FRAME_HEADER_BYTES, frame_bytes};
use super::runs::{Located, SlotPlace};
use super::segment::{BadFrame, Segment, SegmentPin};
use super::shard_log::ShardLog;
use super::shard_state::Found;
use super::{Damage, DamagedEntry};
use crate::types::{Entry, EntryMeta, LogId, Payload};

/// Entries of other shards that may lie between two of one read, per byte that is wanted.
const WASTE_FACTOR: u32 = 1;

/// One of the few who read from files at a time; ends with its drop.
#[derive(Debug)]
#[must_use = "it is given up by its drop"]
pub struct Reading<'a> {
    _permit: SemaphorePermit<'a>,
}

/// An entry of a file with its slot.
struct Placed {
    index: LogIndex,
    segment: Arc<Segment>,
    slot: Slot,
}

impl ShardLog {
    /// An entry that is still in memory.
    #[must_use]
    pub fn recent(&self, index: LogIndex) -> Option<Entry> {
        self.state.lock().recent_entry(index).cloned()
    }

    /// What is known of an entry without its payload; none when the log does not hold it.
    ///
    /// # Errors
    /// `InvalidData` when the entry or the index of its segment is damaged.
    pub async fn meta(&self, index: LogIndex) -> io::Result<Option<EntryMeta>> {
        match self.state.find(index) {
            Some(Found::Memory(entry)) => {
                let payload_bytes = u32::try_from(entry.payload.len()).expect("checked when it was taken");
                Ok(Some(EntryMeta { id: entry.id, kind: entry.kind, payload_bytes }))
            }
            Some(Found::File(located)) => {
                let term = located.term;
                let placed = self.place(index, located).await?;
                Ok(Some(placed.slot.meta(LogId { term, index })))
            }
            None => self.missing(index).map_or(Ok(None), Err),
        }
    }

    /// Entries from `range.start` on: at least one if there is one, more as long as their payloads
    /// are within `bytes_max` together. Ends early at the log's end or at an entry that it lacks.
    ///
    /// # Errors
    /// `InvalidData` when the first entry is damaged, or one that was read with it.
    pub async fn entries(&self, range: Range<LogIndex>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        while next < range.end {
            match self.state.find(next) {
                Some(Found::Memory(entry)) => {
                    if !entries.is_empty() && bytes + entry.payload.len() > bytes_max {
                        break;
                    }
                    bytes += entry.payload.len();
                    entries.push(entry);
                    next = next.next();
                }
                Some(Found::File(located)) => {
                    if !entries.is_empty() && bytes >= bytes_max {
                        break;
                    }
                    let read = self
                        .read_run(next..range.end, located, bytes_max.saturating_sub(bytes), entries.is_empty())
                        .await?;
                    if read.is_empty() {
                        break;
                    }
                    bytes += read.iter().map(|entry| entry.payload.len()).sum::<usize>();
                    next = LogIndex(next.0 + read.len() as u64);
                    entries.extend(read);
                }
                None if entries.is_empty() => return self.missing(next).map_or(Ok(entries), Err),
                None => break,
            }
        }
        Ok(entries)
    }

    /// Bytes of an entry's payload, if the entry is in memory.
    #[must_use]
    pub fn try_read(&self, index: LogIndex, range: Range<u32>) -> Option<Chunk> {
        let inner = self.state.lock();
        let entry = inner.recent_entry(index)?;
        let range = range.start as usize..range.end as usize;
        (range.start <= range.end && range.end <= entry.payload.len())
            .then(|| Chunk::Memory(slices_of(&entry.payload, range)))
    }

    /// Waits until few enough read from the files of all shards. To be held by whoever reads for an answer, who then
    /// MUST NOT wait for anything but those reads.
    pub async fn reading(&self) -> Reading<'_> {
        let permit = self.shared.readers.acquire().await;
        Reading { _permit: permit.expect("the semaphore is never closed") }
    }

    /// Bytes of an entry's payload, from memory or as a range of a file. What this process wrote itself, or has checked
    /// before, is given as it lies there.
    ///
    /// # Errors
    /// `InvalidData` when the entry is damaged, `NotFound` when the log does not hold it,
    /// `InvalidInput` when the range exceeds the payload.
    pub async fn read(&self, index: LogIndex, range: Range<u32>) -> io::Result<Chunk> {
        self.read_as(index, range, Segment::is_verified).await
    }

    /// As [`Self::read`], of an entry of which all that comes from a file is compared with its checksum, whoever wrote
    /// it: for what another node keeps, which must not take over what went bad here.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_checked(&self, index: LogIndex, range: Range<u32>) -> io::Result<Chunk> {
        self.read_as(index, range, |_, _| false).await
    }

    async fn read_as(
        &self,
        index: LogIndex,
        range: Range<u32>,
        is_trusted: fn(&Segment, u32) -> bool,
    ) -> io::Result<Chunk> {
        if let Some(chunk) = self.try_read(index, range.clone()) {
            return Ok(chunk);
        }
        let located = match self.state.find(index) {
            Some(Found::File(located)) => located,
            Some(Found::Memory(_)) => return Err(io::ErrorKind::InvalidInput.into()),
            None => return Err(self.missing(index).unwrap_or_else(|| io::ErrorKind::NotFound.into())),
        };
        let placed = self.place(index, located).await?;
        let Placed { segment, slot, .. } = &placed;
        if range.start > range.end || range.end > slot.payload_bytes() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (disk, cold) = (&*self.shared.disk, &self.shared.cold);
        let payload_at = slot.offset() + FRAME_HEADER_BYTES;
        if !is_trusted(segment, slot.offset()) {
            let frame = slot.offset()..payload_at + slot.payload_bytes();
            let frame_len = frame.len();
            let (checked, backing) = match cold.read(disk, segment, frame).await? {
                Some(frame) => {
                    let frame = join(frame);
                    let backing = frame.backing();
                    (segment.check_entry(frame.into_bytes(), *slot, self.state.id, index), Some(backing))
                }
                None => (segment.read_entry(*slot, self.state.id, index).await?, None),
            };
            let (_, payload) = self.checked(&placed, checked)?;
            // All of the frame was read to check it, and stays with any part of it.
            let backing = backing.unwrap_or_else(|| Backing::new(&payload, frame_len));
            return Ok(Slice::of(backing, payload.slice(range.start as usize..range.end as usize)).into());
        }
        if let Some(slices) = cold.read(disk, segment, payload_at + range.start..payload_at + range.end).await? {
            return Ok(Chunk::Memory(slices));
        }
        Ok(Chunk::File {
            file: Arc::clone(&segment.file),
            position: u64::from(payload_at + range.start),
            len: range.end - range.start,
            pin: SegmentPin { segment: Arc::clone(segment) },
        })
    }

    /// Entries from the file: the first of `range` stands at `located`. Neighbours in the segment
    /// are read at once as long as little of other shards lies between.
    async fn read_run(
        &self,
        range: Range<LogIndex>,
        located: Located,
        bytes_max: usize,
        at_least_one: bool,
    ) -> io::Result<Vec<Entry>> {
        let first = self.place(range.start, located).await?;
        let mut wanted = first.slot.payload_bytes() as usize;
        if !at_least_one && wanted > bytes_max {
            return Ok(Vec::new());
        }
        let start = first.slot.offset();
        let (mut end, mut useful) =
            (start + frame_bytes(first.slot.payload_bytes()), frame_bytes(first.slot.payload_bytes()));
        let mut batch = vec![first];
        let mut index = range.start.next();
        while index < range.end {
            let Some(Found::File(located)) = self.state.find(index) else { break };
            if !Arc::ptr_eq(&located.segment, &batch[0].segment) {
                break;
            }
            let placed = self.place(index, located).await?;
            let (offset, frame) = (placed.slot.offset(), frame_bytes(placed.slot.payload_bytes()));
            wanted += placed.slot.payload_bytes() as usize;
            let wasted = offset.saturating_sub(end);
            if wanted > bytes_max || offset < end || wasted > useful * WASTE_FACTOR {
                break;
            }
            useful += frame;
            end = offset + frame;
            batch.push(placed);
            index = index.next();
        }
        let segment = Arc::clone(&batch[0].segment);
        let bytes = segment.file.read_at(u64::from(start), (end - start) as usize).await?;
        self.parse(&batch, bytes, start)
    }

    fn parse(&self, batch: &[Placed], bytes: BytesMut, start: u32) -> io::Result<Vec<Entry>> {
        let bytes = bytes.freeze();
        let mut entries = Vec::with_capacity(batch.len());
        for placed in batch {
            let from = ((placed.slot.offset() - start) as usize).min(bytes.len());
            let to = (from + (FRAME_HEADER_BYTES + placed.slot.payload_bytes()) as usize).min(bytes.len());
            let checked = placed.segment.check_entry(bytes.slice(from..to), placed.slot, self.state.id, placed.index);
            let (header, payload) = self.checked(placed, checked)?;
            entries.push(Entry { id: header.id, kind: placed.slot.kind(), payload: Payload::from(payload) });
        }
        Ok(entries)
    }

    /// The slot of a located entry, from the segment's footer when it is not known.
    async fn place(&self, index: LogIndex, located: Located) -> io::Result<Placed> {
        let Located { segment, slot, .. } = located;
        let (slots_at, number) = match slot {
            SlotPlace::Known(slot) => return Ok(Placed { index, segment, slot }),
            SlotPlace::File { slots_at, number } => (slots_at, number),
        };
        let (block, place) = footer::slot_place(number);
        let key = (u64::from(segment.sequence), u64::from(block));
        let bytes = if let Some(bytes) = self.shared.blocks.find(key) {
            bytes
        } else {
            let bytes = segment.read_block(slots_at, block).await?;
            if !footer::block_is_whole(&bytes) {
                let position = u64::from(slots_at) + u64::from(block) * u64::from(footer::SLOT_BLOCK_BYTES);
                return Err(self.damaged(index, &segment, position, bytes.len() as u64));
            }
            self.shared.blocks.insert(key, bytes.clone());
            bytes
        };
        match footer::slot_of_block(&bytes, place) {
            Some(slot) => Ok(Placed { index, segment, slot }),
            None => Err(self.damaged(index, &segment, u64::from(slots_at), bytes.len() as u64)),
        }
    }

    fn checked<T>(&self, placed: &Placed, result: Result<T, BadFrame>) -> io::Result<T> {
        result.map_err(|bad| self.damaged(placed.index, &placed.segment, u64::from(bad.offset), u64::from(bad.bytes)))
    }

    fn damaged(&self, index: LogIndex, segment: &Segment, position: u64, bytes: u64) -> io::Error {
        self.shared.counters.damaged_reads.fetch_add(1, Ordering::Relaxed);
        self.state.lock().damaged_read = true;
        let damage = Damage { file: segment.path.clone(), position, bytes, indexes: Some(index..=index) };
        tracing::error!("{damage}");
        io::Error::new(io::ErrorKind::InvalidData, DamagedEntry { shard: self.state.id, index, damage })
    }

    /// Why an entry that should be there is not: damage that was found at start, or nothing known.
    fn missing(&self, index: LogIndex) -> Option<io::Error> {
        let damage = self.state.lock().damage_of(index)?;
        Some(io::Error::new(io::ErrorKind::InvalidData, DamagedEntry { shard: self.state.id, index, damage }))
    }
}
