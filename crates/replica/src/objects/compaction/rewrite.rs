//! The second half of a pass: what a stream has is written anew, object by object, without what newer records supersede.

use std::io;
use std::sync::Arc;

use base::task::offload;
use record::{BatchEntry, BatchHeader, FileNumber, LogIndex, ObjectKey, ProducerId, StreamId, StreamOffset};
use shard::PlacedObject;
use shard::commands::PutCompacted;
use storage::index_file::Part;
use storage::object::{ObjectId, ObjectSummary, ObjectWriter, StreamStart};

use super::map::WINDOW_BYTES;
use super::rules::{Counts, Put};
use super::{Pass, Rules};
use crate::core::Core;
use crate::objects::work::Working;

/// Batches that are looked up at a time.
const BATCHES_AT_ONCE: usize = 1_024;
/// Batches of one object: what is kept of each while it is built is about 64 bytes.
const BATCHES_MAX: u64 = 1 << 20;

/// What came of one step of a pass.
#[derive(Debug)]
pub(super) enum Rewritten {
    /// An object, which is durable here.
    Object(PutCompacted),
    /// Everything up to the end of the pass is done.
    Done,
    /// The stream is gone, or what was to be rewritten is another thing now.
    GaveUp,
}

/// What one object is made of.
struct Group {
    parts: Vec<Part>,
    first: FileNumber,
    last: FileNumber,
    replaces: Vec<ObjectKey>,
    /// All that the pass is to rewrite is in it or was before.
    is_last: bool,
    /// The stream has nothing before it.
    is_oldest: bool,
    /// Of the stream, when it was chosen.
    first_offset: StreamOffset,
    next_offset: StreamOffset,
    cleaned_to: StreamOffset,
}

/// An object that is being written.
struct Writing<'a> {
    core: &'a Core,
    stream: StreamId,
    writer: ObjectWriter,
    /// The last batch, if it is empty and was not put.
    held_back: Option<Put>,
    unpaid: u64,
    is_empty: bool,
}

/// So many bytes are counted together against the rate.
const PAID_BYTES: u64 = 1 << 20;

impl Core {
    /// Writes the next object of a pass.
    pub(super) async fn rewrite(&self, key: ObjectKey, pass: &mut Pass) -> io::Result<Rewritten> {
        let _reader = self.here.enter();
        let Some(group) = self.next_group(pass).await? else { return Ok(Rewritten::GaveUp) };
        if group.parts.is_empty() {
            return Ok(Rewritten::Done);
        }
        let last = group.last;
        let (rules, stream) = (Arc::clone(&pass.rules), pass.stream);
        let Some((summary, counts)) = self.write_group(key, stream, rules, &group, &pass.work).await? else {
            return Ok(Rewritten::GaveUp);
        };
        (pass.dropped, pass.records) = (pass.dropped + counts.dropped, pass.records + counts.records);
        pass.next = FileNumber(last.0 + 1);
        let cleaned_to = if group.is_last { pass.cleaned_to } else { group.cleaned_to };
        let end = group.parts.last().map_or(StreamOffset(0), Part::next_offset);
        let part_files = self.part_files_from(stream, end).await.map_err(io::Error::other)?;
        Ok(Rewritten::Object(PutCompacted {
            key,
            stream,
            first: group.first,
            last,
            bytes: summary.bytes,
            index_digest: summary.index_digest,
            replaces: group.replaces,
            cleaned_to,
            part_files,
        }))
    }

    /// Copies what lies here of a compacted object that is missing; none if that is not all.
    pub(super) async fn copy_compacted(
        &self,
        key: ObjectKey,
        object: &PlacedObject,
        stream: StreamId,
        work: &Working,
    ) -> io::Result<Option<ObjectSummary>> {
        let _reader = self.here.enter();
        // Each part leads to the one before it, so none is passed over.
        let (mut parts, mut file) = (Vec::new(), object.last);
        loop {
            let Some(part) = self.index.part_at(file, stream).await? else { return Ok(None) };
            parts.push(part);
            if part.files().contains(&object.first) {
                break;
            }
            file = FileNumber(part.links().0);
            if file < object.first {
                return Ok(None);
            }
        }
        parts.reverse();
        let (first_offset, next_offset, is_oldest) = {
            let state = self.state.read();
            let Some(view) = state.shard.stream(stream) else { return Ok(None) };
            let oldest = view.compacted().next().map(|oldest| oldest.object.key);
            (view.first_offset(), view.next_offset(), oldest == Some(object.key))
        };
        let group = Group {
            parts,
            first: object.first,
            last: object.last,
            replaces: Vec::new(),
            is_last: false,
            is_oldest,
            first_offset,
            next_offset,
            cleaned_to: StreamOffset(0),
        };
        if !self.names_all_of(stream, &group) {
            return Ok(None);
        }
        let written = self.write_group(key, stream, Arc::new(Rules::copy()), &group, work).await?;
        Ok(written.map(|(summary, _)| summary))
    }

