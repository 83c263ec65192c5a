//! Record batches, version 2, not compressed.

use anyhow::{Result, ensure};
use crc_fast::{CrcAlgorithm, checksum};

use super::{Reader, Writer};
use crate::workload::now_ms;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// What a batch is made of; `build` gives its bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    pub values: Vec<Vec<u8>>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub attributes: i16,
    pub timestamp_ms: i64,
}

impl Batch {
    /// Records of now, without keys and without a producer id.
    pub fn of(values: Vec<Vec<u8>>) -> Self {
        Self {
            values,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            attributes: 0,
            timestamp_ms: i64::try_from(now_ms()).unwrap_or(i64::MAX),
        }
    }

    pub fn produced_by(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, sequence);
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let mut batch = Writer::new();
        let last = self.values.len().saturating_sub(1);
        batch.i64(0).i32(0).i32(-1).i8(2).u32(0);
        batch.i16(self.attributes).count(last).i64(self.timestamp_ms).i64(self.timestamp_ms);
        batch.i64(self.producer_id).i16(self.producer_epoch).i32(self.base_sequence).count(self.values.len());
        for (delta, value) in self.values.iter().enumerate() {
            let mut record = Writer::new();
            record.i8(0).varint(0).varint(i64::try_from(delta).unwrap_or(0));
            record.varbytes(None).varbytes(Some(value)).varint(0);
            batch.varbytes(Some(&record.0));
        }
        seal(&mut batch.0);
        batch.0
    }
}

/// Sets a batch's length and checksum to what its bytes are.
pub fn seal(batch: &mut [u8]) {
    let length = u32::try_from(batch.len() - 12).unwrap_or(u32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

pub fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or(u32::MAX)
}

/// A record as a fetch gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    pub offset: i64,
    pub value: Vec<u8>,
}

/// All records of the whole batches in `records`, with every batch's checksum verified; a cut batch at the end is
/// left out, as a fetch may cut one.
pub fn read(records: &[u8]) -> Result<Vec<ReadRecord>> {
    let mut read = Vec::new();
    let mut rest = records;
    while rest.len() >= HEADER_BYTES {
        let mut reader = Reader(rest);
        let base_offset = reader.i64()?;
        let length = 12 + reader.count()?;
        if rest.len() < length {
            break;
        }
        let (batch, next) = rest.split_at(length);
        rest = next;
        let mut reader = Reader(&batch[16..]);
        ensure!(reader.i8()? == 2, "magic of the batch at {base_offset}");
        let crc = reader.u32()?;
        ensure!(crc == crc32c(&batch[21..]), "checksum of the batch at {base_offset}");
        let attributes = reader.i16()?;
        ensure!(attributes & 7 == 0, "the batch at {base_offset} is compressed");
        let mut reader = Reader(&batch[57..]);
        for _ in 0..reader.count()? {
            let length = usize::try_from(reader.varint()?)?;
            let mut record = Reader(reader.take(length)?);
            record.i8()?;
            record.varint()?;
            let offset = base_offset + record.varint()?;
            record.varbytes()?;
            let value = record.varbytes()?.unwrap_or_default().to_vec();
            read.push(ReadRecord { offset, value });
        }
        ensure!(reader.0.is_empty(), "{} bytes after the records of the batch at {base_offset}", reader.0.len());
    }
    Ok(read)
}
