//! One log entry of commands: a header, the command section, and behind it the bodies of those commands that have
//! one, in the order of the commands. `apply` reads header and command section only, which are the front of the first
//! buffer; bodies are read in place when someone fetches them.
//!
//! ```text
//!  0        1          4             8           12            16      24
//!  | format | reserved | head bytes  | commands  | body bytes  | time  | command | command | .. | body | body | ..
//!    1 byte   3          4             4           4             8                               ^ head bytes
//! ```

use bytes::{Bytes, BytesMut};
use record::TimestampMs;

use crate::codec::{DecodeError, Reader};
use crate::command::Command;

/// The only format of an entry so far.
const FORMAT: u8 = 1;
/// Bytes of the header.
pub const ENTRY_HEADER_BYTES: usize = 24;
/// Bodies of so many bytes stay buffers of their own; smaller ones are joined.
pub const BODY_JOINED_BYTES: usize = 2048;

/// What stands in front of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Header and command section.
    pub head_bytes: u32,
    pub commands: u32,
    /// All bodies.
    pub body_bytes: u32,
    /// The leader's clock when it proposed the entry.
    pub time: TimestampMs,
}

impl EntryHeader {
    /// Reads the header at the front of an entry's payload.
    pub fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(payload);
        let [format, _, _, _] = input.array()?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat { version: format });
        }
        Ok(Self {
            head_bytes: u32::from_le_bytes(input.array()?),
            commands: u32::from_le_bytes(input.array()?),
            body_bytes: u32::from_le_bytes(input.array()?),
            time: TimestampMs(i64::from_le_bytes(input.array()?)),
        })
    }

    fn to_bytes(self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        bytes[0] = FORMAT;
        bytes[4..8].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.commands.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time.0.to_le_bytes());
        bytes
    }
}

/// Header and command section of an entry, given its first 16 bytes: how much must be read to apply it. `None` if
/// the bytes are too few or not those of an entry.
#[must_use]
pub fn entry_head_bytes(front: &[u8]) -> Option<usize> {
    let (format, _) = front.split_first()?;
    let field: [u8; 4] = front.get(4..8)?.try_into().ok()?;
    (*format == FORMAT).then(|| usize::try_from(u32::from_le_bytes(field)).ok()).flatten()
}

/// Gathers commands and their bodies into one entry.
#[derive(Debug, Default)]
pub struct EntryBuilder {
    head: Vec<u8>,
    commands: u32,
    body_bytes: usize,
    bodies: Vec<Bytes>,
    joined: BytesMut,
}

impl EntryBuilder {
    #[must_use]
    pub fn new() -> Self {
        let mut head = Vec::with_capacity(256);
        head.resize(ENTRY_HEADER_BYTES, 0);
        Self { head, commands: 0, body_bytes: 0, bodies: Vec::new(), joined: BytesMut::new() }
    }

    /// Adds a command with its body, in one piece or several, and returns its place among the entry's commands. The
    /// body has exactly the bytes that the command says.
    pub fn push(&mut self, command: &Command, body: impl IntoIterator<Item = Bytes>) -> usize {
        command.encode(&mut self.head);
        let before = self.body_bytes;
        for piece in body {
            self.body_bytes += piece.len();
            if piece.len() >= BODY_JOINED_BYTES {
                self.flush_joined();
                self.bodies.push(piece);
            } else {
                self.joined.extend_from_slice(&piece);
            }
        }
        assert_eq!(
            u64::try_from(self.body_bytes - before).ok(),
            Some(u64::from(command.body_bytes())),
            "the body of {} is not as long as the command says",
            command.name()
        );
        self.commands += 1;
        self.commands as usize - 1
    }

    /// Bytes of the entry so far.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.head.len() + self.body_bytes
    }

    #[must_use]
    pub const fn commands(&self) -> usize {
        self.commands as usize
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// The entry as a list of buffers: the first is header and command section, the others are the bodies.
    #[must_use]
    pub fn finish(mut self, time: TimestampMs) -> Vec<Bytes> {
        self.flush_joined();
        let bytes = |length: usize| u32::try_from(length).expect("an entry stays far below 4 GiB");
        let header = EntryHeader {
            head_bytes: bytes(self.head.len()),
            commands: self.commands,
            body_bytes: bytes(self.body_bytes),
            time,
        };
        self.head[..ENTRY_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let mut buffers = Vec::with_capacity(1 + self.bodies.len());
        buffers.push(Bytes::from(self.head));
        buffers.append(&mut self.bodies);
        buffers
    }

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            self.bodies.push(self.joined.split().freeze());
        }
    }
}

/// The commands of an entry, one after the other, with the place of each one's body.
#[derive(Clone, Debug)]
pub struct EntryCommands<'a> {
    header: EntryHeader,
    input: Reader<'a>,
    left: u32,
    position: u64,
}

/// One command of an entry and where its body is: `position` counts from the start of the entry's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedCommand {
    pub command: Command,
    pub position: u32,
}

impl<'a> EntryCommands<'a> {
    /// `head` is header and command section; more bytes behind them are not read.
    pub fn parse(head: &'a [u8]) -> Result<Self, DecodeError> {
        let header = EntryHeader::parse(head)?;
        let head_bytes = usize::try_from(header.head_bytes).map_err(|_| DecodeError::Short)?;
        let section =
            head.get(..head_bytes).and_then(|head| head.get(ENTRY_HEADER_BYTES..)).ok_or(DecodeError::Short)?;
        // Every position in the payload must fit its 32 bits.
        let end = u64::from(header.head_bytes) + u64::from(header.body_bytes);
        if end > u64::from(u32::MAX) {
            return Err(DecodeError::Value { what: "the bytes of an entry", value: end });
        }
        Ok(Self { header, input: Reader::new(section), left: header.commands, position: u64::from(header.head_bytes) })
    }

    #[must_use]
    pub const fn header(&self) -> EntryHeader {
        self.header
    }

    fn read(&mut self) -> Result<PlacedCommand, DecodeError> {
        let command = Command::decode(&mut self.input)?;
        let end = u64::from(self.header.head_bytes) + u64::from(self.header.body_bytes);
        let position = self.position;
        self.position += u64::from(command.body_bytes());
        if self.position > end {
            return Err(DecodeError::Value { what: "the place of a body", value: self.position });
        }
        let position = u32::try_from(position).map_err(|_| DecodeError::Short)?;
        Ok(PlacedCommand { command, position })
    }

    /// The next command, or `None` behind the last one, when nothing may be left.
    pub fn next_command(&mut self) -> Result<Option<PlacedCommand>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            self.input.clone().finish()?;
            let end = u64::from(self.header.head_bytes) + u64::from(self.header.body_bytes);
            if self.position != end {
                return Err(DecodeError::Value { what: "the bytes of all bodies", value: self.position });
            }
            return Ok(None);
        };
        self.left = left;
        self.read().map(Some)
    }
}
