//! One segment file and who may write where in it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use base::disk::{Disk, File, OpenOptions, read_exact_at};
use bytes::Bytes;
use parking_lot::Mutex;
use record::{LogIndex, ShardId, crc32c};

use super::footer::Slot;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::position::Position;

/// Frames whose checksums were found right; remembered so that each is checked once. More than this
/// are forgotten and checked again.
const VERIFIED_FRAMES_MAX: usize = 65_536;

/// A segment file, open for reading and writing. Its number of references is its pin: a file is
/// recycled only when nobody else holds it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    /// Bytes of the file.
    pub(crate) capacity: u32,
    pub(crate) salt: u64,
    /// Whether every frame was written or checked by this process.
    trusted: bool,
    verified: Mutex<BTreeSet<u32>>,
    /// Whether its footer is durable.
    sealed: AtomicBool,
    /// Where the last frame ends; set when the segment is full.
    data_end: AtomicU32,
    life: AtomicU32,
    /// The file again, for reads past the page cache; opened at the first of them.
    direct: OnceLock<Arc<dyn File>>,
    /// Serialises zero-filling with the writer's reservations.
    pub(crate) filling: tokio::sync::Mutex<Filling>,
}

/// Who has which part of the unwritten rest of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    /// The writer owns everything below.
    pub(crate) reserved_to: u32,
    /// Zeros were written from the reservation up to here.
    pub(crate) filled_to: u32,
}

/// Part of a frame that cannot be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl Segment {
    pub(crate) fn new(
        sequence: u32,
        path: PathBuf,
        file: Arc<dyn File>,
        capacity: u32,
        salt: u64,
        trusted: bool,
    ) -> Self {
        Self {
            sequence,
            path,
            file,
            capacity,
            salt,
            trusted,
            verified: Mutex::default(),
            sealed: AtomicBool::new(false),
            data_end: AtomicU32::new(0),
            life: AtomicU32::new(0),
            direct: OnceLock::new(),
            filling: tokio::sync::Mutex::new(Filling { reserved_to: 0, filled_to: 0 }),
        }
    }

    pub(crate) fn position(&self, offset: u32) -> Position {
        Position::new(self.sequence, offset)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn set_sealed(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Where the last frame ends and in which life it was written, once the segment is full.
    pub(crate) fn end(&self) -> Option<(u32, u32)> {
        let data_end = self.data_end.load(Ordering::Acquire);
        (data_end > 0).then(|| (data_end, self.life.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_end(&self, data_end: u32, life: u32) {
        assert!(data_end > 0 && data_end <= self.capacity, "a segment ends within its file");
        self.life.store(life, Ordering::Relaxed);
        self.data_end.store(data_end, Ordering::Release);
    }

    /// Bytes up to the end of the last frame, all of the file while that is not known.
    pub(crate) fn data_bytes(&self) -> u32 {
        self.end().map_or(self.capacity, |(data_end, _)| data_end)
    }

    /// The file for reads past the page cache.
    pub(crate) fn direct(&self, disk: &dyn Disk) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.direct.get() {
            return Ok(Arc::clone(file));
        }
        let file = disk.open(&self.path, OpenOptions { direct: true, ..OpenOptions::read() })?;
        Ok(Arc::clone(self.direct.get_or_init(|| file)))
    }

    /// Whether the frame at `offset` may be served without looking at it.
    pub(crate) fn is_verified(&self, offset: u32) -> bool {
        self.trusted || self.verified.lock().contains(&offset)
    }

    /// Reads the whole entry that `slot` names and checks everything about it.
    pub(crate) async fn read_entry(
        &self,
        slot: Slot,
        shard: ShardId,
        index: LogIndex,
    ) -> io::Result<Result<(FrameHeader, Bytes), BadFrame>> {
        let len = (FRAME_HEADER_BYTES + slot.payload_bytes()) as usize;
        let bytes = self.file.read_at(u64::from(slot.offset()), len).await?.freeze();
        Ok(self.check_entry(bytes, slot, shard, index))
    }

    /// Checks the frame that `bytes` begins with against what its slot and its index say.
    pub(crate) fn check_entry(
        &self,
        bytes: Bytes,
        slot: Slot,
        shard: ShardId,
        index: LogIndex,
    ) -> Result<(FrameHeader, Bytes), BadFrame> {
        let (header_bytes, payload_bytes) = (FRAME_HEADER_BYTES as usize, slot.payload_bytes() as usize);
        let bad = BadFrame { offset: slot.offset(), bytes: FRAME_HEADER_BYTES + slot.payload_bytes() };
        let header = FrameHeader::decode(&bytes, self.position(slot.offset()), self.salt).ok_or(bad)?;
        let expected = header.kind == FrameKind::Entry(slot.kind())
            && header.shard == shard
            && header.id.index == index
            && header.payload_bytes == slot.payload_bytes();
        if !expected || bytes.len() < header_bytes + payload_bytes {
            return Err(bad);
        }
        let payload = bytes.slice(header_bytes..header_bytes + payload_bytes);
        if crc32c(&payload) != header.payload_crc {
            return Err(bad);
        }
        if !self.trusted {
            let mut verified = self.verified.lock();
            if verified.len() >= VERIFIED_FRAMES_MAX {
                verified.clear();
            }
            verified.insert(slot.offset());
        }
        Ok((header, payload))
    }

    /// A block of the footer's slots.
    pub(crate) async fn read_block(&self, slots_at: u32, block: u32) -> io::Result<Bytes> {
        let position = u64::from(slots_at) + u64::from(block) * u64::from(super::footer::SLOT_BLOCK_BYTES);
        let bytes = read_exact_at(&*self.file, position, super::footer::SLOT_BLOCK_BYTES as usize).await?;
        Ok(bytes.freeze())
    }
}

/// Keeps a segment's file from being recycled while it is held.
#[derive(Debug, Clone)]
pub struct SegmentPin {
    pub(crate) segment: Arc<Segment>,
}

impl SegmentPin {
    /// The file that is pinned.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.segment.path
    }
}
