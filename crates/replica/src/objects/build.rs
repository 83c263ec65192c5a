//! Building an object of neighbouring sealed ranges: what lives of them, stream by stream.

use std::io;

use base::hash::FixedHashMap;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use record::{BatchEntry, FileNumber, LogIndex, ObjectKey, StreamId, StreamOffset, batch_is_whole};
use shard::commands::PutObject;
use smallvec::SmallVec;
use storage::index_file::FilePart;
use storage::object::{BlockPlace, ObjectId, ObjectWriter, StreamStart};

use crate::core::Core;
use crate::fetch::read_pieces;

/// Batches that are looked up, and read, at a time.
const BATCHES_AT_ONCE: usize = 256;
/// And bytes of them; a larger batch alone.
const BYTES_AT_ONCE: u64 = 4 << 20;
/// Reads of bodies that are under way together.
const READS_IN_FLIGHT: usize = 8;

/// A batch as it lies in the log, in pieces.
type Body = SmallVec<[Bytes; 1]>;

/// What an object is built of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: FileNumber,
    pub(crate) last: FileNumber,
    /// The index files, all of them durable here.
    pub(crate) files: Vec<FileNumber>,
    /// Objects that it is built in place of, and that are not here.
    pub(crate) replaces: Vec<ObjectKey>,
    /// Streams with batches that have earlier parts in the ranges, all of which lie in them.
    pub(crate) parts: Vec<StreamId>,
}

/// The streams of one index file, page by page.
struct Streams {
    file: FileNumber,
    page: usize,
    parts: std::vec::IntoIter<FilePart>,
    next: Option<FilePart>,
}

impl Streams {
    async fn open(core: &Core, file: FileNumber) -> io::Result<Self> {
        let mut streams = Self { file, page: 0, parts: Vec::new().into_iter(), next: None };
        streams.advance(core).await?;
        Ok(streams)
    }

    async fn advance(&mut self, core: &Core) -> io::Result<()> {
        self.next = self.parts.next();
        if self.next.is_none()
            && let Some(parts) = core.index.streams_in(self.file, self.page).await?
        {
            self.page += 1;
            self.parts = parts.into_iter();
            self.next = self.parts.next();
        }
        Ok(())
    }
}

/// An object that is being built.
struct Building<'a> {
    core: &'a Core,
    run: &'a Run,
    writer: ObjectWriter,
    /// Where bodies were put, by where their last part lay: those that several streams have are put once.
    places: FixedHashMap<(LogIndex, u32), BlockPlace>,
}

impl Core {
    /// Builds an object with this key; it is durable here when this returns. None when nothing lives in the ranges.
    pub(crate) async fn build(&self, key: ObjectKey, run: &Run) -> io::Result<Option<PutObject>> {
        let _reader = self.here.enter();
        let objects = self.index.objects();
        let id = ObjectId { shard: self.config.shard, key, first: run.first, last: run.last };
        let mut files = Vec::with_capacity(run.files.len());
        for file in &run.files {
            files.push(Streams::open(self, *file).await?);
        }
        let writer = objects.begin(id).await?;
        let mut building = Building { core: self, run, writer, places: FixedHashMap::default() };
        let mut any = false;
        while let Some(stream) = files.iter().filter_map(|file| file.next.as_ref()).map(FilePart::stream).min() {
            let mut parts = Vec::new();
            for file in &mut files {
                if let Some(part) = file.next.filter(|part| part.stream() == stream) {
                    parts.push(part);
                    file.advance(self).await?;
                }
            }
            any |= building.stream(stream, &parts).await?;
        }
        if !any {
            return Ok(None);
        }
        let summary = objects.finish(building.writer).await?;
        Ok(Some(PutObject {
            key,
            first: run.first,
            last: run.last,
            bytes: summary.bytes,
            index_digest: summary.index_digest,
            replaces: run.replaces.clone(),
            parts: run.parts.clone(),
        }))
    }
}

