//! A command on its way to its shard's leader on another node, and the answer.
//!
//! ```text
//! proposal: a command without a body
//! answer:   0 u8 | outcome
//!           1 u8 | node u64 that leads, 0 if unknown
//!           2 u8 .. 5 u8: queue full, disk full, fate unknown, out of service
//!           6 u8 | bytes u64 | most bytes u64
//! ```
//! All integers are little-endian.

use bytes::{Buf, BufMut, Bytes};
use record::NodeId;
use replica::{ProposeError, ProposeResult};
use shard::{Command, Outcome, Reader};
use thiserror::Error;

/// Why bytes are no proposal or no answer to one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("a proposal ends early")]
    Short,
    #[error("{0} bytes are left over")]
    Trailing(usize),
    #[error("an answer of the unknown kind {0}")]
    Kind(u8),
    #[error("not a command of this version: {0}")]
    Command(shard::DecodeError),
    #[error("not an outcome of this version: {0}")]
    Outcome(shard::DecodeError),
    #[error("the command {0} has a body, which does not travel so")]
    Body(&'static str),
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

pub(crate) fn encode(command: &Command) -> Bytes {
    let mut encoded = Vec::new();
    command.encode(&mut encoded);
    encoded.into()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
    let mut reader = Reader::new(bytes);
    let command = Command::decode(&mut reader).map_err(DecodeError::Command)?;
    reader.finish().map_err(DecodeError::Command)?;
    if command.body_bytes() > 0 { Err(DecodeError::Body(command.name())) } else { Ok(command) }
}

pub(crate) fn encode_answer(result: &ProposeResult) -> Bytes {
    let mut out = Vec::new();
    match result {
        Ok(outcome) => {
            out.push(0);
            outcome.encode(&mut out);
        }
        Err(ProposeError::NotLeader { leader }) => {
            out.push(1);
            out.put_u64_le(leader.map_or(0, |leader| leader.0));
        }
        Err(ProposeError::Busy) => out.push(2),
        Err(ProposeError::DiskFull) => out.push(3),
        Err(ProposeError::Unknown) => out.push(4),
        Err(ProposeError::Stopped) => out.push(5),
        Err(ProposeError::TooLarge { bytes, bytes_max }) => {
            out.push(6);
            out.put_u64_le(*bytes as u64);
            out.put_u64_le(*bytes_max as u64);
        }
    }
    out.into()
}

pub(crate) fn decode_answer(mut bytes: Bytes) -> Result<ProposeResult, DecodeError> {
    let error = match bytes.try_get_u8()? {
        0 => return Outcome::decode(&bytes).map(Ok).map_err(DecodeError::Outcome),
        1 => {
            let leader = bytes.try_get_u64_le()?;
            ProposeError::NotLeader { leader: (leader != 0).then_some(NodeId(leader)) }
        }
        2 => ProposeError::Busy,
        3 => ProposeError::DiskFull,
        4 => ProposeError::Unknown,
        5 => ProposeError::Stopped,
        6 => {
            let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            ProposeError::TooLarge { bytes: size(bytes.try_get_u64_le()?), bytes_max: size(bytes.try_get_u64_le()?) }
        }
        kind => return Err(DecodeError::Kind(kind)),
    };
    if bytes.is_empty() { Ok(Err(error)) } else { Err(DecodeError::Trailing(bytes.len())) }
}

#[cfg(test)]
mod tests {
    use shard::commands::{AllocateProducerIds, StagePart, UploadId};

    use super::*;

    #[test]
    fn proposals_are_read_as_they_were_written() {
        let command = Command::from(AllocateProducerIds { count: 3 });
        let bytes = encode(&command);
        assert_eq!(decode(&bytes), Ok(command));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
        let part = Command::from(StagePart { upload: UploadId(1), part: 0, body_bytes: 4 });
        assert_eq!(decode(&encode(&part)), Err(DecodeError::Body("StagePart")));
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for result in [
            Ok(Outcome::Tick),
            Err(ProposeError::NotLeader { leader: None }),
            Err(ProposeError::NotLeader { leader: Some(NodeId(3)) }),
            Err(ProposeError::Busy),
            Err(ProposeError::DiskFull),
            Err(ProposeError::Unknown),
            Err(ProposeError::Stopped),
            Err(ProposeError::TooLarge { bytes: 5, bytes_max: 4 }),
        ] {
            let bytes = encode_answer(&result);
            assert_eq!(decode_answer(bytes.clone()), Ok(result));
            for length in 0..bytes.len() {
                assert!(decode_answer(bytes.slice(..length)).is_err());
            }
        }
        assert_eq!(decode_answer(Bytes::from_static(&[9])), Err(DecodeError::Kind(9)));
        assert_eq!(decode_answer(Bytes::from_static(&[2, 0])), Err(DecodeError::Trailing(1)));
    }
}
