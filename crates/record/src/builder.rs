//! Builds a batch record by record, for protocols whose messages are not batches, for the command line and for tests.

use bytes::Bytes;

use crate::compression::compress;
use crate::crc::batch_crc;
use crate::header::{Attributes, BATCH_OVERHEAD, BatchHeader, LENGTH_OVERHEAD, MAGIC};
use crate::varint::{put_varint, put_varlong};
use crate::{
    Compression, LeaderEpoch, ProducerEpoch, ProducerId, ProducerStamp, Sequence, StreamOffset, TimestampMs,
    TimestampType,
};

/// Why a record does not fit into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("a batch without records cannot be built")]
    Empty,
    #[error("the batch would be larger than 2 GiB")]
    TooLarge,
    #[error("the timestamp is too far from that of the first record")]
    Timestamp,
}

/// One batch under construction. The first record's timestamp becomes the base.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    attributes: Attributes,
    producer: Option<ProducerStamp>,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    record_count: i32,
    records: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    #[must_use]
    pub const fn new(compression: Compression) -> Self {
        Self {
            compression,
            attributes: Attributes::new(compression, TimestampType::CreateTime),
            producer: None,
            base_timestamp: None,
            max_timestamp: TimestampMs::NONE,
            record_count: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Stamps the batch with an idempotent producer's id, epoch and sequence.
    #[must_use]
    pub const fn producer(mut self, producer: ProducerStamp) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional();
        self
    }

    /// Marks the batch as control records, which only a broker writes.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.attributes = self.attributes.with_control();
        self
    }

    /// Records so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.record_count.cast_unsigned() as usize
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        BATCH_OVERHEAD + self.records.len()
    }

    /// Adds a record behind those already there.
    pub fn push(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BuildError> {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let delta = timestamp.0.checked_sub(base.0).ok_or(BuildError::Timestamp)?;
        let count = self.record_count.checked_add(1).ok_or(BuildError::TooLarge)?;
        let scratch = &mut self.scratch;
        scratch.clear();
        scratch.push(0);
        put_varlong(scratch, delta);
        put_varint(scratch, self.record_count);
        put_nullable(scratch, key)?;
        put_nullable(scratch, value)?;
        put_varint(scratch, length(headers.len())?);
        for (key, value) in headers {
            put_nullable(scratch, Some(key))?;
            put_nullable(scratch, *value)?;
        }
        length(self.records.len() + scratch.len() + BATCH_OVERHEAD + 5)?;
        put_varint(&mut self.records, length(scratch.len())?);
        self.records.extend_from_slice(scratch);
        self.record_count = count;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// The batch, with base offset 0 and no leader epoch: the log gives both.
    pub fn build(self) -> Result<Bytes, BuildError> {
        if self.record_count == 0 {
            return Err(BuildError::Empty);
        }
        let records = compress(self.compression, &self.records);
        let producer = self.producer.unwrap_or(ProducerStamp {
            id: ProducerId::NONE,
            epoch: ProducerEpoch(-1),
            base_sequence: Sequence::NONE,
        });
        let header = BatchHeader {
            base_offset: StreamOffset(0),
            batch_length: length(BATCH_OVERHEAD - LENGTH_OVERHEAD + records.len())?,
            leader_epoch: LeaderEpoch::NONE,
            magic: MAGIC,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp.unwrap_or(TimestampMs::NONE),
            max_timestamp: self.max_timestamp,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.record_count,
        };
        let mut batch = Vec::with_capacity(BATCH_OVERHEAD + records.len());
        batch.extend_from_slice(&header.to_bytes());
        batch.extend_from_slice(&records);
        let crc = batch_crc(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(batch.into())
    }
}

fn length(bytes: usize) -> Result<i32, BuildError> {
    i32::try_from(bytes).map_err(|_| BuildError::TooLarge)
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BuildError> {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length(bytes.len())?);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}
