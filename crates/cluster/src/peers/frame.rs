//! Frames: what goes over a connection between two nodes, behind the handshake.
//!
//! ```text
//! body bytes u32 | role u8 | subject u8 | 0 u16 | shard u32 | call u64 | CRC-32C u32 | body
//! ```
//! All integers are little-endian. The checksum covers the header before it and the body: what
//! a switch's memory has flipped is never taken for a command.

use std::io;

use base::net::ReadHalf;
use base::time::{Duration, timeout};
use bytes::{Buf, BufMut, BytesMut};
use record::ShardId;
use storage::Payload;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use super::lives::Presence;

/// The most that a frame carries.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;
pub(crate) const HEADER_BYTES: usize = 24;
/// Where the checksum stands in the header.
const CHECKSUM_AT: usize = 20;
/// What is read at once when frames are small.
const READ_BYTES: usize = 64 << 10;

/// What a frame is to the call that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// A request that has one answer.
    Call = 1,
    /// One of a stream of requests, each of which has one answer, in their order. One of a stream
    /// that is not open is dropped.
    Item = 2,
    /// The stream has no more requests.
    End = 3,
    /// The answer to a call, or to the next request of a stream.
    Answer = 4,
    /// Why there is no answer, as text; a stream ends with it.
    Refusal = 5,
    /// The one that calls lives.
    Ping = 6,
    /// The one that is called lives.
    Pong = 7,
    /// A stream of requests begins.
    Open = 8,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Subject {
    /// The connection itself.
    Connection = 0,
    /// The shard's group: what members say to each other.
    Group = 1,
    /// The shard's leader: a command to be proposed.
    Proposal = 2,
    /// The node: what it has of the cluster, and who may join it.
    Node = 3,
    /// The shard's replica: what another node lacks of it.
    Pull = 4,
    /// The shard's replica: what a stream had there that goes on on another shard.
    Ended = 5,
}

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) role: Role,
    pub(crate) subject: Subject,
    pub(crate) shard: ShardId,
    /// Chosen by the one who calls; its answers carry it too.
    pub(crate) call: u64,
    pub(crate) body: Payload,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes, which is more than is allowed")]
    TooLarge(u32),
    #[error("a frame of the unknown role {0}")]
    Role(u8),
    #[error("a frame for the unknown subject {0}")]
    Subject(u8),
    #[error("a frame whose checksum does not match")]
    Checksum,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Frame {
    pub(crate) fn ping() -> Self {
        Self::of_connection(Role::Ping)
    }

    pub(crate) fn pong() -> Self {
        Self::of_connection(Role::Pong)
    }

    fn of_connection(role: Role) -> Self {
        Self { role, subject: Subject::Connection, shard: ShardId(0), call: 0, body: Payload::default() }
    }

    /// What the frame holds in memory while it waits.
    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.body.len()).expect("whoever sends keeps to the bound");
        let mut header = [0; HEADER_BYTES];
        let mut out = &mut header[..];
        out.put_u32_le(length);
        out.put_u8(self.role as u8);
        out.put_u8(self.subject as u8);
        out.put_u16_le(0);
        out.put_u32_le(self.shard.0);
        out.put_u64_le(self.call);
        let body = self.body.buffers().iter().map(|buffer| &buffer[..]);
        let checksum = checksum(std::iter::once(&header[..CHECKSUM_AT]).chain(body));
        header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// Takes the first frame out of `buffer`, if all of it is there; else says how many bytes the
/// buffer must have.
fn take(buffer: &mut BytesMut, body_max: usize) -> Result<Result<Frame, usize>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(Err(HEADER_BYTES)) };
    let mut fields = &header[..];
    let length = fields.get_u32_le();
    if length as usize > body_max {
        return Err(FrameError::TooLarge(length));
    }
    let role = role(fields.get_u8())?;
    let subject = subject(fields.get_u8())?;
    fields.advance(2);
    let shard = ShardId(fields.get_u32_le());
    let call = fields.get_u64_le();
    let checksum = fields.get_u32_le();
    let frame_bytes = HEADER_BYTES + length as usize;
    if buffer.len() < frame_bytes {
        return Ok(Err(frame_bytes));
    }
    if self::checksum([&buffer[..CHECKSUM_AT], &buffer[HEADER_BYTES..frame_bytes]]) != checksum {
        return Err(FrameError::Checksum);
    }
    let mut frame = buffer.split_to(frame_bytes).freeze();
    frame.advance(HEADER_BYTES);
    Ok(Ok(Frame { role, subject, shard, call, body: Payload::from(frame) }))
}

/// CRC-32C of pieces as if they were one.
#[expect(clippy::cast_possible_truncation, reason = "a CRC32 has 32 bits")]
pub(super) fn checksum<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    pieces.into_iter().for_each(|piece| digest.update(piece));
    digest.finalize() as u32
}

