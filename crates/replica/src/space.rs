//! What a shard has on this node's disk, stream by stream: what can be read, and what is there and cannot be any more.
//!
//! Index files and the objects' directories tell. They are gone through one by one, in steps that hold the state's lock for the
//! look at a single stream, or at a page of those that have something in memory.

use std::io;

use base::hash::FixedHashMap;
use record::{BatchEntry, StreamId, StreamOffset};
use storage::index_file::{Part, Source};

use crate::core::Core;
use crate::objects::STREAMS_PER_LOOK;
use crate::replica::Replica;

/// Batches that are looked up at a time.
const BATCHES_AT_ONCE: usize = 1_024;
/// All is counted again if objects took their place meanwhile; so often at most.
const COUNTS_MAX: usize = 3;

/// Bytes of a stream's batches. A body that several streams share counts for each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Readable, and read in the log.
    pub live_in_log: u64,
    /// Readable, and read in objects.
    pub live_in_objects: u64,
    /// Deleted, expired, superseded, or in an object since: still in the log.
    pub dead_in_log: u64,
    /// The same, still in objects.
    pub dead_in_objects: u64,
}

impl Taken {
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.live_in_log.saturating_add(self.live_in_objects)
    }

    #[must_use]
    pub const fn dead(&self) -> u64 {
        self.dead_in_log.saturating_add(self.dead_in_objects)
    }

    #[must_use]
    pub const fn in_log(&self) -> u64 {
        self.live_in_log.saturating_add(self.dead_in_log)
    }

    #[must_use]
    pub const fn in_objects(&self) -> u64 {
        self.live_in_objects.saturating_add(self.dead_in_objects)
    }

    pub const fn add(&mut self, other: &Self) {
        self.live_in_log = self.live_in_log.saturating_add(other.live_in_log);
        self.live_in_objects = self.live_in_objects.saturating_add(other.live_in_objects);
        self.dead_in_log = self.dead_in_log.saturating_add(other.dead_in_log);
        self.dead_in_objects = self.dead_in_objects.saturating_add(other.dead_in_objects);
    }

    const fn count(&mut self, source: Source, is_live: bool, bytes: u64) {
        let place = match (source, is_live) {
            (Source::File(_), true) => &mut self.live_in_log,
            (Source::File(_), false) => &mut self.dead_in_log,
            (Source::Object { .. }, true) => &mut self.live_in_objects,
            (Source::Object { .. }, false) => &mut self.dead_in_objects,
        };
        *place = place.saturating_add(bytes);
    }
}

/// What a shard has on a node's disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ShardSpace {
    /// By stream; also of streams that are deleted, or went to another shard.
    pub streams: FixedHashMap<StreamId, Taken>,
    /// Bytes of the objects as files.
    pub objects_bytes: u64,
    /// Bytes of the index files.
    pub index_bytes: u64,
    /// Bytes of the checkpoints.
    pub checkpoint_bytes: u64,
    /// Index files and objects that could not be read, and are not counted.
    pub unread: u64,
}

impl Replica {
    /// Counts what the shard has on this node's disk: reads all index files, and of objects the directories.
    pub async fn space(&self) -> ShardSpace {
        let core = &self.inner.core;
        for _ in 1..COUNTS_MAX {
            let before = core.here.keys();
            let space = core.space().await;
            if core.here.keys() == before {
                return space;
            }
        }
        core.space().await
    }
}

/// The counting of one shard.
struct Count<'a> {
    core: &'a Core,
    space: ShardSpace,
    /// Where the part of each stream began that was in memory: it is counted there, wherever it is by now.
    memory_from: FixedHashMap<StreamId, StreamOffset>,
}

/// What counts as readable of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    /// A batch that reaches behind this offset does.
    first: StreamOffset,
    /// What begins before it is read elsewhere.
    floor: StreamOffset,
}

impl Live {
    fn has(&self, batch: &BatchEntry) -> bool {
        batch.next_offset() > self.first && batch.base_offset >= self.floor
    }

    fn has_all(&self, part: &Part) -> bool {
        part.first_offset() >= self.first.max(self.floor)
    }

    fn has_none(&self, part: &Part) -> bool {
        part.next_offset() <= self.first.max(self.floor)
    }
}

