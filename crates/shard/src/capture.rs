//! Writing the state down while it goes on changing: a checkpoint shows the state at the index at which its capture
//! began, and is made in steps that each take as long as their budget allows.
//!
//! Tables are captured record by record, copied on write (see [`table`](crate::table)). The batches in memory need no
//! copies: they are only ever appended to, so those of the captured state are known by their log index; what a seal
//! or a deletion takes away meanwhile is kept until the capture ends.
//!
//! A base holds everything; a delta holds what changed since the capture before it began. A checkpoint of a state
//! refers to the index files of all seals up to it: it MUST NOT be used before they are durable.
//!
//! ```text
//! chunk: | item | item | ..          an item never spans chunks
//! item:  | kind | table | length | payload |
//!          1      1       4
//! ```

use std::sync::Arc;

use record::{BatchEntry, Extent, FileNumber, LogIndex, ShardId, StreamId, StreamOffset, Term};
use rustc_hash::FxHashMap;

use crate::batches::BatchList;
use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::digest::{hash_bytes, mix};
use crate::sealing::SealedIndex;
use crate::shard::{Scalars, Shard};
use crate::table::{Item, Record, Table};
use crate::tables::{FIRST_TABLES, TABLES, each_table};

/// The only format of a checkpoint so far.
pub(crate) const FORMAT: u8 = 1;
/// A chunk ends with the item that makes it so large.
const CHUNK_BYTES: usize = 256 * 1024;
/// Batches in one item; few in tests, so that they have many items.
const BATCHES_PER_ITEM: usize = if cfg!(test) { 3 } else { 128 };
/// Kind, table and length.
pub(crate) const ITEM_OVERHEAD: usize = 6;

pub(crate) const HEADER: u8 = 1;
pub(crate) const PUT: u8 = 2;
pub(crate) const REMOVE: u8 = 3;
pub(crate) const BATCHES: u8 = 4;
pub(crate) const END: u8 = 5;

/// The front of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: u8,
    pub(crate) shard: ShardId,
    pub(crate) base: bool,
    /// The index of the state that a delta builds on.
    pub(crate) previous: Option<LogIndex>,
    pub(crate) scalars: Scalars,
    /// Of the whole state, to be compared after it was restored.
    pub(crate) digest: u64,
}

wire_struct!(Header {
    format: u8,
    shard: ShardId,
    base: bool,
    previous: Option<LogIndex>,
    scalars: Scalars,
    digest: u64,
});

impl Wire for BatchEntry {
    const BYTES_MIN: usize = 44;
    fn put(&self, out: &mut Vec<u8>) {
        self.base_offset.put(out);
        self.record_count.put(out);
        self.max_timestamp.put(out);
        self.log_index.put(out);
        self.position.put(out);
        self.bytes.put(out);
        self.epoch.put(out);
        let earlier = self.earlier_extents();
        u32::try_from(earlier.len()).expect("a batch has at most some hundred parts").put(out);
        for extent in earlier {
            extent.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            base_offset: Wire::take(input)?,
            record_count: Wire::take(input)?,
            max_timestamp: Wire::take(input)?,
            log_index: Wire::take(input)?,
            position: Wire::take(input)?,
            bytes: Wire::take(input)?,
            epoch: Wire::take(input)?,
            earlier: Some(Vec::<Extent>::take(input)?).filter(|earlier| !earlier.is_empty()).map(Into::into),
            // Files have what objects have.
            object: None,
        })
    }
}

/// What a capture that began will show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureStart {
    /// The last entry that the captured state has; `None` before the first.
    pub applied: Option<(LogIndex, Term)>,
    /// Everything, not only what changed.
    pub base: bool,
    /// The checkpoint refers to the index files up to this one: it may be used once all of them are durable.
    pub newest_file: Option<FileNumber>,
}

/// A capture is running already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is being captured already")]
pub struct CaptureRunning;

/// A capture in progress.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The captured state's last entry.
    applied: Option<LogIndex>,
    /// Batches up to here are in files or in the checkpoint before.
    above: Option<LogIndex>,
    /// To be emitted first.
    header: Option<Vec<u8>>,
    /// The place of the table that is being captured.
    table: usize,
    /// The stream whose batches are being captured, and from which offset on.
    batches: Option<(StreamId, Option<StreamOffset>)>,
    /// Sealed since the capture began.
    sealed: Vec<Arc<SealedIndex>>,
    /// Batches of streams deleted since the capture began.
    buried: FxHashMap<StreamId, BatchList>,
    items: u64,
}

impl Capture {
    pub(crate) fn keep(&mut self, sealed: &Arc<SealedIndex>) {
        self.sealed.push(Arc::clone(sealed));
    }

    pub(crate) fn bury(&mut self, stream: StreamId, batches: BatchList) {
        if batches.first_index() <= self.applied {
            self.buried.entry(stream).or_insert(batches);
        }
    }

    /// The next batches of a stream that the captured state has; `list` holds those still in the stream.
    fn next_batches(&self, stream: StreamId, from: Option<StreamOffset>, list: Option<&BatchList>) -> Vec<BatchEntry> {
        let sealed = self.sealed.iter().filter_map(|sealed| sealed.all_of(stream));
        let lists = sealed.chain(self.buried.get(&stream)).chain(list);
        let mut batches = Vec::new();
        for list in lists {
            let mut place = self.above.map_or(0, |above| list.place_above(above));
            place = place.max(from.map_or(0, |from| list.place_of(from)));
            let wanted = list.from(place).take_while(|batch| Some(batch.log_index) <= self.applied);
            batches.extend(wanted.take(BATCHES_PER_ITEM - batches.len()));
            if batches.len() == BATCHES_PER_ITEM {
                break;
            }
        }
        batches
    }
}