impl Building<'_> {
    /// Puts what lives of a stream; whether anything does. `parts` are what the files have of it, the oldest first.
    async fn stream(&mut self, stream: StreamId, parts: &[FilePart]) -> io::Result<bool> {
        let (first_offset, next_offset, live) = {
            let state = self.core.state.read();
            let Some(view) = state.shard.stream(stream) else { return Ok(false) };
            // A file of an earlier life of the stream is none of its own.
            let live: Vec<&FilePart> = parts.iter().filter(|part| view.files().contains(part.file())).collect();
            (view.first_offset(), view.next_offset(), live)
        };
        let mut is_begun = false;
        for part in &live {
            let mut from = first_offset.max(part.first_offset());
            while from < part.next_offset() {
                let mut batches = self.core.index.batches_in(part, from, BATCHES_AT_ONCE).await?;
                let Some(last) = batches.last() else { break };
                from = last.next_offset();
                if !is_begun {
                    self.writer.stream(self.start(stream, live[0], parts, next_offset));
                    is_begun = true;
                }
                while !batches.is_empty() {
                    let mut bytes = 0;
                    let count = batches.iter().take(BATCHES_AT_ONCE).take_while(|batch| {
                        let fits = bytes == 0 || bytes + batch.total_bytes() <= BYTES_AT_ONCE;
                        bytes += batch.total_bytes();
                        fits
                    });
                    let count = count.count();
                    self.put(&batches[..count]).await?;
                    batches.drain(..count);
                }
            }
        }
        Ok(is_begun)
    }

    /// How the stream hangs on the files before the run: as the oldest of its parts does, or the part that this one hangs on.
    fn start(&self, stream: StreamId, oldest: &FilePart, parts: &[FilePart], next_offset: StreamOffset) -> StreamStart {
        let mut part = oldest;
        let (mut previous, mut jump, mut depth) = part.links();
        while previous >= self.run.first.0 {
            let Some(older) = parts.iter().find(|part| part.file().0 == previous) else {
                // What it hung on died, and all before.
                (previous, jump, depth) = (0, 0, 0);
                break;
            };
            part = older;
            (previous, jump, depth) = part.links();
        }
        let jump = if jump >= self.run.first.0 { previous } else { jump };
        StreamStart {
            stream,
            previous,
            jump,
            depth,
            max_timestamp_before: part.max_timestamp_before(),
            // Nothing is undecided where there are no transactions.
            last_stable_offset: next_offset,
            aborted: Vec::new(),
        }
    }

    async fn put(&mut self, batches: &[BatchEntry]) -> io::Result<()> {
        let is_new = |batch: &&BatchEntry| !self.places.contains_key(&(batch.log_index, batch.position));
        let wanted: Vec<&BatchEntry> = batches.iter().filter(is_new).collect();
        let bodies = read_bodies(self.core, &wanted).await?;
        let written: u64 = wanted.iter().map(|batch| batch.total_bytes()).sum();
        let mut bodies = wanted.into_iter().zip(bodies).peekable();
        for batch in batches {
            let key = (batch.log_index, batch.position);
            if let Some((_, body)) = bodies.next_if(|(wanted, _)| std::ptr::eq(*wanted, batch)) {
                let place = self.writer.batch(batch, &body).await?;
                self.places.insert(key, place);
            } else {
                let place = *self.places.get(&key).expect("it was put before");
                self.writer.refer(batch, place);
            }
        }
        self.core.pace.spend(written).await;
        Ok(())
    }
}

async fn read_bodies(core: &Core, batches: &[&BatchEntry]) -> io::Result<Vec<Body>> {
    let _reading = core.log.reading().await;
    let mut reads = Vec::with_capacity(batches.len());
    for batch in batches {
        reads.push(read_body(core, batch));
    }
    stream::iter(reads).buffered(READS_IN_FLIGHT).try_collect().await
}

async fn read_body(core: &Core, batch: &BatchEntry) -> io::Result<Body> {
    let pieces = read_pieces(core, batch).await?;
    if batch_is_whole(&pieces) {
        return Ok(pieces);
    }
    let text = format!("the batch at entry {} of the log is damaged", batch.log_index.0);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
