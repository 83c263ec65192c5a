//! Reads of sealed segments past the page cache.
//!
//! What the writer wrote directly is in no page cache, and bringing it there costs more than reading
//! it: blocks are read with direct I/O into aligned memory that is used again and again, and kept in
//! a small cache, because the streams of a shard lie side by side in its log and are often read
//! together. A reader that goes on through a segment finds the next blocks under way.
//!
//! Only sealed segments are read so: nothing in them changes any more, and a segment's number is
//! never used again, so a cached block is never stale.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base::disk::{DIRECT_ALIGNMENT, Disk, File};
use base::hash::FixedHashMap;
use base::task::spawn;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::chunk::{Backing, Slice, Slices};
use super::segment::Segment;

/// Bytes of a block: large enough for the device's rate, small enough for a single batch.
const BLOCK_BYTES: u32 = 512 << 10;
const BLOCK_LEN: usize = BLOCK_BYTES as usize;
/// Blocks that are read ahead of a reader that goes on.
const AHEAD_COUNT: u32 = 3;
/// Blocks that are read ahead at a time, for all readers.
const AHEAD_IN_FLIGHT_MAX: usize = 8;

/// Number of the segment, number of the block in it.
type Key = (u32, u32);
type Cell = Arc<OnceCell<Bytes>>;

/// The cache and the memory it uses.
#[derive(Debug)]
pub(crate) struct ColdReads {
    blocks_max: usize,
    cache: Mutex<Cache>,
    pool: Arc<Pool>,
    ahead: AtomicUsize,
    /// The file system does not take direct reads.
    refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Cache {
    blocks: FixedHashMap<Key, Cell>,
    order: VecDeque<Key>,
}

/// Memory of blocks that nobody uses.
#[derive(Debug)]
struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    free_max: usize,
}

/// A block in use; its memory goes back to the pool with the last reference.
struct Block {
    memory: Vec<u8>,
    range: Range<usize>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.range.clone()]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.memory));
    }
}

impl Pool {
    fn take(&self) -> Vec<u8> {
        let free = self.free.lock().pop();
        free.unwrap_or_else(|| vec![0; BLOCK_LEN + DIRECT_ALIGNMENT])
    }

    fn give(&self, memory: Vec<u8>) {
        let mut free = self.free.lock();
        if free.len() < self.free_max {
            free.push(memory);
        }
    }
}