    async fn write_group(
        &self,
        key: ObjectKey,
        stream: StreamId,
        rules: Arc<Rules>,
        group: &Group,
        work: &Working,
    ) -> io::Result<Option<(ObjectSummary, Counts)>> {
        let Group { first, last, .. } = *group;
        let id = ObjectId { shard: self.config.shard, key, first, last, stream: Some(stream) };
        let mut writer = self.index.objects().begin(id).await?;
        writer.stands_for(self.log_of_stream(stream, first, last));
        writer.stream(start(stream, group));
        let mut writing = Writing { core: self, stream, writer, held_back: None, unpaid: 0, is_empty: true };
        let mut counts = Counts::default();
        for part in &group.parts {
            let mut from = group.first_offset.max(part.first_offset());
            while from < part.next_offset() {
                let batches = self.index.batches_in(part, from, BATCHES_AT_ONCE).await?;
                let Some(last) = batches.last() else { break };
                from = last.next_offset();
                for some in in_windows(batches) {
                    let bodies = self.bodies(some, work).await?;
                    let rules = Arc::clone(&rules);
                    let left = offload(async move { rules.apply(stream, bodies) }).await?;
                    counts.add(left.counts);
                    writing.put_all(left.puts).await?;
                }
            }
        }
        if let Some(empty) = writing.held_back.take() {
            writing.put(empty).await?;
        }
        if writing.is_empty {
            // Its front is gone so far.
            return Ok(None);
        }
        let summary = self.index.objects().finish(writing.writer).await?;
        Ok(Some((summary, counts)))
    }

    /// What a stream has from where the pass is on, as much as fits an object; none if the stream is gone.
    async fn next_group(&self, pass: &Pass) -> io::Result<Option<Group>> {
        let (compacted, files, newest_durable, mut group) = {
            let state = self.state.read();
            let Some(view) = state.shard.stream(pass.stream) else { return Ok(None) };
            let newest_durable = view.newest_durable_file().unwrap_or(FileNumber(0));
            if !view.compacted().all(|compacted| self.here.is_read(&compacted.object)) {
                return Ok(None);
            }
            let compacted = view.compacted().filter(|compacted| compacted.object.first >= pass.next);
            let compacted: Vec<(FileNumber, FileNumber, ObjectKey)> = compacted
                .map(|compacted| (compacted.object.first, compacted.object.last, compacted.object.key))
                .collect();
            // An object that is read already may have more than what is durable of the index.
            let files: Vec<FileNumber> = view.files().iter_within(pass.next, FileNumber(u32::MAX)).collect();
            let cleaned_to = view.compacted().next_back().map_or(StreamOffset(0), |newest| newest.cleaned_to);
            let group = Group {
                parts: Vec::new(),
                first: FileNumber(0),
                last: FileNumber(0),
                replaces: Vec::new(),
                is_last: true,
                is_oldest: pass.next == FileNumber(0),
                first_offset: view.first_offset(),
                next_offset: view.next_offset(),
                cleaned_to,
            };
            (compacted, files, newest_durable, group)
        };
        let (mut bytes, mut batches) = (0_u64, 0_u64);
        let older = compacted.into_iter().map(|(first, last, key)| (first, last, Some(key)));
        for (first, last, key) in older.chain(files.iter().map(|file| (*file, *file, None))) {
            if !group.parts.is_empty() && last <= group.last {
                // It is in the same object as the one before.
                continue;
            }
            if key.is_none() && last > newest_durable {
                break;
            }
            let Some(part) = self.index.part_at(first, pass.stream).await? else { return Ok(None) };
            if part.first_offset() >= pass.cleaned_to {
                break;
            }
            let of_part = match part.bytes() {
                Some(bytes) => bytes,
                None => self.bytes_of(&part).await?,
            };
            let is_too_much =
                bytes + of_part > self.config.object_bytes_max || batches + u64::from(part.batches()) > BATCHES_MAX;
            if is_too_much && !group.parts.is_empty() {
                group.is_last = false;
                break;
            }
            if group.parts.is_empty() {
                group.first = first;
            }
            let within = files.iter().filter(|file| part.files().contains(file)).copied();
            group.last = if key.is_some() { last } else { within.max().unwrap_or(last) };
            group.replaces.extend(key);
            (bytes, batches) = (bytes + of_part, batches + u64::from(part.batches()));
            group.parts.push(part);
        }
        Ok(self.names_all_of(pass.stream, &group).then_some(group))
    }

