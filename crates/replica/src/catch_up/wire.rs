//! What the one that catches up and the one that gives say to each other, as bytes.
//!
//! All integers are little-endian. The checksum of an answer is over everything behind it.
//!
//! ```text
//! ask:          version u8 = 1 | kind u8 | fields
//!   begin       1 | node u64 that asks | log id? that is here | index u64 that must be reached
//!   files       2 | pin u64 | the files behind this number u32
//!   file        3 | pin u64 | file u32 | position u64
//!   entries     4 | pin u64 | from the index u64 on | from this byte of it on u32
//!   checkpoint  5 | pin u64 | position u64
//!   end         6 | pin u64
//!   object      7 | pin u64, 0 for none | key u64 | position u64 | bytes u32
//!
//! answer:       CRC-32C u32 | version u8 = 1 | kind u8 | fields
//!   later       1 | reason u8
//!   offer       2 | pin u64 | log id of the checkpoint | bytes of its chain u64, of index files u64, of entries u64
//!   files       3 | more behind them u8 | count u32 | per file: number u32, bytes u64
//!   part        4 | bytes of an index file, or of an object
//!   gone        5
//!   entries     6 | end u8 | count u32 | per piece: log id, kind u8, payload bytes u32, from u32, bytes u32 | pieces
//!   chunks      7 | end u8 | bytes of the checkpoint: per chunk its length u32 and the chunk
//!   ended       8
//!
//! log id:  term u64 | index u64
//! log id?: 0 u8, or 1 u8 | log id
//! ```

mod answer;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use record::{FileNumber, LogIndex, NodeId, ObjectKey, Term};
use storage::{EntryKind, LogId};
use thiserror::Error;

pub(crate) use answer::{decode as decode_answer, encode as encode_answer};

const VERSION: u8 = 1;
/// What one answer carries at most besides its head: with that it fits a frame between nodes.
pub(crate) const PART_BYTES: usize = 3_584 << 10;
/// The largest answer there is: part, heads of pieces, fields.
pub(crate) const ANSWER_BYTES_MAX: usize = (4 << 20) - (64 << 10);
/// Pieces of entries in one answer.
pub(crate) const PIECES_MAX: usize = 4_096;
/// Files in one answer.
pub(crate) const FILES_MAX: usize = 65_536;
const PIECE_HEAD_BYTES: usize = 16 + 1 + 12;
const FILE_BYTES: usize = 12;
/// No pin has this number.
const NO_PIN: u64 = 0;
/// Beyond it no term and no index is: what counts on from one never overflows.
const NUMBER_MAX: u64 = 1 << 62;

const _: () = assert!(PART_BYTES + PIECES_MAX * PIECE_HEAD_BYTES + 64 <= ANSWER_BYTES_MAX, "entries fit an answer");
const _: () = assert!(FILES_MAX * FILE_BYTES + 64 <= ANSWER_BYTES_MAX, "files fit an answer");

/// What is asked of a donor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// For a checkpoint not before `have` that reaches `reach`, and for a pin on it in place of the one that `node` has.
    Begin {
        node: NodeId,
        have: Option<LogId>,
        reach: LogIndex,
    },
    Files {
        pin: u64,
        behind: FileNumber,
    },
    File {
        pin: u64,
        file: FileNumber,
        position: u64,
    },
    Entries {
        pin: u64,
        from: LogIndex,
        byte: u32,
    },
    Checkpoint {
        pin: u64,
        position: u64,
    },
    End {
        pin: u64,
    },
    /// For a part of an object, by whoever has a pin or none.
    Object {
        pin: Option<u64>,
        object: ObjectKey,
        position: u64,
        bytes: u32,
    },
}

/// Why there is nothing now. The numbers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[repr(u8)]
pub enum Later {
    /// The donor has no checkpoint that reaches far enough.
    #[error("it has no checkpoint that reaches far enough")]
    Behind = 1,
    /// The donor gives to as many others as it may.
    #[error("it gives to as many others as it may")]
    Busy = 2,
    /// The pin is not there: too long nothing was asked for, or the donor started anew.
    #[error("it does not hold what it offered any more")]
    Unpinned = 3,
    /// The donor cannot read what it has to give, mostly because it is damaged.
    #[error("it cannot read all live data itself")]
    Damaged = 4,
}

/// A checkpoint that is pinned, with what it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) pin: u64,
    pub(crate) at: LogId,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) entry_bytes: u64,
}

/// An entry, or a part of a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: LogId,
    pub(crate) kind: EntryKind,
    /// Of the whole payload.
    pub(crate) payload_bytes: u32,
    /// Where in the payload `bytes` begin.
    pub(crate) from: u32,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Later(Later),
    Offer(Offer),
    Files {
        more: bool,
        files: Vec<(FileNumber, u64)>,
    },
    Part(Bytes),
    /// The index file is not there any more, and nothing needs it; the object is not there, or not yet.
    Gone,
    Entries {
        end: bool,
        pieces: Vec<Piece>,
    },
    Chunks {
        end: bool,
        bytes: Bytes,
    },
    Ended,
}

