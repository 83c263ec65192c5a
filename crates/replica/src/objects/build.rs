//! Building an object of neighbouring sealed ranges: what lives of them, stream by stream.

use std::io;
use std::ops::Range;

use base::hash::FixedHashMap;
use record::{BatchEntry, FileNumber, LogIndex, ObjectKey, StreamId, StreamOffset, batch_is_whole};
use shard::commands::PutObject;
use storage::index_file::{Part, Source};
use storage::object::{BlockPlace, ObjectId, ObjectWriter, StreamStart};

use super::gather::{Gathered, Window};
use super::work::Working;
use crate::core::Core;

/// Batches that are looked up at a time.
const BATCHES_AT_ONCE: usize = 256;
/// So many bytes are counted together against the rate.
const PAID_BYTES: u64 = 1 << 20;
/// What waits to be written: most of it for its bodies.
const STEPS_MAX: usize = 256 << 10;

/// What an object is built of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: FileNumber,
    pub(crate) last: FileNumber,
    /// The index files, all of them durable here, and the objects, in order.
    pub(crate) sources: Vec<Source>,
    /// The objects of the state that it is built in place of.
    pub(crate) replaces: Vec<ObjectKey>,
    /// Streams with batches that have earlier parts in the ranges, all of which lie in them.
    pub(crate) parts: Vec<StreamId>,
}

/// The streams of one source, page by page.
struct Streams {
    source: Source,
    page: usize,
    parts: std::vec::IntoIter<Part>,
    next: Option<Part>,
}

impl Streams {
    async fn open(core: &Core, source: Source) -> io::Result<Self> {
        let mut streams = Self { source, page: 0, parts: Vec::new().into_iter(), next: None };
        streams.advance(core).await?;
        Ok(streams)
    }

