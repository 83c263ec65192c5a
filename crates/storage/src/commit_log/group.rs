//! One write being put together: headers and small payloads joined in one buffer, larger payloads
//! by reference.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use record::crc32c;

use super::footer::Slot;
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader};
use super::position::{Position, align_up};
use super::request::Done;
use super::shard_state::{ShardState, Taken};
use crate::types::LogId;

/// Buffers below this are copied next to the headers: cheaper than one more element of the write.
const SHARED_BYTES_MIN: usize = 2048;

/// Memory that an idle group keeps for the next one.
const STAGING_KEPT_BYTES: usize = 1 << 20;

/// Writes end at a page's end, so that no page of a file that is not cached has to be read first.
pub(crate) const PAGE_BYTES: u32 = 4096;
static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

#[derive(Default)]
pub(crate) struct Group {
    /// Where the group begins in its segment, and its bytes so far.
    pub(crate) start: u32,
    pub(crate) len: u32,
    staging: Vec<u8>,
    pieces: Vec<Piece>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) dones: Vec<Done>,
    /// Appends in it; the payload bytes and entries they brought.
    pub(crate) appends: usize,
    pub(crate) entries: u64,
    pub(crate) payload_bytes: u64,
}

enum Piece {
    Staged(Range<usize>),
    Shared(Bytes),
}

/// What readers learn once the group is in the file, in order.
pub(crate) enum Effect {
    Entries { shard: Arc<ShardState>, entries: Vec<(LogId, Slot)>, taken: Taken },
    Truncate { shard: Arc<ShardState>, from: u64 },
}

impl Group {
    pub(crate) fn begin(&mut self, start: u32) {
        assert!(self.pieces.is_empty() && self.dones.is_empty(), "the group before was written");
        self.start = start;
        self.len = 0;
        self.appends = 0;
        self.entries = 0;
        self.payload_bytes = 0;
        self.staging.clear();
        self.staging.shrink_to(STAGING_KEPT_BYTES);
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a frame at the group's end; `header` lacks only what is computed here.
    pub(crate) fn frame(&mut self, sequence: u32, salt: u64, mut header: FrameHeader, payload: &[Bytes]) {
        header.payload_crc = payload_crc(payload);
        debug_assert_eq!(header.payload_bytes as usize, payload.iter().map(Bytes::len).sum::<usize>());
        let at = Position::new(sequence, self.end());
        self.stage(&header.encode(at, salt));
        for buffer in payload {
            if buffer.len() < SHARED_BYTES_MIN {
                self.stage(buffer);
            } else {
                self.len += u32::try_from(buffer.len()).expect("a payload fits its slot");
                self.pieces.push(Piece::Shared(buffer.clone()));
            }
        }
        let unpadded = FRAME_HEADER_BYTES + header.payload_bytes;
        self.stage(&ZEROS[..(align_up(unpadded, FRAME_ALIGNMENT) - unpadded) as usize]);
        assert!(self.end().is_multiple_of(FRAME_ALIGNMENT), "frames end aligned");
    }

    /// Adds bytes that are no frame.
    pub(crate) fn stage(&mut self, bytes: &[u8]) {
        let from = self.staging.len();
        self.staging.extend_from_slice(bytes);
        self.len += u32::try_from(bytes.len()).expect("a group is smaller than a segment");
        match self.pieces.last_mut() {
            Some(Piece::Staged(range)) if range.end == from => range.end = self.staging.len(),
            _ => self.pieces.push(Piece::Staged(from..self.staging.len())),
        }
    }

    /// The group's bytes, padded to the end of a page.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let padding = align_up(self.end(), PAGE_BYTES) - self.end();
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Staged(range) => IoSlice::new(&self.staging[range.clone()]),
            Piece::Shared(bytes) => IoSlice::new(bytes),
        });
        pieces.chain(std::iter::once(IoSlice::new(&ZEROS[..padding as usize]))).collect()
    }

    /// Where the padded write ends.
    pub(crate) fn padded_end(&self) -> u32 {
        align_up(self.end(), PAGE_BYTES)
    }

    pub(crate) fn clear_pieces(&mut self) {
        self.pieces.clear();
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
    fn a_group_is_its_frames_and_zeros_to_the_page() {
        let mut group = Group::default();
        group.begin(4096);
        let payload = [Bytes::from(vec![1; 5_000]), Bytes::from_static(b"small")];
        let header = FrameHeader { payload_bytes: 5_005, ..FrameHeader::bare(FrameKind::Mark, 1, Position::default()) };
        group.frame(3, 9, header, &payload);
        let bytes: Vec<u8> = group.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(bytes.len(), 8_192);
        assert_eq!(group.padded_end(), 12_288);
        let found = FrameHeader::decode(&bytes, Position::new(3, 4096), 9).unwrap();
        assert_eq!(found.payload_crc, crc32c(&bytes[48..48 + 5_005]));
        assert_eq!(group.end(), 4096 + found.frame_bytes());
    }
}
