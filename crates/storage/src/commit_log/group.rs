//! One write being put together: frames copied behind one another into the staging buffer.
//!
//! The copy costs a fraction of what the kernel's own copy into fresh pages of the page cache does,
//! and lets large writes go past that cache: see `docs/adr/0002-direct-writes.md`.

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use record::crc32c;

use super::footer::Slot;
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader};
use super::position::{Position, align_up};
use super::request::Done;
use super::shard_state::{ShardState, Taken};
use super::staging::Staging;
use crate::types::LogId;

pub(crate) struct Group {
    pub(crate) staging: Staging,
    pub(crate) effects: Vec<Effect>,
    pub(crate) dones: Vec<Done>,
    /// The payload bytes and entries that it brings.
    pub(crate) entries: u64,
    pub(crate) payload_bytes: u64,
}

/// What readers learn once the group is in the file, in order.
pub(crate) enum Effect {
    Entries { shard: Arc<ShardState>, entries: Vec<(LogId, Slot)>, taken: Taken },
    Truncate { shard: Arc<ShardState>, from: u64 },
}

impl Group {
    /// A group at `position`; `before` is what the file has in that block before it.
    pub(crate) fn new(position: u32, before: &[u8]) -> Self {
        let staging = Staging::new(position, before);
        Self { staging, effects: Vec::new(), dones: Vec::new(), entries: 0, payload_bytes: 0 }
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u32 {
        self.staging.end()
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u32 {
        self.staging.fresh_bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a frame at the group's end; `header` lacks only what is computed here.
    pub(crate) fn frame(&mut self, sequence: u32, salt: u64, mut header: FrameHeader, payload: &[Bytes]) {
        header.payload_crc = payload_crc(payload);
        debug_assert_eq!(header.payload_bytes as usize, payload.iter().map(Bytes::len).sum::<usize>());
        let at = Position::new(sequence, self.end());
        self.staging.extend(&header.encode(at, salt));
        for buffer in payload {
            self.staging.extend(buffer);
        }
        let unpadded = FRAME_HEADER_BYTES + header.payload_bytes;
        self.staging.extend_zeros((align_up(unpadded, FRAME_ALIGNMENT) - unpadded) as usize);
        assert!(self.end().is_multiple_of(FRAME_ALIGNMENT), "frames end aligned");
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a CRC32 has 32 bits")]
fn payload_crc(buffers: &[Bytes]) -> u32 {
    match buffers {
        [] => crc32c(b""),
        [only] => crc32c(only),
        several => {
            let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
            for buffer in several {
                digest.update(buffer);
            }
            digest.finalize() as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_log::frame::FrameKind;

    #[test]
    fn a_group_is_its_frames_and_zeros_to_the_block() {
        let mut group = Group::new(4096, b"");
        let payload = [Bytes::from(vec![1; 5_000]), Bytes::from_static(b"small")];
        let header = FrameHeader { payload_bytes: 5_005, ..FrameHeader::bare(FrameKind::Mark, 1, Position::default()) };
        group.frame(3, 9, header, &payload);
        let end = group.end();
        let (position, bytes) = group.staging.blocks();
        assert_eq!((position, bytes.len()), (4096, 8_192));
        let found = FrameHeader::decode(bytes, Position::new(3, 4096), 9).unwrap();
        assert_eq!(found.payload_crc, crc32c(&bytes[48..48 + 5_005]));
        assert_eq!(end, 4096 + found.frame_bytes());
    }
}
