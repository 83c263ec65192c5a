//! Record batches with all that a record has: keys, absent values, timestamps, compression by gzip.

use std::io::{Read as _, Write as _};

use anyhow::{Result, ensure};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::batch::{HEADER_BYTES, crc32c, seal};
use super::requests::{FETCH, FETCH_VERSION, Fetched, fetch_answer, fetch_body};
use super::{Connection, Reader, Writer};

/// The bits of a batch's attributes that say how it is compressed, and gzip among them.
const CODEC: i16 = 7;
const GZIP: i16 = 1;
const FETCH_BYTES: i32 = 4 << 20;

/// A record as it is written, or was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullRecord {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// Who writes a batch, for brokers that see whether it came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A batch of these records; their offsets count from 0.
pub fn build(records: &[FullRecord], producer: Option<Producer>, is_compressed: bool) -> Result<Vec<u8>> {
    let base_ms = records.first().map_or(0, |record| record.timestamp_ms);
    let max_ms = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(0);
    let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, sequence: -1 });
    let mut batch = Writer::new();
    batch.i64(0).i32(0).i32(-1).i8(2).u32(0);
    batch.i16(if is_compressed { GZIP } else { 0 }).count(records.len().saturating_sub(1)).i64(base_ms).i64(max_ms);
    batch.i64(producer.id).i16(producer.epoch).i32(producer.sequence).count(records.len());
    let mut body = Writer::new();
    for (record, delta) in records.iter().zip(0..) {
        let mut one = Writer::new();
        one.i8(0).varint(record.timestamp_ms - base_ms).varint(delta);
        one.varbytes(record.key.as_deref()).varbytes(record.value.as_deref()).varint(0);
        body.varbytes(Some(&one.0));
    }
    if is_compressed {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&body.0)?;
        batch.raw(&gzip.finish()?);
    } else {
        batch.raw(&body.0);
    }
    seal(&mut batch.0);
    Ok(batch.0)
}

/// Whole batches that were read.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    pub records: Vec<FullRecord>,
    /// What comes behind the last batch, also where that has no records any more.
    pub next_offset: Option<i64>,
}

/// Reads whole batches, with every checksum verified; a cut one at the end is left out.
pub fn read(bytes: &[u8]) -> Result<Batches> {
    let mut batches = Batches::default();
    let mut rest = bytes;
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
        ensure!(reader.u32()? == crc32c(&batch[21..]), "checksum of the batch at {base_offset}");
        let attributes = reader.i16()?;
        let last = base_offset + i64::from(reader.i32()?);
        ensure!(batches.next_offset.is_none_or(|next| next <= base_offset), "batches overlap at {base_offset}");
        batches.next_offset = Some(last + 1);
        let base_ms = reader.i64()?;
        let mut unpacked = Vec::new();
        let body = match attributes & CODEC {
            0 => &batch[HEADER_BYTES..],
            GZIP => {
                MultiGzDecoder::new(&batch[HEADER_BYTES..]).read_to_end(&mut unpacked)?;
                &unpacked
            }
            other => anyhow::bail!("the batch at {base_offset} is compressed by codec {other}"),
        };
        let count = Reader(&batch[57..]).count()?;
        let mut reader = Reader(body);
        for _ in 0..count {
            let length = usize::try_from(reader.varint()?)?;
            let mut record = Reader(reader.take(length)?);
            record.i8()?;
            let timestamp_ms = base_ms + record.varint()?;
            let offset = base_offset + record.varint()?;
            ensure!((base_offset..=last).contains(&offset), "offset {offset} in the batch at {base_offset}");
            let key = record.varbytes()?.map(<[u8]>::to_vec);
            let value = record.varbytes()?.map(<[u8]>::to_vec);
            batches.records.push(FullRecord { offset, timestamp_ms, key, value });
        }
        ensure!(reader.0.is_empty(), "{} bytes behind the records of the batch at {base_offset}", reader.0.len());
    }
    Ok(batches)
}

/// What one fetch of a partition gave.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub error: i16,
    pub high_watermark: i64,
    /// From the batch on in which the offset lies.
    pub batches: Batches,
}

/// Fetches once, and does not wait for more.
pub fn fetch(connection: &mut Connection, topic: &str, partition: i32, offset: i64) -> Result<Fetch> {
    let body = fetch_body(topic, partition, offset, 0, FETCH_BYTES);
    let Fetched { error, high_watermark, records } = fetch_answer(&connection.call(FETCH, FETCH_VERSION, &body)?)?;
    Ok(Fetch { error, high_watermark, batches: read(&records)? })
}

/// Reads a partition from `offset` to its high watermark.
pub fn fetch_all(connection: &mut Connection, topic: &str, partition: i32, mut offset: i64) -> Result<Vec<FullRecord>> {
    let mut all = Vec::new();
    loop {
        let fetch = fetch(connection, topic, partition, offset)?;
        ensure!(fetch.error == 0, "Fetch of {topic}-{partition} at {offset}: error {}", fetch.error);
        all.extend(fetch.batches.records.into_iter().filter(|record| record.offset >= offset));
        let next = fetch.batches.next_offset.unwrap_or(offset);
        ensure!(next > offset || offset >= fetch.high_watermark, "nothing at {offset} of {topic}-{partition}");
        offset = next;
        if offset >= fetch.high_watermark {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read() -> Result<()> {
        let record = |offset, key: Option<&[u8]>, value: Option<&[u8]>| FullRecord {
            offset,
            timestamp_ms: 1_000 - offset,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
        };
        let records = [record(0, None, Some(b"v")), record(1, Some(b"k"), None), record(2, Some(b""), Some(b""))];
        for is_compressed in [false, true] {
            let bytes = build(&records, None, is_compressed)?;
            let read = read(&bytes)?;
            assert_eq!((&read.records[..], read.next_offset), (&records[..], Some(3)));
        }
        Ok(())
    }
}
