//! Whether an object is, in every part, what was written.

use std::io;

use object_store::ObjectStoreExt;
use record::{BatchEntry, ObjectKey, StreamId, StreamOffset, crc32c};

use super::Objects;
use super::build::ObjectSummary;
use super::errors::io_error;
use super::format::{
    self, BLOCK_ENTRY_BYTES, BLOCKS_PER_PAGE, BlockEntry, ENTRIES_PER_PAGE, ENTRY_BYTES, FIRST_BYTES, FIRSTS_PER_PAGE,
    HEADER_BYTES, PAGE_BYTES, StreamEntry, TRAILER_BYTES, Trailer,
};
use super::read::READ_BYTES_MAX;
use crate::batch_run;

/// An object that is being read from its front to its end.
#[derive(Debug)]
pub struct ObjectCheck {
    objects: Objects,
    summary: ObjectSummary,
    runs_at: u64,
    blocks: std::vec::IntoIter<BlockEntry>,
    /// Up to there it was read.
    at: u64,
}

impl Objects {
    /// Reads all of an object and compares every checksum and every count in it; what it is known by. Its index is in
    /// memory meanwhile.
    ///
    /// # Errors
    /// `NotFound` when the object is not here, `InvalidData` when something is wrong, or what the store says.
    pub async fn verify(&self, key: ObjectKey) -> io::Result<ObjectSummary> {
        let mut check = self.check(key).await?;
        while check.step().await?.is_some() {}
        Ok(check.summary)
    }

    /// Compares every checksum and every count in the index of an object, from what lies there now. What is before the index is
    /// compared by [`ObjectCheck::step`].
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn check(&self, key: ObjectKey) -> io::Result<ObjectCheck> {
        let size = self.size(key).ok_or_else(|| self.missing(key))?;
        self.shared.open.forget(key);
        let found = self.shared.store.head(&self.location(key)).await.map_err(io_error)?;
        if found.size != size {
            return Err(self.damaged(key));
        }
        let open = self.open_object(key).await?;
        let trailer = &open.trailer;
        let index = self.read(key, trailer.runs_at..size - TRAILER_BYTES as u64).await?;
        let blocks = check_index(trailer, &index).ok_or_else(|| self.damaged(key))?;
        let summary = ObjectSummary { id: trailer.id, bytes: size, index_digest: trailer.index_digest };
        let (runs_at, at) = (trailer.runs_at, HEADER_BYTES as u64);
        Ok(ObjectCheck { objects: self.clone(), summary, runs_at, blocks: blocks.into_iter(), at })
    }
}

impl ObjectCheck {
    /// What the object is known by.
    #[must_use]
    pub const fn summary(&self) -> ObjectSummary {
        self.summary
    }

    /// How many bytes the index has, which were read at first.
    #[must_use]
    pub const fn index_bytes(&self) -> u64 {
        self.summary.bytes - self.runs_at
    }

    /// Reads some of the blocks and compares their checksums; how many bytes were read, none at the end.
    ///
    /// # Errors
    /// As [`Objects::verify`].
    pub async fn step(&mut self) -> io::Result<Option<u64>> {
        let (from, key) = (self.at, self.summary.id.key);
        let mut blocks = Vec::new();
        while let Some(block) = self.blocks.as_slice().first() {
            let end = self.at + u64::from(block.bytes);
            if end - from > READ_BYTES_MAX && !blocks.is_empty() {
                break;
            }
            blocks.extend(self.blocks.next());
            self.at = end;
        }
        if blocks.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.objects.read(key, from..self.at).await?;
        for block in blocks {
            tokio::task::coop::consume_budget().await;
            if crc32c(&bytes.split_to(block.bytes as usize)) != block.crc {
                return Err(self.objects.damaged(key));
            }
        }
        Ok(Some(self.at - from))
    }
}

/// The blocks of an object with this index, if everything in it fits together.
pub(super) fn check_index(trailer: &Trailer, index: &[u8]) -> Option<Vec<BlockEntry>> {
    holds(crc_fast::crc64_nvme(index) == trailer.index_digest)?;
    let pages = trailer.pages();
    let pages_at = usize::try_from(trailer.pages_at - trailer.runs_at).ok()?;
    let count = |pages: u64| usize::try_from(pages).ok();
    let (runs, rest) = index.split_at_checked(pages_at)?;
    let (directory, rest) = rest.split_at_checked(count(pages.directory)?.checked_mul(PAGE_BYTES)?)?;
    let (summary, rest) = rest.split_at_checked(count(pages.summary)?.checked_mul(PAGE_BYTES)?)?;
    let (of_blocks, root) = rest.split_at_checked(count(pages.blocks)?.checked_mul(PAGE_BYTES)?)?;
    let blocks: Vec<BlockEntry> = entries(of_blocks, trailer.blocks, BLOCKS_PER_PAGE, BLOCK_ENTRY_BYTES)?
        .map(BlockEntry::decode)
        .collect::<Option<_>>()?;
    let mut at = HEADER_BYTES as u64;
    for block in &blocks {
        holds(block.at == at && block.bytes > 0)?;
        at += u64::from(block.bytes);
    }
    holds(at == trailer.runs_at)?;
    check_firsts(directory, ENTRY_BYTES, summary, pages.directory)?;
    check_firsts(summary, FIRST_BYTES, root, pages.summary)?;
    check_streams(trailer, directory, runs, &blocks)?;
    Some(blocks)
}

