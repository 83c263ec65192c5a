//! zstd frames. The window is bounded at 128 MiB, the largest that the reference tool reads without being told to.

use zstd::stream::read::Decoder;

use super::read_bounded;
use crate::BatchError;

const CORRUPT: BatchError = BatchError::Compression { compression: "zstd" };
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    if compressed.is_empty() {
        return Err(CORRUPT);
    }
    read_bounded(decoder(compressed, WINDOW_LOG_MAX)?, "zstd", bytes_max)
}

/// A window larger than `held_max` is an error of the reader.
pub(super) fn reader(compressed: &[u8], held_max: usize) -> Result<Decoder<'_, &[u8]>, BatchError> {
    decoder(compressed, held_max.max(1024).ilog2().min(WINDOW_LOG_MAX))
}

fn decoder(compressed: &[u8], window_log_max: u32) -> Result<Decoder<'_, &[u8]>, BatchError> {
    let mut decoder = Decoder::with_buffer(compressed).map_err(|_| CORRUPT)?;
    decoder.window_log_max(window_log_max).map_err(|_| CORRUPT)?;
    Ok(decoder)
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL).expect("writing to memory does not fail")
}