    async fn advance(&mut self, core: &Core) -> io::Result<()> {
        self.next = self.parts.next();
        if self.next.is_none()
            && let Some(parts) = core.index.streams_in(self.source, self.page).await?
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
    work: &'a Working,
    writer: ObjectWriter,
    /// What comes next, and is written when its bodies are read.
    steps: Vec<Step>,
    window: Window,
    /// Bodies, by where their last part lies, and where they were put: those that several streams have are put once.
    places: FixedHashMap<BodyPlace, Option<BlockPlace>>,
}

/// In the log, or in a block of an object.
type BodyPlace = (Option<ObjectKey>, LogIndex, u32);

const fn body_place(batch: &BatchEntry) -> BodyPlace {
    (batch.object, batch.log_index, batch.position)
}

/// What is known of a stream that is put.
#[derive(Clone, Copy)]
struct Bounds {
    first_offset: StreamOffset,
    next_offset: StreamOffset,
    /// What it has up to this file is elsewhere.
    compacted_through: Option<FileNumber>,
}

/// What is written of one thing.
enum Step {
    Stream(StreamStart),
    /// A batch, with its body at a place of the window.
    New(BatchEntry, Range<usize>),
    /// A batch whose body another stream has.
    Known(BatchEntry),
}

impl Core {
    /// Builds an object with this key; it is durable here when this returns. None when nothing lives in the ranges.
    pub(crate) async fn build(&self, key: ObjectKey, run: &Run, work: &Working) -> io::Result<Option<PutObject>> {
        let _reader = self.here.enter();
        let objects = self.index.objects();
        let id = ObjectId { shard: self.config.shard, key, first: run.first, last: run.last, stream: None };
        let mut sources = Vec::with_capacity(run.sources.len());
        for source in &run.sources {
            sources.push(Streams::open(self, *source).await?);
        }
        let mut writer = objects.begin(id).await?;
        if let Some(log) = self.log_of(run.first, run.last) {
            writer.stands_for(log);
        }
        let (steps, window) = (Vec::new(), Window::default());
        let mut building = Building { core: self, run, work, writer, steps, window, places: FixedHashMap::default() };
        let mut any = false;
        while let Some(stream) = sources.iter().filter_map(|source| source.next.as_ref()).map(Part::stream).min() {
            let mut parts = Vec::new();
            for source in &mut sources {
                if let Some(part) = source.next.filter(|part| part.stream() == stream) {
                    parts.push(part);
                    source.advance(self).await?;
                }
            }
            any |= building.stream(stream, &parts).await?;
        }
        if !any {
            return Ok(None);
        }
        building.write().await?;
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
    /// Puts what lives of a stream; whether anything does. `parts` are what the sources have of it, the oldest first.
    async fn stream(&mut self, stream: StreamId, parts: &[Part]) -> io::Result<bool> {
        let (bounds, live) = {
            let state = self.core.state.read();
            let Some(view) = state.shard.stream(stream) else { return Ok(false) };
            // A file of an earlier life of the stream is none of its own.
            let is_own = |part: &&Part| view.files().has_any(*part.files().start(), *part.files().end());
            let live: Vec<&Part> = parts.iter().filter(is_own).collect();
            let (first_offset, next_offset) = (view.first_offset(), view.next_offset());
            (Bounds { first_offset, next_offset, compacted_through: view.compacted_through() }, live)
        };
        // What is compacted up to there may be in the sources from before that.
        let begins_at = bounds.first_offset.max(self.core.index.compacted_end(stream).await?.unwrap_or_default());
        let mut is_begun = false;
        for part in &live {
            let mut from = begins_at.max(part.first_offset());
            while from < part.next_offset() {
                let batches = self.core.index.batches_in(part, from, BATCHES_AT_ONCE).await?;
                let Some(last) = batches.last() else { break };
                from = last.next_offset();
                if !is_begun {
                    self.steps.push(Step::Stream(self.start(stream, live[0], parts, bounds)));
                    is_begun = true;
                }
                for batch in batches {
                    self.put(batch).await?;
                }
            }
        }
        Ok(is_begun)
    }

    /// How the stream hangs on the files before the run: as the oldest of its parts does, or the part that this one hangs on.
    fn start(&self, stream: StreamId, oldest: &Part, parts: &[Part], bounds: Bounds) -> StreamStart {
        let Bounds { next_offset, compacted_through, .. } = bounds;
        let mut part = oldest;
        let (mut previous, mut jump, mut depth) = part.links();
        // What is compacted is read before all else.
        while previous >= self.run.first.0 && compacted_through.is_none_or(|through| previous > through.0) {
            let Some(older) = parts.iter().find(|part| part.files().contains(&FileNumber(previous))) else {
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

    async fn put(&mut self, batch: BatchEntry) -> io::Result<()> {
        let key = body_place(&batch);
        if self.places.contains_key(&key) {
            self.steps.push(Step::Known(batch));
        } else {
            if self.window.would_overflow(usize::try_from(batch.total_bytes()).unwrap_or(usize::MAX)) {
                self.write().await?;
            }
            self.places.insert(key, None);
            let place = self.window.add(&batch);
            self.steps.push(Step::New(batch, place));
        }
        if self.window.is_full() || self.steps.len() >= STEPS_MAX { self.write().await } else { Ok(()) }
    }

    /// Reads the bodies that are wanted, and writes all that waits for them.
    async fn write(&mut self) -> io::Result<()> {
        let Gathered { bytes, error } = self.window.read(self.core).await?;
        if let Some(error) = error {
            return Err(error);
        }
        let mut unpaid = 0;
        for step in std::mem::take(&mut self.steps) {
            // Checksums of what is in memory: nothing else may give way for long.
            tokio::task::coop::consume_budget().await;
            match step {
                Step::Stream(start) => self.writer.stream(start),
                Step::New(batch, place) => {
                    let body = bytes.slice(place);
                    if !batch_is_whole(std::slice::from_ref(&body)) {
                        let text = format!("the batch at {:?} is damaged", body_place(&batch));
                        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                    }
                    unpaid += body.len() as u64;
                    self.work.add(body.len() as u64);
                    if unpaid >= PAID_BYTES {
                        self.core.pace.spend(std::mem::take(&mut unpaid)).await;
                    }
                    let place = self.writer.batch(&batch, std::slice::from_ref(&body)).await?;
                    self.places.insert(body_place(&batch), Some(place));
                }
                Step::Known(batch) => {
                    let place = self.places.get(&body_place(&batch)).copied().flatten();
                    self.writer.refer(&batch, place.expect("it comes behind the one that has the body"));
                }
            }
        }
        self.core.pace.spend(unpaid).await;
        Ok(())
    }
}