fn put_item(out: &mut Vec<u8>, kind: u8, table: u8, payload: &[u8]) {
    out.push(kind);
    out.push(table);
    u32::try_from(payload.len()).expect("one record stays far below 4 GiB").put(out);
    out.extend_from_slice(payload);
}

fn capture_table<R: Record>(table: &mut Table<R>, budget: usize, out: &mut Vec<u8>, items: &mut u64) -> bool {
    table.capture_some(budget, |item, payload| {
        *items += 1;
        let kind = match item {
            Item::Put => PUT,
            Item::Remove => REMOVE,
        };
        put_item(out, kind, R::TABLE, payload);
    })
}

impl Shard {
    /// A number that replicas have in common at the same index, and that tells apart those that went apart.
    pub fn digest(&mut self) -> u64 {
        let mut digest = 0_u64;
        for (place, sum) in each_table!(self, table => table.digest()).into_iter().enumerate() {
            if place >= FIRST_TABLES && sum == 0 {
                continue;
            }
            digest = mix(digest ^ sum).wrapping_add(sum);
        }
        let mut bytes = Vec::new();
        self.scalars.put(&mut bytes);
        mix(digest ^ hash_bytes(&bytes))
    }

    /// Begins to capture the state as it is now: all of it, or what changed since the last capture began, if that one
    /// came to its end. [`Shard::capture_some`] gives the bytes.
    pub fn begin_capture(&mut self, base: bool) -> Result<CaptureStart, CaptureRunning> {
        if self.capture.is_some() {
            return Err(CaptureRunning);
        }
        let base = base || self.base_needed;
        let digest = self.digest();
        let previous = if base { None } else { self.captured_at };
        let header = Header { format: FORMAT, shard: self.id, base, previous, scalars: self.scalars.clone(), digest };
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        each_table!(self, table => table.begin_capture(base));
        let applied = self.scalars.applied;
        self.capture = Some(Capture {
            applied,
            above: self.scalars.sealed_through.max(previous),
            header: Some(bytes),
            table: 0,
            batches: None,
            sealed: Vec::new(),
            buried: FxHashMap::default(),
            items: 0,
        });
        // Until this capture comes to its end, there is nothing that a delta could build on.
        self.base_needed = true;
        Ok(CaptureStart { applied: self.applied(), base, newest_file: self.newest_file() })
    }

    /// The next chunk of the running capture, of about `budget` records; `None` when all of it was given. Changes what
    /// the capture knows and nothing else.
    pub fn capture_some(&mut self, budget: usize) -> Option<Vec<u8>> {
        let mut capture = self.capture.take()?;
        let mut out = Vec::new();
        if let Some(header) = capture.header.take() {
            put_item(&mut out, HEADER, 0, &header);
        }
        let mut left = budget.max(1);
        while left > 0 && out.len() < CHUNK_BYTES {
            left -= 1;
            if let Some((stream, from)) = capture.batches.take() {
                self.capture_batches(&mut capture, stream, from, &mut out);
                continue;
            }
            if !self.capture_records(&mut capture, &mut out) {
                capture.table += 1;
                if capture.table == TABLES {
                    let mut items = Vec::new();
                    capture.items.put(&mut items);
                    put_item(&mut out, END, 0, &items);
                    each_table!(self, table => table.end_capture());
                    self.captured_at = capture.applied;
                    self.base_needed = false;
                    return Some(out);
                }
            }
        }
        self.capture = Some(capture);
        Some(out)
    }

    fn capture_batches(
        &mut self,
        capture: &mut Capture,
        stream: StreamId,
        from: Option<StreamOffset>,
        out: &mut Vec<u8>,
    ) {
        let list = self.streams.get(&stream).and_then(|stream| stream.batches.as_deref());
        let batches = capture.next_batches(stream, from, list);
        let Some(last) = batches.last() else { return };
        if batches.len() == BATCHES_PER_ITEM {
            capture.batches = Some((stream, Some(last.next_offset())));
        }
        let mut payload = Vec::with_capacity(12 + batches.len() * BatchEntry::BYTES_MIN);
        stream.put(&mut payload);
        batches.put(&mut payload);
        put_item(out, BATCHES, 0, &payload);
        capture.items += 1;
    }

    /// One record of the table at hand; false when the table has none left.
    fn capture_records(&mut self, capture: &mut Capture, out: &mut Vec<u8>) -> bool {
        let from = out.len();
        let items = &mut capture.items;
        let place = capture.table;
        let mut at = 0;
        let more = each_table!(self, table => {
            at += 1;
            at - 1 == place && capture_table(table, 1, out, items)
        });
        // Behind a stream come its batches.
        if place == 0
            && out.get(from) == Some(&PUT)
            && let Some(payload) = out.get(from + ITEM_OVERHEAD..)
            && let Ok(stream) = StreamId::take(&mut Reader::new(payload))
        {
            capture.batches = Some((stream, None));
        }
        more.into_iter().any(|more| more)
    }

    /// Gives up the running capture: the next one is a base.
    pub fn abort_capture(&mut self) {
        if self.capture.take().is_some() {
            each_table!(self, table => table.end_capture());
        }
    }

    /// Whether a capture is running.
    #[must_use]
    pub const fn capturing(&self) -> bool {
        self.capture.is_some()
    }

    /// Records that a delta begun now would hold, not counting batches; all of them if it had to be a base.
    pub fn changed_records(&mut self) -> usize {
        let counts = if self.base_needed {
            each_table!(self, table => table.len())
        } else {
            each_table!(self, table => table.dirty())
        };
        counts.into_iter().sum()
    }
}
