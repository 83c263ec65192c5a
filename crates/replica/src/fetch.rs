//! Reads of a stream by offset: the tail from memory, what is older from the segments, the place of
//! each batch from the unsealed index in the state or from the sealed index files. The reader sees
//! none of these borders.
//!
//! A fetch has two steps. A [`Plan`] names the batches that may be read, and how many bytes they
//! are; [`read_within`] reads those of all streams of an answer, as many as there is memory for.

mod held;
mod memory;
mod read;
mod repeated;

use std::future::Future;
use std::io;

use record::{BatchEntry, FileNumber, LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use shard::Located;
use smallvec::SmallVec;
use storage::{Chunk, Reading, ShardLog};

use crate::core::Core;
use crate::errors::FetchError;
use crate::objects::Reader;

pub use memory::AnswerMemory;
pub(crate) use read::read_whole;
pub use read::{read_plans, read_within};
pub use repeated::Repeated;

/// The most batches that one fetch looks up at a time.
const LOOK_UP_COUNT_MAX: usize = 1_024;

type Chunks = SmallVec<[Chunk; 1]>;

/// What a fetch found.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// In order of offsets; the first may begin before the offset that was asked for.
    pub batches: Vec<StoredBatch>,
    /// The first offset that the stream still has.
    pub first_offset: StreamOffset,
    /// The offset that the next record will get. All below is committed.
    pub next_offset: StreamOffset,
}

/// One batch as it is stored.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base_offset: StreamOffset,
    /// The epoch in which it was appended.
    pub epoch: LeaderEpoch,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The largest timestamp in it.
    pub max_timestamp: TimestampMs,
    /// Bytes of the whole batch.
    pub bytes: u32,
    /// The batch as the producer sent it, cut into pieces. Before it is sent, base offset and epoch
    /// are to be written over its first 16 bytes, which are outside of its checksum.
    pub chunks: SmallVec<[Chunk; 1]>,
}

/// What a fetch wants of one stream.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The stream.
    pub stream: StreamId,
    /// An offset in the first batch.
    pub from: StreamOffset,
    /// The most bytes of all batches together.
    pub bytes_max: usize,
    /// Whether the first batch is given whatever its size.
    pub at_least_one: bool,
}

/// The batches that a fetch will read. Holds none of their bytes.
#[derive(Debug)]
pub struct Plan<'a> {
    core: &'a Core,
    /// What the batches are read from stays where it is.
    _reader: Reader,
    stream: StreamId,
    from: StreamOffset,
    entries: Vec<BatchEntry>,
    first_offset: StreamOffset,
    next_offset: StreamOffset,
}

/// A plan, or what is to be looked up in files first.
#[derive(Debug)]
pub enum Planned<'a> {
    /// The index of these batches is in memory.
    Here(Plan<'a>),
    /// It is in files.
    InFiles(LookUp<'a>),
}

/// A plan that still lacks its batches.
#[derive(Debug)]
pub struct LookUp<'a> {
    plan: Plan<'a>,
    wish: Wish,
    newest: FileNumber,
}

impl StoredBatch {
    /// What a batch takes in memory beside its bytes, while it is planned and read.
    pub const OVERHEAD_BYTES: usize = size_of::<Self>() + size_of::<BatchEntry>();
}

impl<'a> Plan<'a> {
    /// The first offset that the stream still has.
    #[must_use]
    pub fn first_offset(&self) -> StreamOffset {
        self.first_offset
    }

    /// The offset that the next record will get. All below is committed.
    #[must_use]
    pub fn next_offset(&self) -> StreamOffset {
        self.next_offset
    }

    /// Whether there is more behind what will be read.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.entries.last().map_or(self.from, BatchEntry::next_offset) < self.next_offset
    }

    /// Bytes of the batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(BatchEntry::total_bytes).sum()
    }

    /// How many batches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the first batch, if there is one.
    #[must_use]
    pub fn first_bytes(&self) -> Option<u64> {
        self.entries.first().map(BatchEntry::total_bytes)
    }

    /// Whether files have to be read, as far as can be seen now.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        // What is in memory is the end of the log.
        self.entries.first().is_some_and(|first| read::recent(self.log(), std::slice::from_ref(first)).is_none())
    }

    /// Waits until few enough read from files. To be had before the memory, so that nobody who waits holds any.
    pub fn reading(&self) -> impl Future<Output = Reading<'a>> + use<'a> {
        self.log().reading()
    }

    /// Leaves out the last batch; its bytes.
    pub fn pop(&mut self) -> Option<u64> {
        self.entries.pop().map(|entry| entry.total_bytes())
    }

    /// Leaves as many batches as a fetch with these limits gives.
    pub fn limit(&mut self, bytes_max: usize, at_least_one: bool) {
        let count = fitting(self.entries.iter(), bytes_max, at_least_one).count();
        self.entries.truncate(count);
    }

    fn log(&self) -> &'a ShardLog {
        &self.core.log
    }
}

