//! Appends one batch to one or many streams. Its body stands behind the command section of the entry, once, however
//! many streams it goes to, and is never looked at here.

use std::sync::Arc;

use record::{
    BatchEntry, BatchSummary, Compression, Extent, FileNumber, ProducerEpoch, ProducerId, ProducerStamp, Sequence,
    StreamId, TimestampMs, TimestampType,
};
use smallvec::SmallVec;

use super::stage_part::UploadId;
use crate::assertion::{Broken, ensure};
use crate::codec::{DecodeError, Reader, Wire};
use crate::effects::Effects;
use crate::outcome::{AppendError, Appended, Outcome};
use crate::producers::Verdict;
use crate::shard::{Position, Shard};
use crate::stream::Standing;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub targets: SmallVec<[StreamId; 1]>,
    /// `bytes` is that of the whole batch.
    pub batch: BatchSummary,
    /// Bytes of the body in this entry: all of the batch, or its last part.
    pub body_bytes: u32,
    /// Where the parts before the last one were staged.
    pub upload: Option<UploadId>,
}

impl Append {
    /// A batch that stands whole in one entry.
    #[must_use]
    pub fn new(targets: SmallVec<[StreamId; 1]>, batch: BatchSummary) -> Self {
        Self { targets, batch, body_bytes: batch.bytes, upload: None }
    }
}

const PRODUCER: u8 = 1;
const UPLOAD: u8 = 2;
const LOG_APPEND_TIME: u8 = 4;
const TRANSACTIONAL: u8 = 8;
const CONTROL: u8 = 16;
const FLAGS: u8 = PRODUCER | UPLOAD | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL;

impl Wire for Append {
    const BYTES_MIN: usize = 34;

    fn put(&self, out: &mut Vec<u8>) {
        let batch = &self.batch;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            flag(batch.producer.is_some(), PRODUCER)
                | flag(self.upload.is_some(), UPLOAD)
                | flag(batch.timestamp_type == TimestampType::LogAppendTime, LOG_APPEND_TIME)
                | flag(batch.transactional, TRANSACTIONAL)
                | flag(batch.control, CONTROL),
        );
        out.push(batch.compression.number());
        batch.bytes.put(out);
        self.body_bytes.put(out);
        batch.record_count.put(out);
        batch.base_timestamp.put(out);
        batch.max_timestamp.put(out);
        if let Some(producer) = batch.producer {
            producer.id.put(out);
            producer.epoch.put(out);
            producer.base_sequence.put(out);
        }
        if let Some(upload) = self.upload {
            upload.put(out);
        }
        self.targets.put(out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = u8::take(input)?;
        if flags & !FLAGS != 0 {
            return Err(DecodeError::Value { what: "the flags of an append", value: u64::from(flags) });
        }
        let compression = u8::take(input)?;
        let compression = Compression::from_number(compression)
            .ok_or_else(|| DecodeError::Value { what: "a compression", value: u64::from(compression) })?;
        let bytes = u32::take(input)?;
        let body_bytes = u32::take(input)?;
        let record_count = u32::take(input)?;
        let base_timestamp = TimestampMs::take(input)?;
        let max_timestamp = TimestampMs::take(input)?;
        let producer = if flags & PRODUCER == 0 {
            None
        } else {
            Some(ProducerStamp {
                id: ProducerId::take(input)?,
                epoch: ProducerEpoch::take(input)?,
                base_sequence: Sequence::take(input)?,
            })
        };
        let upload = if flags & UPLOAD == 0 { None } else { Some(UploadId::take(input)?) };
        let timestamp_type =
            if flags & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime };
        Ok(Self {
            targets: SmallVec::take(input)?,
            batch: BatchSummary {
                bytes,
                record_count,
                compression,
                timestamp_type,
                base_timestamp,
                max_timestamp,
                max_timestamp_correction: None,
                producer,
                transactional: flags & TRANSACTIONAL != 0,
                control: flags & CONTROL != 0,
            },
            body_bytes,
            upload,
        })
    }
}

