//! An object that other members have, made here from its index: of bodies that are in the log here, and of blocks that are brought
//! where these do not compare.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use record::{BatchEntry, FileNumber, ShardId, StreamId, StreamOffset};
use shard::PlacedObject;
use storage::object::{ObjectBody, ObjectCopy, ObjectId, ObjectIndex, ObjectSummary, Objects};

use super::gather::Window;
use super::work::Working;
use crate::catch_up::{InstallError, Puller, damaged_or_files};
use crate::core::Core;

/// Batches that are looked up at a time.
const LOOK_UP_COUNT: usize = 512;
/// After so many streams that could not be looked up what is wanted is brought.
const FAILURES_MAX: u32 = 8;
/// Blocks that are brought together.
const BLOCKS_AT_ONCE: usize = 48;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    Here,
    /// The one that was asked does not have it.
    NotThere,
}

/// How an object of the state is known.
pub(crate) fn known(shard: ShardId, object: &PlacedObject) -> ObjectSummary {
    let PlacedObject { stream, first, last, key, bytes, index_digest, .. } = *object;
    ObjectSummary { id: ObjectId { shard, key, first, last, stream }, bytes, index_digest }
}

/// Brings all of an object.
pub(crate) async fn bring_object(
    objects: &Objects,
    puller: &mut Puller<'_>,
    pin: Option<u64>,
    shard: ShardId,
    object: &PlacedObject,
) -> Result<Brought, InstallError> {
    let Some(index) = bring_index(puller, pin, &known(shard, object)).await? else { return Ok(Brought::NotThere) };
    let mut copy = objects.begin_copy(Arc::new(index)).await.map_err(InstallError::Files)?;
    while copy.wanted().is_some() {
        if !bring_blocks(&mut copy, puller, pin, object, BLOCKS_AT_ONCE).await? {
            return Ok(Brought::NotThere);
        }
    }
    objects.finish_copy(copy).await.map_err(InstallError::Files)?;
    Ok(Brought::Here)
}

async fn bring_index(
    puller: &mut Puller<'_>,
    pin: Option<u64>,
    known: &ObjectSummary,
) -> Result<Option<ObjectIndex>, InstallError> {
    let wrong = || InstallError::Answer(format!("what came is not the index of the object {}", known.id.key));
    let trailer_at = known.bytes.checked_sub(ObjectIndex::TRAILER_BYTES as u64).ok_or_else(wrong)?;
    let Some(trailer) = puller.object(pin, known.id.key, trailer_at..known.bytes).await? else { return Ok(None) };
    let place = ObjectIndex::place(known, &trailer).ok_or_else(wrong)?;
    let Some(tail) = puller.object(pin, known.id.key, place).await? else { return Ok(None) };
    ObjectIndex::decode(known, tail).ok_or_else(wrong).map(Some)
}

/// Brings the blocks that are wanted next, so many at most; false if they are not there any more.
async fn bring_blocks(
    copy: &mut ObjectCopy,
    puller: &mut Puller<'_>,
    pin: Option<u64>,
    object: &PlacedObject,
    count_max: usize,
) -> Result<bool, InstallError> {
    let Some(first) = copy.wanted() else { return Ok(true) };
    let last = (first + count_max.max(1)).min(copy.index().blocks()) - 1;
    let (from, to) = {
        let place = |number| copy.index().block(number).expect("it is counted");
        (place(first).start, place(last).end)
    };
    let Some(bytes) = puller.object(pin, object.key, from..to).await? else { return Ok(false) };
    let mut left: Bytes = bytes;
    while let Some(wanted) = copy.wanted().filter(|wanted| *wanted <= last) {
        let place = copy.index().block(wanted).expect("it is counted");
        let block = left.split_to(usize::try_from(place.end - place.start).unwrap_or(usize::MAX).min(left.len()));
        if !copy.block(&block).await.map_err(damaged_or_files)? {
            let text = format!("block {wanted} of the object {} came damaged", object.key);
            return Err(InstallError::Answer(text));
        }
    }
    Ok(true)
}