fn role(number: u8) -> Result<Role, FrameError> {
    Ok(match number {
        1 => Role::Call,
        2 => Role::Item,
        3 => Role::End,
        4 => Role::Answer,
        5 => Role::Refusal,
        6 => Role::Ping,
        7 => Role::Pong,
        8 => Role::Open,
        number => return Err(FrameError::Role(number)),
    })
}

fn subject(number: u8) -> Result<Subject, FrameError> {
    Ok(match number {
        0 => Subject::Connection,
        1 => Subject::Group,
        2 => Subject::Proposal,
        3 => Subject::Node,
        4 => Subject::Pull,
        5 => Subject::Ended,
        number => return Err(FrameError::Subject(number)),
    })
}

/// Reads frames, several with one read where they are small. Their bodies are slices of what was
/// read.
#[derive(Debug)]
pub(crate) struct FrameReader {
    half: ReadHalf,
    buffer: BytesMut,
    silence_max: Duration,
    body_max: usize,
    /// Of a node, not of a guest.
    presence: Option<Presence>,
}

impl FrameReader {
    /// Who says nothing for `silence_max` is gone; who sends bodies of more than `body_max` is refused. The other side is
    /// there until this is dropped.
    pub(super) fn new(half: ReadHalf, silence_max: Duration, body_max: usize, presence: Option<Presence>) -> Self {
        Self { half, buffer: BytesMut::new(), silence_max, body_max, presence }
    }

    /// The next frame; `None` when the other side has closed the connection between two.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if self.presence.as_ref().is_some_and(Presence::is_over) {
                let text = "the other node was silent, and another process has come in its place";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
            }
            let wanted = match take(&mut self.buffer, self.body_max)? {
                Ok(frame) => return Ok(Some(frame)),
                Err(wanted) => wanted,
            };
            let missing = wanted - self.buffer.len();
            if self.buffer.capacity() - self.buffer.len() < missing {
                self.buffer.reserve(missing.max(READ_BYTES));
            }
            let read = timeout(self.silence_max, self.half.read_buf(&mut self.buffer)).await;
            match read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the other node is silent"))?? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => self.presence.iter().for_each(Presence::hear),
            }
        }
    }
}

/// Reads whatever bytes as frames, as they are and with the checksums that they should have.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz_frames(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    while let Ok(Ok(_)) = take(&mut buffer, BODY_BYTES_MAX) {}
    let mut rest = input;
    while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(bytes) = rest.get(..HEADER_BYTES.saturating_add(length)) else { return };
        let mut frame = BytesMut::from(bytes);
        let checksum = checksum([&frame[..CHECKSUM_AT], &frame[HEADER_BYTES..]]);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let whole = frame.clone();
        if let Ok(taken) = take(&mut frame, BODY_BYTES_MAX) {
            let taken = taken.expect("all of it is there");
            let mut again = BytesMut::from(&taken.header()[..]);
            again.extend_from_slice(&taken.body.to_bytes());
            // Two bytes of the header say nothing.
            assert_eq!((&again[..6], &again[8..CHECKSUM_AT]), (&whole[..6], &whole[8..CHECKSUM_AT]));
            assert_eq!(again[HEADER_BYTES..], whole[HEADER_BYTES..], "what is read is written as it was");
        }
        rest = &rest[bytes.len()..];
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(body: &'static [u8]) -> Frame {
        Frame {
            role: Role::Item,
            subject: Subject::Group,
            shard: ShardId(3),
            call: 9,
            body: Payload::from(Bytes::from_static(body)),
        }
    }

    fn written(frame: &Frame) -> BytesMut {
        let mut bytes = BytesMut::from(&frame.header()[..]);
        bytes.extend_from_slice(&frame.body.to_bytes());
        bytes
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = written(&frame(b"one"));
        bytes.unsplit(written(&frame(b"")));
        for body in [&b"one"[..], b""] {
            let read = take(&mut bytes, BODY_BYTES_MAX).unwrap().unwrap();
            assert_eq!((read.role, read.subject, read.shard, read.call), (Role::Item, Subject::Group, ShardId(3), 9));
            assert_eq!(read.body.to_bytes(), body);
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_part_of_a_frame_says_what_is_missing() {
        let bytes = written(&frame(b"one"));
        for length in 0..bytes.len() {
            let wanted = take(&mut BytesMut::from(&bytes[..length]), BODY_BYTES_MAX).unwrap().unwrap_err();
            assert_eq!(wanted, if length < HEADER_BYTES { HEADER_BYTES } else { bytes.len() });
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = written(&frame(b"one"));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for bytes that never come.
            assert!(!matches!(take(&mut flipped, BODY_BYTES_MAX), Ok(Ok(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_kept() {
        let mut bytes = written(&frame(b"one"));
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(take(&mut bytes, BODY_BYTES_MAX).err(), Some(FrameError::TooLarge(u32::MAX)));
    }
}
