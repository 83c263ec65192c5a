//! The first page of a segment: vote, bounds, purge and committed marks of every shard as they
//! were where the segment begins, so that no older segment is needed for them.

use base::planted::{Planted, is_planted};
use record::{LogIndex, NodeId, ShardId, Term, crc32c};

use super::LogState;
use super::position::{Position, align_up};
use crate::types::{LogId, Vote};
use crate::wire::{FieldReader, FieldWriter};

/// Headers take a multiple of this; frames begin behind.
pub(crate) const HEADER_ALIGNMENT: u32 = 4096;
const FIXED_BYTES: usize = 56;
const SHARD_BYTES: usize = 72;

/// More shards than a node ever has; bounds what a header may claim.
const SHARDS_MAX: usize = 16_384;

const MAGIC: &[u8; 8] = b"RMQSEGM\0";
const VERSION: u32 = 1;

const HAS_VOTE: u32 = 1;
const VOTE_COMMITTED: u32 = 2;
const HAS_LAST: u32 = 4;
const HAS_PURGED: u32 = 8;
const HAS_COMMITTED: u32 = 16;

/// What stands at the start of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) sequence: u32,
    pub(crate) life: u32,
    /// Bytes of the file.
    pub(crate) capacity: u32,
    pub(crate) synced: Position,
    /// What every frame's checksum covers besides its place.
    pub(crate) salt: u64,
    pub(crate) shards: Vec<(ShardId, LogState)>,
}

impl SegmentHeader {
    /// Bytes of the header with that many shards: where the first frame stands.
    pub(crate) fn bytes_for(shards: usize) -> u32 {
        assert!(shards <= SHARDS_MAX, "a node has no more than {SHARDS_MAX} shards");
        let bytes = u32::try_from(FIXED_BYTES + shards * SHARD_BYTES).expect("bounded by SHARDS_MAX");
        align_up(bytes, HEADER_ALIGNMENT)
    }