/// The entries of whole pages, `count` in all.
pub(super) fn entries(
    pages: &[u8],
    count: u64,
    per_page: usize,
    entry_bytes: usize,
) -> Option<impl Iterator<Item = &[u8]>> {
    let count = usize::try_from(count).ok()?;
    holds(pages.chunks(PAGE_BYTES).all(format::page_is_whole) && pages.len() / PAGE_BYTES == count.div_ceil(per_page))?;
    let of_page = move |page| <[u8]>::chunks_exact(<[u8]>::split_at(page, per_page * entry_bytes).0, entry_bytes);
    Some(pages.chunks(PAGE_BYTES).flat_map(of_page).take(count))
}

/// What stands above the pages of `below` are their first streams: in pages, or one behind the other.
fn check_firsts(below: &[u8], entry_bytes: usize, above: &[u8], count: u64) -> Option<()> {
    let firsts = below.chunks(PAGE_BYTES).map(|page| format::stream_at(page, 0, entry_bytes));
    let is_root = above.len() as u64 == count * FIRST_BYTES as u64;
    let listed: Vec<&[u8]> = if is_root {
        above.chunks(FIRST_BYTES).collect()
    } else {
        entries(above, count, FIRSTS_PER_PAGE, FIRST_BYTES)?.collect()
    };
    let listed = listed.into_iter().map(|first| format::stream_at(first, 0, FIRST_BYTES));
    holds(firsts.eq(listed))
}

fn check_streams(trailer: &Trailer, directory: &[u8], runs: &[u8], blocks: &[BlockEntry]) -> Option<()> {
    let (mut at, mut batches, mut before): (usize, u64, Option<StreamId>) = (0, 0, None);
    for entry in entries(directory, trailer.streams, ENTRIES_PER_PAGE, ENTRY_BYTES)? {
        let entry = StreamEntry::decode(entry)?;
        holds(before.is_none_or(|before| before < entry.index.stream))?;
        before = Some(entry.index.stream);
        // Runs lie one behind the other, so that no byte is in none of them.
        holds(entry.index.run_at == trailer.runs_at.checked_add(at as u64)?)?;
        let run = runs.get(at..at.checked_add(entry.index.run_bytes as usize)?)?;
        at += run.len();
        check_run(run, &entry, blocks)?;
        batches += u64::from(entry.index.batches);
        if entry.aborted > 0 {
            let aborted = runs.get(at..at.checked_add(entry.aborted_bytes())?)?;
            at += aborted.len();
            format::decode_aborted(aborted)?;
        }
        // What a stream had in the first of the files may be compacted, and elsewhere.
        holds(entry.index.previous < trailer.id.last.0 && entry.index.jump < trailer.id.last.0)?;
        holds(trailer.id.stream.is_none_or(|only| only == entry.index.stream))?;
        holds(entry.index.running_max_timestamp >= entry.index.max_timestamp)?;
    }
    holds(at == runs.len() && batches == trailer.batches)
}

fn check_run(run: &[u8], entry: &StreamEntry, blocks: &[BlockEntry]) -> Option<()> {
    let mut found = Found { next_offset: entry.index.first_offset, bytes: 0, batches: 0 };
    batch_run::check(run, entry.index.run(), |batches| found.add(batches, blocks))?;
    let Found { next_offset, bytes, batches } = found;
    holds(next_offset == entry.index.next_offset && bytes == entry.batch_bytes)?;
    holds(batches == u64::from(entry.index.batches))
}

/// What the batches of a run come to.
struct Found {
    next_offset: StreamOffset,
    bytes: u64,
    batches: u64,
}

impl Found {
    fn add(&mut self, batches: &[BatchEntry], blocks: &[BlockEntry]) -> Option<()> {
        for batch in batches {
            let block = blocks.get(usize::try_from(batch.log_index.0).ok()?)?;
            holds(batch.position.checked_add(batch.bytes)? <= block.bytes && batch.earlier.is_none())?;
            // Compaction leaves gaps.
            holds(batch.base_offset >= self.next_offset)?;
            self.next_offset = batch.next_offset();
            self.bytes += u64::from(batch.bytes);
            self.batches += 1;
        }
        Some(())
    }
}

fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}