impl Core {
    async fn space(&self) -> ShardSpace {
        let objects = self.index.objects();
        let mut count = Count { core: self, space: ShardSpace::default(), memory_from: FixedHashMap::default() };
        count.memory().await;
        for key in objects.keys() {
            let counted = match objects.origin(key).await {
                Ok((id, _)) => count.source(Source::Object { first: id.first, last: id.last, key }).await,
                Err(error) => Err(error),
            };
            count.note(counted);
        }
        for file in self.index.files() {
            let counted = count.source(Source::File(file)).await;
            count.note(counted);
        }
        let mut space = count.space;
        (space.objects_bytes, space.index_bytes) = (objects.bytes(), self.index.bytes());
        space.checkpoint_bytes = self.checkpoints.chain().map_or(0, |chain| chain.base_bytes + chain.delta_bytes);
        space
    }
}

impl Count<'_> {
    fn note(&mut self, counted: io::Result<()>) {
        match counted {
            // What went meanwhile takes nothing.
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.space.unread += 1,
            Ok(()) | Err(_) => {}
        }
    }

    /// What is in no file that is durable.
    async fn memory(&mut self) {
        let mut next = Some(0);
        while let Some(from) = next {
            tokio::task::coop::consume_budget().await;
            let state = self.core.state.read();
            let (streams, behind) = state.shard.stream_page(from, STREAMS_PER_LOOK);
            for stream in streams {
                let Some(view) = state.shard.stream(stream) else { continue };
                let memory_from = view.first_in_memory().unwrap_or_else(|| view.next_offset());
                self.memory_from.insert(stream, memory_from);
                let taken = self.space.streams.entry(stream).or_default();
                for batch in view.in_memory() {
                    let is_live = batch.next_offset() > view.first_offset();
                    let place = if is_live { &mut taken.live_in_log } else { &mut taken.dead_in_log };
                    *place += batch.total_bytes();
                }
            }
            next = behind;
        }
    }

    async fn source(&mut self, source: Source) -> io::Result<()> {
        // What is listed stays until it is counted.
        let _reader = self.core.here.enter();
        let mut page = 0;
        while let Some(parts) = self.core.index.streams_in(source, page).await? {
            for part in &parts {
                tokio::task::coop::consume_budget().await;
                self.part(part).await?;
            }
            page += 1;
        }
        Ok(())
    }

    async fn part(&mut self, part: &Part) -> io::Result<()> {
        let live = self.live_of(part).await?;
        let memory_from = self.memory_from.get(&part.stream()).copied();
        let mut taken = Taken::default();
        let is_of_one_kind = live.is_none_or(|live| live.has_all(part) || live.has_none(part));
        if let (Some(bytes), true) = (part.bytes(), is_of_one_kind) {
            taken.count(part.source(), live.is_some_and(|live| live.has_all(part)), bytes);
        } else {
            let mut from = part.first_offset();
            while from < part.next_offset() {
                let batches = self.core.index.batches_in(part, from, BATCHES_AT_ONCE).await?;
                let Some(last) = batches.last() else { break };
                from = last.next_offset();
                // Sealed since what was in memory was counted.
                let is_new = |batch: &BatchEntry| memory_from.is_some_and(|memory| batch.base_offset >= memory);
                for batch in batches.iter().filter(|batch| live.is_none() || !is_new(batch)) {
                    taken.count(part.source(), live.is_some_and(|live| live.has(batch)), batch.total_bytes());
                }
            }
        }
        self.space.streams.entry(part.stream()).or_default().add(&taken);
        Ok(())
    }

    /// What can be read of a part, where it lies; none if nothing can.
    async fn live_of(&self, part: &Part) -> io::Result<Option<Live>> {
        let (from, through) = part.files().into_inner();
        let first = {
            let state = self.core.state.read();
            let Some(view) = state.shard.stream(part.stream()) else { return Ok(None) };
            // A file of an earlier life of the stream is none of its own.
            let is_own = view.files().has_any(from, through)
                || view.compacted_through().is_some_and(|compacted| from <= compacted);
            if !is_own {
                return Ok(None);
            }
            view.first_offset()
        };
        let read = match self.core.index.part_at(through, part.stream()).await {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_here = |read: &Part| match (read.source(), part.source()) {
            (Source::File(read), Source::File(listed)) => read == listed,
            (Source::Object { key: read, .. }, Source::Object { key: listed, .. }) => read == listed,
            _ => false,
        };
        Ok(read.filter(is_here).map(|read| Live { first, floor: read.first_offset() }))
    }
}