/// Offsets are given out up to here, so that no sum of them overflows.
const OFFSET_MAX: i64 = i64::MAX / 2;

impl Append {
    pub(crate) fn apply(self, shard: &mut Shard, at: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let Some(id) = self.upload else {
            let whole = if self.body_bytes == self.batch.bytes { Ok(None) } else { Err(AppendError::MissingParts) };
            return self.apply_parts(shard, at, effects, whole);
        };
        let Some(upload) = shard.uploads.get(&id) else {
            return self.apply_parts(shard, at, effects, Err(AppendError::MissingParts));
        };
        let whole = upload.bytes + u64::from(self.body_bytes) == u64::from(self.batch.bytes);
        let earlier = Parts { extents: upload.extents.as_slice().into(), files: upload.files.clone() };
        let parts = if whole { Ok(Some(earlier)) } else { Err(AppendError::MissingParts) };
        let outcome = self.apply_parts(shard, at, effects, parts)?;
        // Let go of only now, when the streams hold the ranges in which the parts lie.
        shard.take_upload(id, effects)?;
        Ok(outcome)
    }

    fn apply_parts(
        &self,
        shard: &mut Shard,
        at: Position,
        effects: &mut Effects,
        parts: Result<Option<Parts>, AppendError>,
    ) -> Result<Outcome, Broken> {
        let parts = parts.and_then(|parts| self.check().map(|()| parts));
        let mut results = SmallVec::with_capacity(self.targets.len());
        for stream in &self.targets {
            results.push(match &parts {
                Ok(parts) => self.append_to(shard, *stream, at, effects, parts.as_ref())?,
                Err(error) => Err(error.clone()),
            });
        }
        Ok(Outcome::Append(results))
    }

    /// What holds for every target alike.
    fn check(&self) -> Result<(), AppendError> {
        let batch = &self.batch;
        if batch.record_count == 0 || batch.record_count > i32::MAX.cast_unsigned() || batch.control {
            return Err(AppendError::InvalidBatch);
        }
        if batch.transactional {
            return Err(AppendError::Transactional);
        }
        match batch.producer {
            Some(stamp) if stamp.id.0 < 0 || stamp.epoch.0 < 0 || stamp.base_sequence.0 < 0 => {
                Err(AppendError::InvalidBatch)
            }
            _ => Ok(()),
        }
    }

