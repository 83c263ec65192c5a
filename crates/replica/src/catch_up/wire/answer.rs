//! Answers: how they are put together and taken apart.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use record::FileNumber;
use storage::{EntryKind, LogId, Payload};

use super::{
    ANSWER_BYTES_MAX, Answer, DecodeError, FILE_BYTES, FILES_MAX, Later, Offer, PIECE_HEAD_BYTES, PIECES_MAX, Piece,
    VERSION, end, put_log_id, take_flag, take_log_id, take_number, take_version,
};

/// Pieces below this are joined.
const JOINED_BYTES: usize = 16 << 10;

impl Later {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Behind, Self::Busy, Self::Unpinned, Self::Damaged].into_iter().find(|reason| *reason as u8 == number)
    }
}

pub(crate) fn encode(answer: Answer) -> Payload {
    let mut out = BytesMut::with_capacity(64);
    out.put_u32_le(0);
    out.put_u8(VERSION);
    let mut behind = Vec::new();
    match answer {
        Answer::Later(reason) => {
            out.put_u8(1);
            out.put_u8(reason as u8);
        }
        Answer::Offer(offer) => {
            out.put_u8(2);
            out.put_u64_le(offer.pin);
            put_log_id(&mut out, offer.at);
            out.put_u64_le(offer.checkpoint_bytes);
            out.put_u64_le(offer.index_bytes);
            out.put_u64_le(offer.entry_bytes);
        }
        Answer::Files { more, files } => {
            out.put_u8(3);
            out.put_u8(u8::from(more));
            put_count(&mut out, files.len());
            for (file, bytes) in files {
                out.put_u32_le(file.0);
                out.put_u64_le(bytes);
            }
        }
        Answer::Part(bytes) => {
            out.put_u8(4);
            behind.push(bytes);
        }
        Answer::Gone => out.put_u8(5),
        Answer::Entries { end, pieces } => {
            out.put_u8(6);
            out.put_u8(u8::from(end));
            put_count(&mut out, pieces.len());
            for piece in &pieces {
                put_log_id(&mut out, piece.id);
                out.put_u8(piece.kind as u8);
                out.put_u32_le(piece.payload_bytes);
                out.put_u32_le(piece.from);
                put_count(&mut out, piece.bytes.len());
            }
            behind = joined(pieces.into_iter().map(|piece| piece.bytes));
        }
        Answer::Chunks { end, bytes } => {
            out.put_u8(7);
            out.put_u8(u8::from(end));
            behind.push(bytes);
        }
        Answer::Ended => out.put_u8(8),
    }
    let pieces = std::iter::once(&out[4..]).chain(behind.iter().map(|bytes| &bytes[..]));
    let checksum = checksum(pieces);
    out[..4].copy_from_slice(&checksum.to_le_bytes());
    let answer: Payload = std::iter::once(out.freeze()).chain(behind).collect();
    assert!(answer.len() <= ANSWER_BYTES_MAX, "an answer fits a frame");
    answer
}

/// The same bytes in fewer buffers: small ones are copied into one.
fn joined(pieces: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let mut buffers = Vec::new();
    let mut small = BytesMut::new();
    for piece in pieces {
        if piece.len() < JOINED_BYTES {
            small.extend_from_slice(&piece);
            continue;
        }
        if !small.is_empty() {
            buffers.push(small.split().freeze());
        }
        buffers.push(piece);
    }
    buffers.push(small.freeze());
    buffers
}

pub(crate) fn decode(mut bytes: Bytes) -> Result<Answer, DecodeError> {
    let expected = bytes.try_get_u32_le()?;
    if checksum(std::iter::once(&bytes[..])) != expected {
        return Err(DecodeError::Checksum);
    }
    take_version(&mut bytes)?;
    let answer = match bytes.try_get_u8()? {
        1 => {
            let reason = bytes.try_get_u8()?;
            Answer::Later(Later::from_number(reason).ok_or(DecodeError::Kind(reason))?)
        }
        2 => Answer::Offer(Offer {
            pin: bytes.try_get_u64_le()?,
            at: take_log_id(&mut bytes)?,
            checkpoint_bytes: take_number(&mut bytes)?,
            index_bytes: take_number(&mut bytes)?,
            entry_bytes: take_number(&mut bytes)?,
        }),
        3 => take_files(&mut bytes)?,
        4 => return Ok(Answer::Part(bytes)),
        5 => Answer::Gone,
        6 => return take_entries(bytes),
        7 => return Ok(Answer::Chunks { end: take_flag(&mut bytes)?, bytes }),
        8 => Answer::Ended,
        kind => return Err(DecodeError::Kind(kind)),
    };
    end(&bytes)?;
    Ok(answer)
}

fn take_files(bytes: &mut Bytes) -> Result<Answer, DecodeError> {
    let more = take_flag(bytes)?;
    let count = take_count(bytes, FILES_MAX, FILE_BYTES)?;
    let mut files = Vec::with_capacity(count);
    let mut before = FileNumber(0);
    for _ in 0..count {
        let file = FileNumber(bytes.try_get_u32_le()?);
        if file <= before || file.0 == u32::MAX {
            return Err(DecodeError::Order);
        }
        files.push((file, take_number(bytes)?));
        before = file;
    }
    Ok(Answer::Files { more, files })
}

fn take_entries(mut bytes: Bytes) -> Result<Answer, DecodeError> {
    let last = take_flag(&mut bytes)?;
    let count = take_count(&mut bytes, PIECES_MAX, PIECE_HEAD_BYTES)?;
    let mut heads = bytes.split_to(count * PIECE_HEAD_BYTES);
    let mut pieces = Vec::with_capacity(count);
    let mut before: Option<LogId> = None;
    for _ in 0..count {
        let id = take_log_id(&mut heads)?;
        let kind = heads.try_get_u8()?;
        let kind = EntryKind::from_number(kind).ok_or(DecodeError::Kind(kind))?;
        let payload_bytes = heads.try_get_u32_le()?;
        let from = heads.try_get_u32_le()?;
        let length = heads.try_get_u32_le()?;
        if before.is_some_and(|before| before.index >= id.index || before.term > id.term) {
            return Err(DecodeError::Order);
        }
        if from.checked_add(length).is_none_or(|behind| behind > payload_bytes) {
            return Err(DecodeError::Number(u64::from(length)));
        }
        if length as usize > bytes.len() {
            return Err(DecodeError::Short);
        }
        pieces.push(Piece { id, kind, payload_bytes, from, bytes: bytes.split_to(length as usize) });
        before = Some(id);
    }
    end(&bytes)?;
    Ok(Answer::Entries { end: last, pieces })
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("an answer is bounded"));
}

/// A count of things of `each` bytes, all of which are there.
fn take_count(bytes: &mut Bytes, max: usize, each: usize) -> Result<usize, DecodeError> {
    let count = bytes.try_get_u32_le()?;
    let counted = usize::try_from(count).map_err(|_| DecodeError::Count(count))?;
    if counted > max {
        return Err(DecodeError::Count(count));
    }
    if bytes.len() < counted * each {
        return Err(DecodeError::Short);
    }
    Ok(counted)
}

#[expect(clippy::cast_possible_truncation, reason = "a CRC-32 has 32 bits")]
pub(super) fn checksum<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    pieces.for_each(|piece| digest.update(piece));
    digest.finalize() as u32
}