impl ColdReads {
    /// A cache of at most `bytes_max`; with less than a few blocks everything goes through the page cache.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let blocks_max = bytes_max / BLOCK_LEN;
        Self {
            blocks_max: if blocks_max > AHEAD_COUNT as usize { blocks_max } else { 0 },
            cache: Mutex::default(),
            pool: Arc::new(Pool { free: Mutex::default(), free_max: blocks_max / 4 + AHEAD_IN_FLIGHT_MAX }),
            ahead: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// Bytes of a sealed segment; none when they are to be read through the page cache.
    ///
    /// # Errors
    /// As reading the file; `UnexpectedEof` when it ends before the range does.
    pub(crate) async fn read(
        self: &Arc<Self>,
        disk: &dyn Disk,
        segment: &Arc<Segment>,
        range: Range<u32>,
    ) -> io::Result<Option<Slices>> {
        if self.blocks_max == 0 || !segment.is_sealed() || self.refused.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.read_blocks(&segment.direct(disk)?, segment, range).await {
            // The device wants another alignment.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "this disk does not take direct reads");
                }
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    async fn read_blocks(
        self: &Arc<Self>,
        file: &Arc<dyn File>,
        segment: &Arc<Segment>,
        range: Range<u32>,
    ) -> io::Result<Slices> {
        let mut slices = Slices::new();
        let mut at = range.start;
        while at < range.end {
            let number = at / BLOCK_BYTES;
            let start = number * BLOCK_BYTES;
            let end = range.end.min(start + BLOCK_BYTES);
            let block = self.block(file, segment, number).await?;
            let slice = (at - start) as usize..(end - start) as usize;
            if slice.end > block.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            slices.push(Slice::of(Backing::new(&block, BLOCK_LEN), block.slice(slice)));
            at = end;
        }
        Ok(slices)
    }

    async fn block(self: &Arc<Self>, file: &Arc<dyn File>, segment: &Arc<Segment>, number: u32) -> io::Result<Bytes> {
        let (cell, ahead) = self.cells(segment, number);
        for (number, cell) in ahead {
            self.read_ahead(file, segment, number, cell);
        }
        cell.get_or_try_init(|| load(file, segment, number, &self.pool)).await.cloned()
    }

    /// The cell of a block, and those behind it that a reader who goes on will want.
    fn cells(&self, segment: &Segment, number: u32) -> (Cell, Vec<(u32, Cell)>) {
        let sequence = segment.sequence;
        let mut cache = self.cache.lock();
        let goes_on = number > 0 && cache.blocks.contains_key(&(sequence, number - 1));
        let cell = cache.cell((sequence, number));
        let mut ahead = Vec::new();
        let data_blocks = segment.data_bytes().div_ceil(BLOCK_BYTES);
        if goes_on && self.ahead.load(Ordering::Relaxed) < AHEAD_IN_FLIGHT_MAX {
            for next in number + 1..data_blocks.min(number + 1 + AHEAD_COUNT) {
                if !cache.blocks.contains_key(&(sequence, next)) {
                    ahead.push((next, cache.cell((sequence, next))));
                }
            }
        }
        while cache.order.len() > self.blocks_max {
            let Some(oldest) = cache.order.pop_front() else { break };
            cache.blocks.remove(&oldest);
        }
        (cell, ahead)
    }

    fn read_ahead(self: &Arc<Self>, file: &Arc<dyn File>, segment: &Arc<Segment>, number: u32, cell: Cell) {
        self.ahead.fetch_add(1, Ordering::Relaxed);
        let (this, file, segment) = (Arc::clone(self), Arc::clone(file), Arc::clone(segment));
        drop(spawn("read ahead", async move {
            // An error is met again by whoever wants the block.
            let _ = cell.get_or_try_init(|| load(&file, &segment, number, &this.pool)).await;
            this.ahead.fetch_sub(1, Ordering::Relaxed);
        }));
    }
}

impl Cache {
    fn cell(&mut self, key: Key) -> Cell {
        if let Some(cell) = self.blocks.get(&key) {
            return Arc::clone(cell);
        }
        let cell = Cell::default();
        self.blocks.insert(key, Arc::clone(&cell));
        self.order.push_back(key);
        cell
    }
}

async fn load(file: &Arc<dyn File>, segment: &Segment, number: u32, pool: &Arc<Pool>) -> io::Result<Bytes> {
    let start = number * BLOCK_BYTES;
    let len = segment.capacity.saturating_sub(start).min(BLOCK_BYTES) as usize;
    let memory = pool.take();
    let base = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let (memory, read) = file.read_into(u64::from(start), memory, base..base + len).await?;
    assert!(read <= len, "a read gives no more than was asked for");
    Ok(Bytes::from_owner(Block { memory, range: base..base + read, pool: Arc::clone(pool) }))
}

#[cfg(test)]
mod tests {
    use base::disk::{OpenOptions, RealDisk};

    use super::*;

    async fn segment(bytes: u32) -> (tempfile::TempDir, Arc<Segment>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let content: Vec<u8> = (0..bytes).map(|at| (at / 7 % 251).to_le_bytes()[0]).collect();
        let file = RealDisk.open(&path, OpenOptions::create_new()).unwrap();
        file.write_at(0, &[io::IoSlice::new(&content)]).await.unwrap();
        let segment = Segment::new(3, path, file, bytes, 0, true);
        segment.set_end(bytes, 1);
        segment.set_sealed();
        (dir, Arc::new(segment), content)
    }

    async fn read(cold: &Arc<ColdReads>, segment: &Arc<Segment>, range: Range<u32>) -> Vec<u8> {
        let slices = cold.read(&RealDisk, segment, range).await.unwrap().expect("a sealed segment");
        slices.iter().flat_map(|slice| slice.bytes().iter().copied()).collect()
    }

    #[tokio::test]
    async fn any_range_is_what_the_file_has_and_memory_is_bounded() {
        let (_dir, segment, content) = segment(12 * BLOCK_BYTES + 4096).await;
        let cold = Arc::new(ColdReads::new(4 * BLOCK_LEN));
        let mut state = 1_u32;
        for _ in 0..200 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let start = state % (segment.capacity - 1);
            let end = (start + 1 + (state >> 7) % (2 * BLOCK_BYTES)).min(segment.capacity);
            assert_eq!(read(&cold, &segment, start..end).await, &content[start as usize..end as usize]);
            assert!(cold.cache.lock().order.len() <= 4);
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_finds_the_next_blocks_under_way() {
        let (_dir, segment, content) = segment(8 * BLOCK_BYTES).await;
        let cold = Arc::new(ColdReads::new(16 * BLOCK_LEN));
        for start in (0..2 * BLOCK_BYTES).step_by(100_000) {
            assert_eq!(
                read(&cold, &segment, start..start + 100_000).await,
                &content[start as usize..start as usize + 100_000]
            );
        }
        assert!(cold.cache.lock().blocks.contains_key(&(3, 4)), "read ahead of block 1");
        assert!(!cold.cache.lock().blocks.contains_key(&(3, 7)));
    }

    #[tokio::test]
    async fn memory_in_use_outlives_the_cache_and_is_used_again() {
        let (_dir, segment, content) = segment(8 * BLOCK_BYTES).await;
        let cold = Arc::new(ColdReads::new(4 * BLOCK_LEN));
        let held = cold.read(&RealDisk, &segment, 0..1_000).await.unwrap().unwrap();
        for block in 0..8 {
            read(&cold, &segment, block * BLOCK_BYTES..block * BLOCK_BYTES + 10).await;
        }
        assert_eq!(held[0].bytes(), &content[..1_000]);
        assert_eq!(held[0].backing().bytes(), BLOCK_LEN, "a part keeps all of it");
        let free = cold.pool.free.lock().len();
        drop(held);
        assert_eq!(cold.pool.free.lock().len(), free + 1);
        cold.cache.lock().blocks.clear();
        assert!(!cold.pool.free.lock().is_empty());
    }

    #[tokio::test]
    async fn a_segment_that_is_written_is_left_to_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let file = RealDisk.open(&path, OpenOptions::create_new()).unwrap();
        let segment = Arc::new(Segment::new(3, path, file, BLOCK_BYTES, 0, true));
        let cold = Arc::new(ColdReads::new(8 * BLOCK_LEN));
        assert!(cold.read(&RealDisk, &segment, 0..10).await.unwrap().is_none());
    }
}
