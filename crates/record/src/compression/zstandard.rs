//! zstd frames. The window is bounded at 128 MiB, the largest that the reference tool reads without being told to.

use super::read_bounded;
use crate::BatchError;

const CORRUPT: BatchError = BatchError::Compression { compression: "zstd" };
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    if compressed.is_empty() {
        return Err(CORRUPT);
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(|_| CORRUPT)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| CORRUPT)?;
    read_bounded(decoder, "zstd", bytes_max)
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL).expect("writing to memory does not fail")
}
