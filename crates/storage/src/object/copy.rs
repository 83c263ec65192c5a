//! Making an object that is somewhere else already: from its index, which says what is in it, and from bodies that are
//! found here, or brought.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use record::{BatchEntry, StreamId, crc32c};

use super::format::{self, BlockEntry, ENTRIES_PER_PAGE, ENTRY_BYTES, PAGE_BYTES, StreamEntry, TRAILER_BYTES, Trailer};
use super::parts_writer::PartsWriter;
use super::{ObjectId, ObjectSummary, Objects, verify};
use crate::batch_run;

/// The index of an object, in which everything fits together.
#[derive(Debug)]
pub struct ObjectIndex {
    trailer: Trailer,
    bytes: u64,
    /// From the first run to the end of the trailer.
    tail: Bytes,
    blocks: Vec<BlockEntry>,
}

/// A body that an object has: where it is there, and which batch it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectBody {
    pub stream: StreamId,
    /// In place of a log index it has the number of its block.
    pub batch: BatchEntry,
}

impl ObjectIndex {
    /// How many of an object's last bytes are to be had first.
    pub const TRAILER_BYTES: usize = TRAILER_BYTES;

    /// Where the index of the object lies that is `known`, as its last bytes say.
    #[must_use]
    pub fn place(known: &ObjectSummary, trailer: &[u8]) -> Option<Range<u64>> {
        let trailer = Trailer::decode(trailer, known.bytes).filter(|trailer| is_of(trailer, known))?;
        Some(trailer.runs_at..known.bytes)
    }

    /// The index of the object that is `known`, from all that lies behind its data; none when it is not that.
    #[must_use]
    pub fn decode(known: &ObjectSummary, tail: Bytes) -> Option<Self> {
        let (index, trailer) = tail.split_at_checked(tail.len().checked_sub(TRAILER_BYTES)?)?;
        let trailer = Trailer::decode(trailer, known.bytes).filter(|trailer| is_of(trailer, known))?;
        let blocks = verify::check_index(&trailer, index)?;
        let is_whole = trailer.runs_at + tail.len() as u64 == known.bytes;
        is_whole.then_some(Self { trailer, bytes: known.bytes, tail, blocks })
    }

    /// Where each block lies in the object.
    #[must_use]
    pub fn block(&self, number: usize) -> Option<Range<u64>> {
        self.blocks.get(number).map(|block| block.at..block.at + u64::from(block.bytes))
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The bodies, in the order in which they lie in the object; those that several streams have once.
    pub fn bodies(&self) -> impl Iterator<Item = ObjectBody> + '_ {
        let mut end = (0, 0);
        self.streams().flat_map(|entry| self.batches(&entry)).filter(move |body| {
            let at = (body.batch.log_index.0, body.batch.position);
            let is_new = at >= end;
            if is_new {
                end = (at.0, at.1 + body.batch.bytes);
            }
            is_new
        })
    }

    fn streams(&self) -> impl Iterator<Item = StreamEntry> + '_ {
        let directory = usize::try_from(self.trailer.pages_at - self.trailer.runs_at).expect("it is in memory");
        let pages = self.tail[directory..].chunks(PAGE_BYTES);
        let entries = pages.flat_map(|page| page.chunks_exact(ENTRY_BYTES).take(ENTRIES_PER_PAGE));
        let count = usize::try_from(self.trailer.streams).expect("they are in memory");
        entries.take(count).map(|entry| StreamEntry::decode(entry).expect("it was checked"))
    }

    fn batches(&self, entry: &StreamEntry) -> impl Iterator<Item = ObjectBody> + use<'_> {
        let (stream, run) = (entry.index.stream, entry.index.run());
        let at = usize::try_from(run.at - self.trailer.runs_at).expect("it is in memory");
        let bytes = &self.tail[at..at + run.bytes as usize];
        let chunks = run.only_chunk().map_or_else(
            || batch_run::decode_table(&bytes[..run.table_bytes().expect("it was checked")]).expect("it was checked"),
            |only| vec![only],
        );
        chunks.into_iter().flat_map(move |chunk| {
            let at = chunk.at as usize;
            let batches = batch_run::decode_chunk(&bytes[at..at + chunk.bytes as usize], chunk.batches);
            batches.expect("it was checked").into_iter().map(move |batch| ObjectBody { stream, batch })
        })
    }
}

fn is_of(trailer: &Trailer, known: &ObjectSummary) -> bool {
    trailer.id == known.id && trailer.index_digest == known.index_digest
}

/// An object that is being made from its index. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub struct ObjectCopy {
    out: PartsWriter,
    index: Arc<ObjectIndex>,
    next: usize,
}

impl ObjectCopy {
    /// The index it is made from.
    #[must_use]
    pub fn index(&self) -> &ObjectIndex {
        &self.index
    }

    /// The number of the block that is wanted next; none when all are there.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        (self.next < self.index.blocks()).then_some(self.next)
    }

    /// Takes the bytes of the block that is wanted; false if they are not those.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn block(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let block = self.index.blocks[self.next];
        if bytes.len() as u64 != u64::from(block.bytes) || crc32c(bytes) != block.crc {
            return Ok(false);
        }
        self.out.put(bytes).await?;
        self.next += 1;
        Ok(true)
    }
}

impl Objects {
    /// Begins to make the object that has this index.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn begin_copy(&self, index: Arc<ObjectIndex>) -> io::Result<ObjectCopy> {
        let id: ObjectId = index.trailer.id;
        assert_eq!(id.shard, self.shared.shard, "an object is of its shard");
        let mut out = PartsWriter::begin(&*self.shared.store, &self.location(id.key)).await?;
        out.put(&format::encode_header(&id)).await?;
        Ok(ObjectCopy { out, index, next: 0 })
    }

    /// Ends an object of which all blocks were taken; it is here and durable then.
    ///
    /// # Errors
    /// When it cannot be written: it is not here then.
    pub async fn finish_copy(&self, copy: ObjectCopy) -> io::Result<ObjectSummary> {
        assert!(copy.wanted().is_none(), "all blocks were taken");
        let ObjectCopy { mut out, index, .. } = copy;
        let ObjectIndex { trailer, bytes, tail, .. } = &*index;
        out.put(tail).await?;
        let written = out.finish().await?;
        assert_eq!(written, *bytes, "the index tells where it lies");
        self.is_here(trailer.id.key, *bytes);
        Ok(ObjectSummary { id: trailer.id, bytes: *bytes, index_digest: trailer.index_digest })
    }
}