impl Core {
    /// Makes an object of the state here, with what another member says of it.
    pub(crate) async fn make_as_there(
        &self,
        puller: &mut Puller<'_>,
        object: &PlacedObject,
        work: &Working,
    ) -> Result<Brought, InstallError> {
        let objects = self.index.objects();
        // What it replaces stays where it is until it is read to the end.
        let _reader = self.here.enter();
        let Some(index) = bring_index(puller, None, &known(self.config.shard, object)).await? else {
            return Ok(Brought::NotThere);
        };
        let index = Arc::new(index);
        let mut copy = objects.begin_copy(Arc::clone(&index)).await.map_err(InstallError::Files)?;
        let mut bodies = index.bodies().peekable();
        let mut found = LookUp::default();
        let mut brought = 0_u64;
        while let Some(first) = copy.wanted() {
            // As many blocks as fit a window.
            let (mut window, mut blocks, mut at) = (Window::default(), Vec::new(), 0);
            while let Some(place) = index.block(first + blocks.len()).filter(|_| !window.is_full()) {
                let number = (first + blocks.len()) as u64;
                let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
                let mut left = length;
                while let Some(body) = bodies.next_if(|body| body.batch.log_index.0 == number) {
                    let bytes = (body.batch.bytes as usize).min(left);
                    left -= bytes;
                    match self.batch_here(object, &body, &mut found).await {
                        Ok(Some(batch)) if batch.total_bytes() == bytes as u64 => drop(window.add(&batch)),
                        // It is brought with its block.
                        Ok(_) | Err(_) => window.skip(bytes),
                    }
                }
                window.skip(left);
                blocks.push(at..at + length);
                at += length;
            }
            let bytes = window.read(self).await.map_err(InstallError::Files)?.bytes;
            for place in blocks {
                let block = bytes.slice(place);
                self.pace.spend(block.len() as u64).await;
                work.add(block.len() as u64);
                if !copy.block(&block).await.map_err(InstallError::Files)? {
                    brought += 1;
                    if !bring_blocks(&mut copy, puller, None, object, 1).await? {
                        return Ok(Brought::NotThere);
                    }
                }
            }
        }
        objects.finish_copy(copy).await.map_err(InstallError::Files)?;
        if brought > 0 {
            let shard = self.config.shard.0;
            tracing::info!(shard, object = %object.key, blocks = brought, "parts of an object came from another member");
        }
        Ok(Brought::Here)
    }

    /// The batch that has a body, as it lies here; none if it is not here.
    async fn batch_here(
        &self,
        object: &PlacedObject,
        body: &ObjectBody,
        found: &mut LookUp,
    ) -> io::Result<Option<BatchEntry>> {
        if found.failures >= FAILURES_MAX || found.failed == Some(body.stream) {
            return Ok(None);
        }
        let offset = body.batch.base_offset;
        if found.stream != Some(body.stream) || found.next().is_none_or(|next| next > offset) {
            let newest = if object.stream.is_some() {
                // The state names none of these files any more; what is read in their place here is older.
                Some(object.last)
            } else {
                let state = self.state.read();
                let view = state.shard.stream(body.stream);
                view.and_then(|view| view.files().before(FileNumber(object.last.0.saturating_add(1))))
            };
            let Some(newest) = newest.filter(|newest| *newest >= object.first) else { return Ok(None) };
            let batches = match self.index.batches(newest, body.stream, offset, LOOK_UP_COUNT, u64::MAX).await {
                Ok(batches) => batches.into(),
                Err(error) => {
                    // The next batch of the stream would meet the same, and so would other streams.
                    (found.failures, found.failed) = (found.failures + 1, Some(body.stream));
                    return Err(error);
                }
            };
            found.failures = 0;
            (found.stream, found.batches) = (Some(body.stream), batches);
        }
        while found.next().is_some_and(|next| next < offset) {
            found.batches.pop_front();
        }
        let Some(batch) = found.batches.pop_front_if(|batch| batch.base_offset == offset) else {
            (found.stream, found.batches) = (None, VecDeque::new());
            return Ok(None);
        };
        Ok(Some(batch))
    }
}

/// Batches of one stream that were looked up together.
#[derive(Debug, Default)]
struct LookUp {
    stream: Option<StreamId>,
    batches: VecDeque<BatchEntry>,
    /// Look-ups that failed one behind the other, and the stream of the last one.
    failures: u32,
    failed: Option<StreamId>,
}

impl LookUp {
    /// The offset of the next one.
    fn next(&self) -> Option<StreamOffset> {
        self.batches.front().map(|batch| batch.base_offset)
    }
}
