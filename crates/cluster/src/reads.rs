//! What a node asks another of a stream that has ended on a shard of which it has no copy itself: batches by offset, and
//! records by time. Whoever has a copy may answer: what ended is committed, and does not change.
//!
//! ```text
//! request: kind u8 | stream u64 | ..
//!   batches   1 | from the offset i64 on | without so many bytes of the first u32 | bytes u32
//!   time      2 | timestamp i64
//!   largest   3
//! answer:
//!   batches     head bytes u32 | first offset i64 | next offset i64 | list of (base offset i64, epoch i32, records u32,
//!               largest timestamp i64, bytes u32) | the bytes of these batches, the first without what was left out; if it
//!               does not fit it ends early, and is the only one
//!   otherwise   option of (offset i64, timestamp i64, epoch i32)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use record::{LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use replica::{Replica, StoredBatch, TimedOffset};
use shard::codec::{DecodeError, Reader, Wire, decode};
use shard::wire_struct;
use smallvec::smallvec;
use storage::{Payload, Slice};

use crate::messages::encode;

/// The most that one answer carries of batches.
pub(crate) const ANSWER_BYTES_MAX: usize = 3 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batches {
    pub(crate) stream: StreamId,
    pub(crate) from: StreamOffset,
    pub(crate) skip: u32,
    pub(crate) bytes_max: u32,
}

wire_struct!(Batches { stream: StreamId, from: StreamOffset, skip: u32, bytes_max: u32 });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByTime {
    pub(crate) stream: StreamId,
    pub(crate) time: TimestampMs,
}

wire_struct!(ByTime { stream: StreamId, time: TimestampMs });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadRequest {
    Batches(Batches),
    ByTime(ByTime),
    MaxTime(StreamId),
}

impl ReadRequest {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Batches(batches) => {
                out.push(1);
                batches.put(&mut out);
            }
            Self::ByTime(by_time) => {
                out.push(2);
                by_time.put(&mut out);
            }
            Self::MaxTime(stream) => {
                out.push(3);
                stream.put(&mut out);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, fields) = bytes.split_first().ok_or(DecodeError::Short)?;
        match kind {
            1 => decode(fields).map(Self::Batches),
            2 => decode(fields).map(Self::ByTime),
            3 => decode(fields).map(Self::MaxTime),
            kind => Err(DecodeError::Value { what: "a request for what has ended", value: u64::from(*kind) }),
        }
    }
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timed {
    offset: StreamOffset,
    timestamp: TimestampMs,
    epoch: LeaderEpoch,
}

wire_struct!(Timed { offset: StreamOffset, timestamp: TimestampMs, epoch: LeaderEpoch });

pub(crate) fn encode_timed(found: Option<TimedOffset>) -> Bytes {
    encode(&found.map(|TimedOffset { offset, timestamp, epoch }| Timed { offset, timestamp, epoch }))
}

pub(crate) fn decode_timed(bytes: &[u8]) -> Result<Option<TimedOffset>, DecodeError> {
    let found: Option<Timed> = decode(bytes)?;
    Ok(found.map(|Timed { offset, timestamp, epoch }| TimedOffset { offset, timestamp, epoch }))
}

/// A batch without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) base_offset: StreamOffset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) record_count: u32,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) bytes: u32,
}

wire_struct!(Head {
    base_offset: StreamOffset,
    epoch: LeaderEpoch,
    record_count: u32,
    max_timestamp: TimestampMs,
    bytes: u32,
});

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first_offset: StreamOffset,
    next_offset: StreamOffset,
    batches: Vec<Head>,
}

wire_struct!(Range { first_offset: StreamOffset, next_offset: StreamOffset, batches: Vec<Head> });

impl Head {
    fn of(batch: &StoredBatch) -> Self {
        let StoredBatch { base_offset, epoch, record_count, max_timestamp, bytes, chunks: _ } = *batch;
        Self { base_offset, epoch, record_count, max_timestamp, bytes }
    }

    /// The batch with its bytes.
    pub(crate) fn with(self, bytes: Bytes) -> StoredBatch {
        let Self { base_offset, epoch, record_count, max_timestamp, bytes: length } = self;
        assert_eq!(bytes.len(), length as usize, "a batch has the bytes that its head says");
        StoredBatch {
            base_offset,
            epoch,
            record_count,
            max_timestamp,
            bytes: length,
            chunks: smallvec![Slice::whole(bytes).into()],
        }
    }
}

/// What `replica` has of a stream, as the answer to another node.
pub(crate) async fn batches(replica: &Replica, asked: Batches) -> Result<Payload, String> {
    let Batches { stream, from, skip, bytes_max } = asked;
    let bytes_max = (bytes_max as usize).min(ANSWER_BYTES_MAX);
    let found = replica.fetch(stream, from, bytes_max, true).await.map_err(|error| error.to_string())?;
    let mut range = Range { first_offset: found.first_offset, next_offset: found.next_offset, batches: Vec::new() };
    let mut left = bytes_max;
    let mut pieces = Vec::new();
    for (place, batch) in found.batches.into_iter().enumerate() {
        let mut skip = if place == 0 { skip } else { 0 };
        if skip > batch.bytes || (place > 0 && batch.bytes as usize > left) {
            break;
        }
        range.batches.push(Head::of(&batch));
        for chunk in batch.chunks {
            let length = chunk.len();
            let front = skip.min(length);
            skip -= front;
            let wanted = ((length - front) as usize).min(left);
            let wanted = u32::try_from(wanted).expect("part of a chunk has no more bytes than it");
            if wanted > 0 {
                left -= wanted as usize;
                let part = chunk.part(front..front + wanted);
                pieces.push(part.into_bytes().await.map_err(|error| error.to_string())?);
            }
        }
    }
    let head = encode(&range);
    let mut length = BytesMut::with_capacity(4 + head.len());
    length.put_u32_le(u32::try_from(head.len()).expect("a fetch has few batches"));
    length.extend_from_slice(&head);
    Ok(std::iter::once(length.freeze()).chain(pieces).collect())
}

