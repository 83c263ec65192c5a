//! One frame: a header of 48 bytes, a payload, zeros up to a multiple of 8.
//!
//! The header's checksum covers the segment's sequence number and the frame's position in it, so
//! that neither a frame of a recycled file's former life nor one at a wrong place ever passes; and
//! a number that no client knows, so that no payload can be made to look like a frame. The
//! payload's checksum stands in the header.

use base::planted::{Planted, is_planted};
use record::{LogIndex, ShardId, Term, crc32c};

use super::position::{Position, align_up};
use crate::types::{EntryKind, LogId};
use crate::wire::{FieldReader, FieldWriter};

/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: u32 = 48;
const HEADER_LEN: usize = FRAME_HEADER_BYTES as usize;

/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGNMENT: u32 = 8;

/// The largest payload: what fits a slot of a segment's index.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = (1 << 30) - 1;

const MAGIC: u16 = 0x4d52;

/// What a frame is. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FrameKind {
    /// An entry of a shard's log; the payload is the entry's.
    Entry(EntryKind),
    /// The shard's vote: term in the header; node and whether it is committed in the payload.
    Vote,
    /// The entries behind the header's index are gone.
    Truncate,
    /// All entries of the shard are gone, and its purge mark.
    Clear,
    /// The purge mark, in the header.
    Purge,
    /// The committed mark, in the header.
    Committed,
    /// Records the synced position when no entry follows.
    Mark,
    /// The segment ends here; the log goes on in the next one.
    End,
    /// The log was opened anew: what lies behind is of this life, or is left over.
    Life,
}

impl FrameKind {
    const fn numbers(self) -> (u8, u8) {
        match self {
            Self::Entry(kind) => (1, kind.number()),
            Self::Vote => (2, 0),
            Self::Truncate => (3, 0),
            Self::Clear => (4, 0),
            Self::Purge => (5, 0),
            Self::Committed => (6, 0),
            Self::Mark => (7, 0),
            Self::End => (8, 0),
            Self::Life => (9, 0),
        }
    }

    fn from_numbers(kind: u8, entry_kind: u8) -> Option<Self> {
        match (kind, entry_kind) {
            (1, entry_kind) => EntryKind::from_number(entry_kind).map(Self::Entry),
            (2, 0) => Some(Self::Vote),
            (3, 0) => Some(Self::Truncate),
            (4, 0) => Some(Self::Clear),
            (5, 0) => Some(Self::Purge),
            (6, 0) => Some(Self::Committed),
            (7, 0) => Some(Self::Mark),
            (8, 0) => Some(Self::End),
            (9, 0) => Some(Self::Life),
            _ => None,
        }
    }
}

/// The fields of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) shard: ShardId,
    /// How often the log had been opened when the frame was written.
    pub(crate) life: u32,
    pub(crate) id: LogId,
    /// Everything before this was durable when the frame was written.
    pub(crate) synced: Position,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
}

impl FrameHeader {
    /// A frame without shard, entry or payload.
    pub(crate) const fn bare(kind: FrameKind, life: u32, synced: Position) -> Self {
        Self {
            kind,
            shard: ShardId(0),
            life,
            id: LogId { term: Term(0), index: LogIndex(0) },
            synced,
            payload_bytes: 0,
            payload_crc: 0,
        }
    }

    /// Bytes that the frame takes in the file.
    pub(crate) const fn frame_bytes(&self) -> u32 {
        frame_bytes(self.payload_bytes)
    }

