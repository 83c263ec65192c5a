//! LZ4 frames with independent blocks of 64 KiB: Java's reader refuses dependent ones.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::read_bounded;
use crate::BatchError;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    // A batch holds a whole frame, of whatever length: no bytes at all are no frame.
    if compressed.is_empty() {
        return Err(BatchError::Compression { compression: "lz4" });
    }
    read_bounded(reader(compressed), "lz4", bytes_max)
}

/// Blocks have 4 MiB at most, by the format.
pub(super) fn reader(compressed: &[u8]) -> FrameDecoder<&[u8]> {
    FrameDecoder::new(compressed)
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail")
}