/// What another node has of a stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) next_offset: StreamOffset,
    pub(crate) batches: Vec<Head>,
    pub(crate) bytes: Bytes,
}

/// Reads an answer. What it says of bytes is compared with what came, and of offsets with what was asked.
pub(crate) fn found(mut answer: Bytes, asked: &Batches) -> Result<Found, DecodeError> {
    let length = answer.try_get_u32_le().map_err(|_| DecodeError::Short)? as usize;
    if answer.len() < length {
        return Err(DecodeError::Short);
    }
    let head = answer.split_to(length);
    let mut reader = Reader::new(&head);
    let Range { first_offset: _, next_offset, batches } = Range::take(&mut reader)?;
    reader.finish()?;
    let wrong = |offset: StreamOffset| DecodeError::Value {
        what: "the offset of a batch that was asked for",
        value: offset.0.cast_unsigned(),
    };
    // A copy that has not come so far. Of what has ended others have all.
    if batches.is_empty() {
        return Err(wrong(asked.from));
    }
    let mut next = None;
    for head in &batches {
        let end = head.base_offset.0.saturating_add(i64::from(head.record_count));
        // Key compaction leaves gaps.
        let fits = match next {
            None => asked.from.0 < end,
            Some(next) => head.base_offset.0 >= next,
        };
        if !fits || end > next_offset.0 {
            return Err(wrong(head.base_offset));
        }
        next = Some(end);
    }
    let total: u64 = batches.iter().map(|head| u64::from(head.bytes)).sum();
    let here = answer.len() as u64 + u64::from(asked.skip);
    if here > total || (batches.len() != 1 && here != total) {
        return Err(DecodeError::TrailingBytes { bytes: answer.len() });
    }
    Ok(Found { next_offset, batches, bytes: answer })
}

/// Reads whatever bytes as a request or an answer.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_reads(input: &Bytes) {
    let _ = ReadRequest::decode(input);
    let _ = decode_timed(input);
    for skip in [0, 7] {
        let asked = Batches { stream: StreamId(1), from: StreamOffset(3), skip, bytes_max: 100 };
        let _ = found(input.clone(), &asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(offset: i64, records: u32, bytes: u32) -> Head {
        Head {
            base_offset: StreamOffset(offset),
            epoch: LeaderEpoch(2),
            record_count: records,
            max_timestamp: TimestampMs(5),
            bytes,
        }
    }

    fn answer(batches: Vec<Head>, bytes: usize) -> Bytes {
        let range = encode(&Range { first_offset: StreamOffset(0), next_offset: StreamOffset(30), batches });
        let mut out = BytesMut::new();
        out.put_u32_le(u32::try_from(range.len()).unwrap());
        out.extend_from_slice(&range);
        out.extend_from_slice(&vec![7; bytes]);
        out.freeze()
    }

    fn check(from: i64, skip: u32, batches: Vec<Head>, bytes: usize) -> bool {
        let asked = Batches { stream: StreamId(1), from: StreamOffset(from), skip, bytes_max: 100 };
        found(answer(batches, bytes), &asked).is_ok()
    }

    #[test]
    fn requests_are_read_as_they_were_written_and_nothing_shorter_or_longer() {
        let stream = StreamId(3);
        for request in [
            ReadRequest::Batches(Batches { stream, from: StreamOffset(9), skip: 4, bytes_max: 5 }),
            ReadRequest::ByTime(ByTime { stream, time: TimestampMs(6) }),
            ReadRequest::MaxTime(stream),
        ] {
            let mut bytes = request.encode().to_vec();
            assert_eq!(ReadRequest::decode(&bytes), Ok(request));
            for length in 0..bytes.len() {
                assert!(ReadRequest::decode(&bytes[..length]).is_err());
            }
            bytes.push(0);
            assert!(ReadRequest::decode(&bytes).is_err());
        }
        let timed = Some(TimedOffset { offset: StreamOffset(1), timestamp: TimestampMs(2), epoch: LeaderEpoch(3) });
        assert_eq!(decode_timed(&encode_timed(timed)), Ok(timed));
        assert_eq!(decode_timed(&encode_timed(None)), Ok(None));
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        assert!(check(10, 0, vec![head(10, 5, 40), head(15, 5, 20)], 60));
        assert!(check(12, 0, vec![head(10, 5, 40)], 40));
        assert!(check(10, 0, vec![head(10, 5, 400)], 100), "the front of a large one");
        assert!(check(10, 350, vec![head(10, 5, 400)], 50), "and its end");
        assert!(!check(10, 0, vec![], 0), "it has not come so far");
        assert!(check(9, 0, vec![head(10, 5, 40)], 40), "compaction left nothing before it");
        assert!(!check(15, 0, vec![head(10, 5, 40)], 40), "before it");
        assert!(check(10, 0, vec![head(10, 5, 40), head(16, 5, 20)], 60), "nor here");
        assert!(!check(10, 0, vec![head(10, 5, 40), head(14, 5, 20)], 60), "twice");
        assert!(!check(10, 0, vec![head(10, 25, 40)], 40), "behind the end");
        assert!(!check(10, 0, vec![head(10, 5, 40), head(15, 5, 20)], 50), "not whole");
        assert!(!check(10, 0, vec![head(10, 5, 40)], 41), "too much");
        assert!(!check(10, 0, vec![], 1));
    }
}