    pub(crate) fn header_bytes(&self) -> u32 {
        Self::bytes_for(self.shards.len())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let header_bytes = self.header_bytes();
        let mut bytes = vec![0; header_bytes as usize];
        let mut fields = FieldWriter::new(&mut bytes);
        fields
            .bytes(MAGIC)
            .u32(0)
            .u32(VERSION)
            .u32(header_bytes)
            .u32(self.sequence)
            .u32(self.life)
            .u32(self.capacity)
            .u64(self.synced.pack())
            .u64(self.salt)
            .u32(u32::try_from(self.shards.len()).expect("bounded by SHARDS_MAX"))
            .u32(0);
        for (shard, state) in &self.shards {
            encode_shard(&mut fields, *shard, state);
        }
        let crc = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// How long the header says that it is, from its first bytes; checked only by [`Self::decode`].
    pub(crate) fn claimed_bytes(start: &[u8]) -> Option<u32> {
        let mut fields = FieldReader::new(start);
        if fields.array::<8>()? != *MAGIC {
            return None;
        }
        let (_crc, version, header_bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let plausible = version == VERSION
            && header_bytes.is_multiple_of(HEADER_ALIGNMENT)
            && (HEADER_ALIGNMENT..=Self::bytes_for(SHARDS_MAX)).contains(&header_bytes);
        plausible.then_some(header_bytes)
    }

    /// The header of segment `sequence`, or nothing when these bytes are not one.
    pub(crate) fn decode(bytes: &[u8], sequence: u32) -> Option<Self> {
        let header_bytes = Self::claimed_bytes(bytes)?;
        let bytes = bytes.get(..header_bytes as usize)?;
        let mut fields = FieldReader::new(&bytes[8..]);
        let crc = fields.u32()?;
        let mut covered = bytes.to_vec();
        covered[8..12].fill(0);
        if crc != crc32c(&covered) {
            return None;
        }
        let (_version, _header_bytes) = (fields.u32()?, fields.u32()?);
        let found = fields.u32()?;
        let (life, capacity) = (fields.u32()?, fields.u32()?);
        let synced = Position::unpack(fields.u64()?);
        let salt = fields.u64()?;
        let count = fields.u32()? as usize;
        let _reserved = fields.u32()?;
        let found = if is_planted(Planted::FormerLifeAccepted) { sequence } else { found };
        if found != sequence || count > SHARDS_MAX || Self::bytes_for(count) != header_bytes {
            return None;
        }
        let shards = (0..count).map(|_| decode_shard(&mut fields)).collect::<Option<Vec<_>>>()?;
        Some(Self { sequence, life, capacity, synced, salt, shards })
    }
}

fn encode_shard(fields: &mut FieldWriter<'_>, shard: ShardId, state: &LogState) {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let vote = state.vote.unwrap_or(Vote { term: Term(0), node_id: NodeId(0), committed: false });
    let flags = flag(state.vote.is_some(), HAS_VOTE)
        | flag(vote.committed, VOTE_COMMITTED)
        | flag(state.last.is_some(), HAS_LAST)
        | flag(state.purged.is_some(), HAS_PURGED)
        | flag(state.committed.is_some(), HAS_COMMITTED);
    fields.u32(shard.0).u32(flags).u64(vote.term.0).u64(vote.node_id.0);
    for id in [state.last, state.purged, state.committed] {
        let id = id.unwrap_or(LogId { term: Term(0), index: LogIndex(0) });
        fields.u64(id.term.0).u64(id.index.0);
    }
}

fn decode_shard(fields: &mut FieldReader<'_>) -> Option<(ShardId, LogState)> {
    let shard = ShardId(fields.u32()?);
    let flags = fields.u32()?;
    let vote =
        Vote { term: Term(fields.u64()?), node_id: NodeId(fields.u64()?), committed: flags & VOTE_COMMITTED != 0 };
    let mut id = |bit: u32| -> Option<Option<LogId>> {
        let id = LogId { term: Term(fields.u64()?), index: LogIndex(fields.u64()?) };
        Some((flags & bit != 0).then_some(id))
    };
    let (last, purged, committed) = (id(HAS_LAST)?, id(HAS_PURGED)?, id(HAS_COMMITTED)?);
    let vote = (flags & HAS_VOTE != 0).then_some(vote);
    Some((shard, LogState { purged, last, vote, committed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(shards: usize) -> SegmentHeader {
        let id = |index| Some(LogId { term: Term(3), index: LogIndex(index) });
        let vote = Some(Vote { term: Term(4), node_id: NodeId(5), committed: true });
        let state = LogState { purged: id(1), last: id(9), vote, committed: id(8) };
        let shards = (0..shards).map(|shard| (ShardId(u32::try_from(shard).unwrap()), state)).collect();
        SegmentHeader { sequence: 6, life: 2, capacity: 1 << 22, synced: Position::new(5, 8), salt: 11, shards }
    }

    #[test]
    fn what_is_written_is_read() {
        for shards in [0, 1, 56, 57, 1_000] {
            let bytes = header(shards).encode();
            assert_eq!(SegmentHeader::decode(&bytes, 6), Some(header(shards)));
            assert_eq!(SegmentHeader::decode(&bytes, 7), None, "a former life");
        }
        let empty = SegmentHeader { shards: vec![(ShardId(1), LogState::default())], ..header(0) };
        assert_eq!(SegmentHeader::decode(&empty.encode(), 6), Some(empty));
    }

    #[test]
    fn the_layout_is_as_documented() {
        assert_eq!(SegmentHeader::bytes_for(0), 4096);
        assert_eq!(SegmentHeader::bytes_for(56), 4096);
        assert_eq!(SegmentHeader::bytes_for(57), 8192);
        let bytes = header(1).encode();
        assert_eq!(&bytes[..8], MAGIC);
        assert_eq!(&bytes[20..24], &6_u32.to_le_bytes());
        assert_eq!(&bytes[56..60], &0_u32.to_le_bytes(), "the first shard");
        assert_eq!(&bytes[120..128], &8_u64.to_le_bytes(), "its committed index");
    }

    #[test]
    fn a_flipped_bit_never_passes() {
        let bytes = header(2).encode();
        for bit in 0..200 * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped, 6), None, "bit {bit}");
        }
    }
}