impl<'a> LookUp<'a> {
    /// Looks up which batches there are.
    ///
    /// # Errors
    /// When the files cannot be read, or do not have what they should.
    pub async fn find(self) -> Result<Plan<'a>, FetchError> {
        let Self { mut plan, wish, newest } = self;
        let Wish { stream, from, .. } = wish;
        let bytes = u64::try_from(wish.bytes_max).unwrap_or(u64::MAX).max(1);
        let found = plan.core.index.batches(newest, stream, from, LOOK_UP_COUNT_MAX, bytes).await;
        let found = found.map_err(|error| plan.core.read_error(stream, from, error))?;
        if found.is_empty() {
            return Err(damaged(stream, from, "the index does not have it"));
        }
        plan.entries = found;
        plan.limit(wish.bytes_max, wish.at_least_one);
        check_order(stream, from, &plan.entries)?;
        Ok(plan)
    }
}

impl Core {
    pub(crate) async fn fetch(&self, wish: Wish) -> Result<Fetched, FetchError> {
        let plan = match self.plan(wish)? {
            Planned::Here(plan) => plan,
            Planned::InFiles(look_up) => look_up.find().await?,
        };
        let (first_offset, next_offset) = (plan.first_offset, plan.next_offset);
        let batches = read_plans(&[plan]).await.remove(0)?;
        Ok(Fetched { batches, first_offset, next_offset })
    }

    pub(crate) fn plan(&self, wish: Wish) -> Result<Planned<'_>, FetchError> {
        if self.is_failed() {
            return Err(FetchError::Stopped);
        }
        let Wish { stream, from, bytes_max, at_least_one } = wish;
        let reader = self.here.enter();
        let state = self.state.read();
        let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
        let (first_offset, next_offset) = (view.first_offset(), view.next_offset());
        let (newest, entries) = match view.locate(from) {
            Located::Memory(batches) => (None, fitting(batches, bytes_max, at_least_one).collect()),
            Located::File(newest) => (Some(newest), Vec::new()),
            Located::End => (None, Vec::new()),
            Located::OutOfRange => {
                return Err(FetchError::OffsetOutOfRange { offset: from, first: first_offset, next: next_offset });
            }
        };
        drop(state);
        let plan = Plan { core: self, _reader: reader, stream, from, entries, first_offset, next_offset };
        match newest {
            // There is no room for anything: the files need not be asked.
            Some(_) if bytes_max == 0 && !at_least_one => Ok(Planned::Here(plan)),
            Some(newest) => Ok(Planned::InFiles(LookUp { plan, wish, newest })),
            None => check_order(stream, from, &plan.entries).map(|()| Planned::Here(plan)),
        }
    }

    /// What it means that something of a batch with this offset cannot be read: the stream or its front is gone meanwhile, and
    /// its files with it, or damage.
    pub(crate) fn read_error(&self, stream: StreamId, offset: StreamOffset, error: io::Error) -> FetchError {
        {
            let state = self.state.read();
            let Some(view) = state.shard.stream(stream) else { return FetchError::UnknownStream(stream) };
            let (first, next) = (view.first_offset(), view.next_offset());
            if offset < first {
                return FetchError::OffsetOutOfRange { offset, first, next };
            }
        }
        damage_or_io(stream, offset, error)
    }
}

/// As many batches from the front as fit `bytes_max`, one in any case if `at_least_one`, and no more
/// than a fetch looks up at a time: the list is made under apply's lock, and takes memory itself.
fn fitting<E: std::borrow::Borrow<BatchEntry>>(
    entries: impl Iterator<Item = E>,
    bytes_max: usize,
    at_least_one: bool,
) -> impl Iterator<Item = E> {
    let mut left = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut must_give = at_least_one;
    entries.take(LOOK_UP_COUNT_MAX).take_while(move |entry| {
        let bytes = entry.borrow().total_bytes();
        let fits = bytes <= left || must_give;
        must_give = false;
        left = left.saturating_sub(bytes);
        fits
    })
}

/// What the index names must hold the offset asked for and go on without gap or overlap. In objects there may be gaps, where key
/// compaction left nothing; that none is missing there says the checksum of what lists them.
fn check_order(stream: StreamId, from: StreamOffset, entries: &[BatchEntry]) -> Result<(), FetchError> {
    if let Some(first) = entries.first()
        && ((first.base_offset > from && first.object.is_none()) || first.next_offset() <= from)
    {
        return Err(damaged(stream, from, "the index names another batch"));
    }
    let follows = |one: &BatchEntry, other: &BatchEntry| {
        let is_behind = one.next_offset() < other.base_offset && other.object.is_some();
        is_behind || one.next_offset() == other.base_offset
    };
    match entries.windows(2).find(|pair| !follows(&pair[0], &pair[1])) {
        Some(pair) => Err(damaged(stream, pair[1].base_offset, "the index has a gap before it")),
        None => Ok(()),
    }
}

fn damaged(stream: StreamId, offset: StreamOffset, reason: &str) -> FetchError {
    FetchError::Damaged { stream, offset, reason: reason.to_owned() }
}

pub(crate) fn damage_or_io(stream: StreamId, offset: StreamOffset, error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
            FetchError::Damaged { stream, offset, reason: error.to_string() }
        }
        _ => error.into(),
    }
}