    pub(crate) fn encode(&self, at: Position, salt: u64) -> [u8; HEADER_LEN] {
        assert!(self.payload_bytes <= PAYLOAD_BYTES_MAX, "a payload fits its slot");
        assert!(at.offset.is_multiple_of(FRAME_ALIGNMENT), "frames are aligned");
        let (kind, entry_kind) = self.kind.numbers();
        let mut bytes = [0; HEADER_LEN];
        FieldWriter::new(&mut bytes[4..])
            .u32(self.payload_crc)
            .u32(self.payload_bytes)
            .u8(kind)
            .u8(entry_kind)
            .u16(MAGIC)
            .u32(self.shard.0)
            .u32(self.life)
            .u64(self.id.term.0)
            .u64(self.id.index.0)
            .u64(self.synced.pack());
        let crc = header_crc(&bytes, at, salt);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at `at`, or nothing when these bytes are none that was written there.
    pub(crate) fn decode(bytes: &[u8], at: Position, salt: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_LEN>()?;
        if bytes[14..16] != MAGIC.to_le_bytes() {
            return None;
        }
        let mut fields = FieldReader::new(bytes);
        if fields.u32()? != header_crc(bytes, at, salt) {
            return None;
        }
        let payload_crc = fields.u32()?;
        let payload_bytes = fields.u32()?;
        let kind = FrameKind::from_numbers(fields.u8()?, fields.u8()?)?;
        let _magic = fields.u16()?;
        let shard = ShardId(fields.u32()?);
        let life = fields.u32()?;
        let id = LogId { term: Term(fields.u64()?), index: LogIndex(fields.u64()?) };
        let synced = Position::unpack(fields.u64()?);
        // What follows was checked when it was written; a checksum says nothing about who wrote it.
        let plausible = payload_bytes <= PAYLOAD_BYTES_MAX && synced <= at;
        plausible.then_some(Self { kind, shard, life, id, synced, payload_bytes, payload_crc })
    }
}

/// Whether an encoded header may stand here: one look before the checksum is computed.
pub(crate) fn may_be_header(bytes: &[u8]) -> bool {
    bytes.get(14..16) == Some(&MAGIC.to_le_bytes())
}

/// Bytes that a frame with such a payload takes in the file.
pub(crate) const fn frame_bytes(payload_bytes: u32) -> u32 {
    align_up(FRAME_HEADER_BYTES + payload_bytes, FRAME_ALIGNMENT)
}

fn header_crc(header: &[u8; HEADER_LEN], at: Position, salt: u64) -> u32 {
    let mut covered = [0; HEADER_LEN + 12];
    let at = if is_planted(Planted::FormerLifeAccepted) { Position::new(0, at.offset) } else { at };
    covered[..8].copy_from_slice(&at.pack().to_le_bytes());
    covered[8..16].copy_from_slice(&salt.to_le_bytes());
    covered[16..].copy_from_slice(&header[4..]);
    crc32c(&covered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 42;
    const AT: Position = Position::new(7, 4096);

    fn entry() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry(EntryKind::Commands),
            shard: ShardId(3),
            life: 2,
            id: LogId { term: Term(5), index: LogIndex(99) },
            synced: Position::new(6, 8),
            payload_bytes: 1_000,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_frame_passes_only_where_it_was_written() {
        let bytes = entry().encode(AT, SALT);
        assert_eq!(FrameHeader::decode(&bytes, AT, SALT), Some(entry()));
        assert_eq!(FrameHeader::decode(&bytes, Position::new(8, 4096), SALT), None);
        assert_eq!(FrameHeader::decode(&bytes, Position::new(7, 4104), SALT), None);
        assert_eq!(FrameHeader::decode(&bytes, AT, SALT + 1), None);
        assert_eq!(FrameHeader::decode(&bytes[..47], AT, SALT), None);
        assert_eq!(FrameHeader::decode(&[0; 48], AT, SALT), None);
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = entry().encode(AT, SALT);
        assert_eq!(bytes.len(), 48);
        assert_eq!(&bytes[4..8], &0xdead_beef_u32.to_le_bytes());
        assert_eq!(&bytes[8..12], &1_000_u32.to_le_bytes());
        assert_eq!(&bytes[12..16], &[1, 2, b'R', b'M']);
        assert_eq!(&bytes[16..20], &3_u32.to_le_bytes());
        assert_eq!(&bytes[20..24], &2_u32.to_le_bytes());
        assert_eq!(&bytes[24..32], &5_u64.to_le_bytes());
        assert_eq!(&bytes[32..40], &99_u64.to_le_bytes());
        assert_eq!(&bytes[40..48], &(6_u64 << 32 | 8).to_le_bytes());
        assert_eq!(frame_bytes(0), 48);
        assert_eq!(frame_bytes(1), 56);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes(bit in 0..48_usize * 8) {
            let mut bytes = entry().encode(AT, SALT);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes, AT, SALT), None);
        }

        #[test]
        fn any_bytes_are_no_panic(bytes: [u8; 48], packed: u64) {
            let _ = FrameHeader::decode(&bytes, Position::unpack(packed), SALT);
        }
    }
}