    fn append_to(
        &self,
        shard: &mut Shard,
        id: StreamId,
        at: Position,
        effects: &mut Effects,
        parts: Option<&Parts>,
    ) -> Result<Result<Appended, AppendError>, Broken> {
        let batch = &self.batch;
        let Some(slot) = shard.streams.slot(&id) else { return Ok(Err(AppendError::UnknownStream)) };
        let Some(stream) = shard.streams.at(slot) else { return Ok(Err(AppendError::UnknownStream)) };
        // Before anything else: of a stream that goes on elsewhere nothing is known here any more.
        if stream.standing != Standing::Open {
            return Ok(Err(AppendError::Closed));
        }
        let (base_offset, log_start_offset) = (stream.next_offset, stream.first_offset);
        let log_append_time = |timestamp| (batch.timestamp_type == TimestampType::LogAppendTime).then_some(timestamp);

        let mut known = None;
        if let Some(stamp) = batch.producer {
            match shard.producers.judge(id, stamp, batch.record_count) {
                Ok(Verdict::Append(slot)) => known = slot,
                Ok(Verdict::Duplicate { base_offset, timestamp }) => {
                    let log_append_time = log_append_time(timestamp);
                    return Ok(Ok(Appended { base_offset, duplicate: true, log_append_time, log_start_offset }));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        if base_offset.0 > OFFSET_MAX - i64::from(batch.record_count) {
            return Ok(Err(AppendError::OffsetsExhausted));
        }
        let unsealed_batches_max = shard.scalars.settings.unsealed_batches_max;
        let room = stream.batches.as_ref().is_none_or(|list| list.has_room(base_offset, at.index));
        if shard.unsealed_batches >= unsealed_batches_max as usize || !room {
            return Ok(Err(AppendError::IndexFull { unsealed_batches_max }));
        }
        if batch.producer.is_some() && known.is_none() && !make_room_for_producer(shard) {
            let producers_max = shard.scalars.settings.producers_max;
            return Ok(Err(AppendError::TooManyProducers { producers_max }));
        }

        let leader_changes = shard.scalars.leader_changes;
        let Some(stream) = shard.streams.change(slot) else {
            return Err(Broken { what: format!("stream {id} has gone while it was appended to") });
        };
        let epoch = stream.epoch(leader_changes);
        stream.enter_epoch(epoch);
        if stream.batches.is_none() {
            shard.unsealed_slots.push(slot);
        }
        let entry = BatchEntry {
            base_offset,
            record_count: batch.record_count,
            max_timestamp: batch.max_timestamp,
            log_index: at.index,
            position: at.body,
            bytes: self.body_bytes,
            epoch,
            earlier: parts.map(|parts| Arc::clone(&parts.extents)),
            object: None,
        };
        let pushed = stream.batches.get_or_insert_default().push(&entry);
        ensure!(pushed.is_ok(), "stream {id} had room for a batch and has none");
        shard.unsealed_batches += 1;
        shard.unsealed_bytes += u64::from(self.body_bytes);
        shard.scalars.last_append = Some(at.index);
        stream.next_offset = entry.next_offset();
        ensure!(stream.next_offset > base_offset, "the end of stream {id} did not move");
        if batch.max_timestamp > stream.max_timestamp {
            stream.max_timestamp = batch.max_timestamp;
            stream.max_timestamp_offset = base_offset;
        }
        if let Some(stamp) = batch.producer {
            shard.scalars.producer_uses += 1;
            let used = (shard.scalars.time, shard.scalars.producer_uses);
            let first = &mut stream.first_producer;
            let producers = &mut shard.producers;
            producers.remember(known, id, first, stamp, batch.record_count, base_offset, batch.max_timestamp, used);
        }
        let mut bytes = u64::from(self.body_bytes);
        if let Some(parts) = parts {
            bytes = u64::from(batch.bytes);
            for file in &parts.files {
                if stream.add_part_file(*file) {
                    let range = shard.ranges.slot(file).and_then(|slot| shard.ranges.change(slot));
                    let Some(range) = range else {
                        return Err(Broken { what: format!("range {file} holds parts but is not there") });
                    };
                    range.streams += 1;
                }
            }
        }
        effects.appended(id, stream.next_offset, bytes);
        let place = at.index.0.rotate_left(24) ^ u64::from(at.body);
        let size = u64::from(batch.bytes) << 32 | u64::from(batch.record_count);
        shard.chain(id.0.rotate_left(40) ^ base_offset.0.cast_unsigned() ^ place.wrapping_mul(0x9e37_79b9) ^ size);
        let log_append_time = log_append_time(batch.max_timestamp);
        Ok(Ok(Appended { base_offset, duplicate: false, log_append_time, log_start_offset }))
    }
}

/// The parts of a batch before its last one.
struct Parts {
    extents: Arc<[Extent]>,
    /// The sealed ranges in which some of them lie.
    files: Vec<FileNumber>,
}

/// True if one more producer can be remembered, for which the one that was silent longest may be forgotten.
pub(super) fn make_room_for_producer(shard: &mut Shard) -> bool {
    let settings = shard.scalars.settings;
    if shard.producers.table.len() < settings.producers_max as usize {
        return true;
    }
    match shard.producers.oldest() {
        Some((slot, stream, used))
            if settings.producers_max > 0
                && shard.scalars.time.0.saturating_sub(used.0) >= settings.producer_idle_ms_min =>
        {
            shard.forget_producer(slot, stream);
            true
        }
        _ => false,
    }
}