    /// Whether a group has all ranges of which its parts hold something. It has not when an object took the place of some that were
    /// sealed since these were listed: with the rest of that object behind it, nothing would lead to the group.
    fn names_all_of(&self, stream: StreamId, group: &Group) -> bool {
        let Some(end) = group.parts.iter().map(|part| *part.files().end()).max() else { return true };
        let state = self.state.read();
        let view = state.shard.stream(stream);
        view.is_some_and(|view| view.files().iter_within(FileNumber(group.last.0 + 1), end).next().is_none())
    }

    async fn bytes_of(&self, part: &Part) -> io::Result<u64> {
        let (mut bytes, mut from) = (0, part.first_offset());
        while from < part.next_offset() {
            let batches = self.index.batches_in(part, from, BATCHES_AT_ONCE).await?;
            let Some(last) = batches.last() else { break };
            from = last.next_offset();
            bytes += batches.iter().map(BatchEntry::total_bytes).sum::<u64>();
        }
        Ok(bytes)
    }

    /// The part of the log in which what a stream has in these ranges lay.
    fn log_of_stream(
        &self,
        stream: StreamId,
        first: FileNumber,
        last: FileNumber,
    ) -> std::ops::RangeInclusive<LogIndex> {
        let state = self.state.read();
        let shard = &state.shard;
        let view = shard.stream(stream);
        let compacted = view.iter().flat_map(|view| view.compacted()).map(|compacted| &compacted.object);
        let compacted =
            compacted.filter(|object| object.overlaps(first, last)).map(|object| (object.from, object.through));
        let names = view.iter().flat_map(|view| view.files().iter_within(first, last));
        let named = names.filter_map(|file| shard.log_of(file));
        let log = compacted.chain(named).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        let (from, through) = log.unwrap_or((LogIndex(0), LogIndex(0)));
        from..=through
    }
}

/// How the stream hangs on what it has before the group.
fn start(stream: StreamId, group: &Group) -> StreamStart {
    let oldest = &group.parts[0];
    let (previous, jump, depth) = oldest.links();
    // Links to what is gone lead nowhere, and an object of all streams begins before its part of this one.
    let (previous, depth) = if group.is_oldest || previous >= group.first.0 { (0, 0) } else { (previous, depth) };
    StreamStart {
        stream,
        previous,
        jump: if jump >= group.first.0 { previous } else { jump.min(previous) },
        depth,
        // That of a record that goes, too: what lies before must not seem to be younger than all that comes.
        max_timestamp_before: oldest.running_max_timestamp(),
        // Nothing is undecided where there are no transactions.
        last_stable_offset: group.next_offset,
        aborted: Vec::new(),
    }
}

/// Batches, as many together as are read at once.
fn in_windows(batches: Vec<BatchEntry>) -> Vec<Vec<BatchEntry>> {
    let (mut windows, mut bytes): (Vec<Vec<BatchEntry>>, u64) = (Vec::new(), WINDOW_BYTES);
    for batch in batches {
        if bytes >= WINDOW_BYTES {
            windows.push(Vec::new());
            bytes = 0;
        }
        bytes += batch.total_bytes();
        windows.last_mut().expect("one was begun").push(batch);
    }
    windows
}

impl Writing<'_> {
    async fn put_all(&mut self, puts: Vec<Put>) -> io::Result<()> {
        for put in puts {
            tokio::task::coop::consume_budget().await;
            // The first one says where the object begins, behind the one before, the last one where it ends.
            if put.is_empty && !self.is_empty && !self.is_last_of_producer(&put) {
                self.held_back = Some(put);
            } else {
                self.held_back = None;
                self.put(put).await?;
            }
        }
        Ok(())
    }

    async fn put(&mut self, Put { batch, body, .. }: Put) -> io::Result<()> {
        self.is_empty = false;
        self.unpaid += body.len() as u64;
        if self.unpaid >= PAID_BYTES {
            self.core.pace.spend(std::mem::take(&mut self.unpaid)).await;
        }
        self.writer.batch(&batch, &[body]).await.map(drop)
    }

    /// Whether a batch is the last one of a producer that is known: Kafka keeps it, if only for its sequence.
    fn is_last_of_producer(&self, put: &Put) -> bool {
        let producer = BatchHeader::parse(&put.body).map_or(ProducerId::NONE, |header| header.producer_id);
        let state = self.core.state.read();
        producer.0 >= 0 && state.shard.is_last_of_producer(self.stream, producer, put.batch.base_offset)
    }
}
