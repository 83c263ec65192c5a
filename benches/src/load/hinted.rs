//! Produce in the first version whose refusals name the leader (KIP-951), for one partition.

use std::net::SocketAddr;

use ::tests::wire::{Reader, Writer};
use anyhow::{Context, Result, ensure};

/// The first with hints; its encodings are the flexible ones.
pub(super) const HINTED_VERSION: i16 = 10;

/// A whole request with acks=all.
pub(super) fn request(topic: &str, partition: i32, correlation: i32, batch: &[u8]) -> Vec<u8> {
    let mut frame = Writer::new();
    // Header: length, key, version, correlation id, client id, no tags.
    frame.i32(0).i16(0).i16(HINTED_VERSION).i32(correlation).string("benches").i8(0);
    // No transaction, all replicas, 30 s.
    frame.i8(0).i16(-1).i32(30_000);
    compact(&mut frame, 1);
    compact(&mut frame, topic.len());
    frame.raw(topic.as_bytes());
    compact(&mut frame, 1);
    frame.i32(partition);
    compact(&mut frame, batch.len());
    frame.raw(batch).i8(0).i8(0).i8(0);
    let length = frame.0.len() - 4;
    frame.patch_i32(0, length);
    frame.0
}

/// What one partition was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) error: i16,
    /// The leader that a refusal names.
    pub(super) leader: Option<(i32, i32)>,
    /// Where that leader is.
    pub(super) address: Option<SocketAddr>,
}

/// Reads an answer, after its correlation id.
pub(super) fn answer(bytes: &[u8]) -> Result<Answer> {
    let mut reader = Reader(bytes);
    tags(&mut reader, |_tag, _reader| Ok(()))?;
    let mut answer = Answer::default();
    ensure!(length(&mut reader)? == 1, "topics answered");
    let name = length(&mut reader)?;
    reader.take(name)?;
    ensure!(length(&mut reader)? == 1, "partitions answered");
    reader.i32()?;
    answer.error = reader.i16()?;
    reader.take(24)?;
    for _ in 0..length(&mut reader)? {
        reader.i32()?;
        let text = length(&mut reader)?;
        reader.take(text)?;
        tags(&mut reader, |_tag, _reader| Ok(()))?;
    }
    let text = length(&mut reader)?;
    reader.take(text)?;
    tags(&mut reader, |tag, value| {
        if tag == 0 {
            let leader = (value.i32()?, value.i32()?);
            answer.leader = (leader.0 >= 0).then_some(leader);
        }
        Ok(())
    })?;
    tags(&mut reader, |_tag, _reader| Ok(()))?;
    reader.i32()?;
    tags(&mut reader, |tag, value| {
        if tag != 0 {
            return Ok(());
        }
        for _ in 0..length(value)? {
            let id = value.i32()?;
            let host = length(value)?;
            let host = std::str::from_utf8(value.take(host)?)?.to_owned();
            let port = value.i32()?;
            let rack = length(value)?;
            value.take(rack)?;
            tags(value, |_tag, _reader| Ok(()))?;
            if answer.leader.is_some_and(|leader| leader.0 == id) {
                answer.address = format!("{host}:{port}").parse().ok();
            }
        }
        Ok(())
    })?;
    Ok(answer)
}

/// A length as the flexible encodings have it: one more than it is.
fn compact(writer: &mut Writer, count: usize) {
    let mut value = count + 1;
    while value >= 0x80 {
        writer.raw(&[(value & 0x7f).to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    writer.raw(&[value.to_le_bytes()[0]]);
}

fn unsigned(reader: &mut Reader<'_>) -> Result<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = reader.take(1)?[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    None.context("a length of more than five bytes")
}

/// A length; that of what is absent reads as 0.
fn length(reader: &mut Reader<'_>) -> Result<usize> {
    Ok(unsigned(reader)?.saturating_sub(1))
}

fn tags(reader: &mut Reader<'_>, mut take: impl FnMut(usize, &mut Reader<'_>) -> Result<()>) -> Result<()> {
    for _ in 0..unsigned(reader)? {
        let tag = unsigned(reader)?;
        let size = unsigned(reader)?;
        take(tag, &mut Reader(reader.take(size)?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_leader() {
        let mut bytes = Writer::new();
        bytes.i8(0).i8(2).i8(2).raw(b"t").i8(2).i32(0).i16(6).i64(-1).i64(-1).i64(-1).i8(1).i8(0);
        // The leader: tag 0 of 9 bytes.
        bytes.i8(1).i8(0).i8(9).i32(3).i32(7).i8(0);
        bytes.i8(0).i32(0);
        // Its address: tag 0, one node.
        let mut node = Writer::new();
        node.i8(2).i32(3).i8(10).raw(b"127.0.0.1").i32(9093).i8(0).i8(0);
        bytes.i8(1).i8(0).i8(i8::try_from(node.0.len()).unwrap()).raw(&node.0);
        let read = answer(&bytes.0).unwrap();
        let address = "127.0.0.1:9093".parse().unwrap();
        assert_eq!(read, Answer { error: 6, leader: Some((3, 7)), address: Some(address) });
    }
}