/// Why bytes are nothing of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("it ends early")]
    Short,
    #[error("it has {0} bytes too many")]
    Trailing(usize),
    #[error("version {0} is not known")]
    Version(u8),
    #[error("the kind {0} is not known")]
    Kind(u8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("the number {0} is out of range")]
    Number(u64),
    #[error("it counts {0}, which is more than is allowed")]
    Count(u32),
    #[error("what it lists is not in order")]
    Order,
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

pub(crate) fn encode_ask(ask: Ask) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    out.put_u8(VERSION);
    match ask {
        Ask::Begin { node, have, reach } => {
            out.put_u8(1);
            out.put_u64_le(node.0);
            out.put_u8(u8::from(have.is_some()));
            if let Some(have) = have {
                put_log_id(&mut out, have);
            }
            out.put_u64_le(reach.0);
        }
        Ask::Files { pin, behind } => {
            out.put_u8(2);
            out.put_u64_le(pin);
            out.put_u32_le(behind.0);
        }
        Ask::File { pin, file, position } => {
            out.put_u8(3);
            out.put_u64_le(pin);
            out.put_u32_le(file.0);
            out.put_u64_le(position);
        }
        Ask::Entries { pin, from, byte } => {
            out.put_u8(4);
            out.put_u64_le(pin);
            out.put_u64_le(from.0);
            out.put_u32_le(byte);
        }
        Ask::Checkpoint { pin, position } => {
            out.put_u8(5);
            out.put_u64_le(pin);
            out.put_u64_le(position);
        }
        Ask::End { pin } => {
            out.put_u8(6);
            out.put_u64_le(pin);
        }
        Ask::Object { pin, object, position, bytes } => {
            out.put_u8(7);
            out.put_u64_le(pin.unwrap_or(NO_PIN));
            out.put_u64_le(object.0);
            out.put_u64_le(position);
            out.put_u32_le(bytes);
        }
    }
    out.freeze()
}

pub(crate) fn decode_ask(mut bytes: Bytes) -> Result<Ask, DecodeError> {
    take_version(&mut bytes)?;
    let ask = match bytes.try_get_u8()? {
        1 => {
            let node = NodeId(bytes.try_get_u64_le()?);
            let have = if take_flag(&mut bytes)? { Some(take_log_id(&mut bytes)?) } else { None };
            Ask::Begin { node, have, reach: LogIndex(take_number(&mut bytes)?) }
        }
        2 => Ask::Files { pin: bytes.try_get_u64_le()?, behind: FileNumber(bytes.try_get_u32_le()?) },
        3 => Ask::File {
            pin: bytes.try_get_u64_le()?,
            file: FileNumber(bytes.try_get_u32_le()?),
            position: take_number(&mut bytes)?,
        },
        4 => Ask::Entries {
            pin: bytes.try_get_u64_le()?,
            from: LogIndex(take_number(&mut bytes)?),
            byte: bytes.try_get_u32_le()?,
        },
        5 => Ask::Checkpoint { pin: bytes.try_get_u64_le()?, position: take_number(&mut bytes)? },
        6 => Ask::End { pin: bytes.try_get_u64_le()? },
        7 => Ask::Object {
            pin: Some(bytes.try_get_u64_le()?).filter(|pin| *pin != NO_PIN),
            object: ObjectKey(bytes.try_get_u64_le()?),
            position: take_number(&mut bytes)?,
            bytes: bytes.try_get_u32_le()?,
        },
        kind => return Err(DecodeError::Kind(kind)),
    };
    end(&bytes)?;
    Ok(ask)
}

/// Decodes whatever a node may send.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(ask) = decode_ask(bytes.clone()) {
        assert_eq!(encode_ask(ask), bytes, "what decodes encodes to the same bytes");
    }
    // With the checksum that the rest has, else nothing would be looked at.
    let mut sealed = BytesMut::new();
    sealed.put_u32_le(answer::checksum(std::iter::once(input)));
    sealed.extend_from_slice(input);
    let sealed = sealed.freeze();
    if let Ok(answer) = decode_answer(sealed.clone())
        && sealed.len() <= ANSWER_BYTES_MAX
    {
        assert_eq!(encode_answer(answer).to_bytes(), sealed, "what decodes encodes to the same bytes");
    }
    let _ = decode_answer(bytes);
}

fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64_le(id.term.0);
    out.put_u64_le(id.index.0);
}

fn take_version(bytes: &mut Bytes) -> Result<(), DecodeError> {
    match bytes.try_get_u8()? {
        VERSION => Ok(()),
        version => Err(DecodeError::Version(version)),
    }
}

fn take_flag(bytes: &mut Bytes) -> Result<bool, DecodeError> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        kind => Err(DecodeError::Kind(kind)),
    }
}

fn take_number(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let number = bytes.try_get_u64_le()?;
    if number < NUMBER_MAX { Ok(number) } else { Err(DecodeError::Number(number)) }
}

fn take_log_id(bytes: &mut Bytes) -> Result<LogId, DecodeError> {
    Ok(LogId { term: Term(take_number(bytes)?), index: LogIndex(take_number(bytes)?) })
}

fn end(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(bytes.len())) }
}
