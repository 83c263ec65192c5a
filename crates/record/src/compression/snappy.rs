//! Snappy in both forms that clients write: the bare block format, and the framing of the Java library (xerial).
//!
//! ```text
//! xerial: | 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version | compatible | length | block | length | block | ..
//!                                           4 bytes   4 bytes      4 bytes, all big-endian
//! ```

use crate::BatchError;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;
const XERIAL_BLOCK: usize = 32 * 1024;
const CORRUPT: BatchError = BatchError::Compression { compression: "snappy" };

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !compressed.starts_with(&XERIAL_MAGIC) {
        append_block(compressed, bytes_max, &mut out)?;
        return Ok(out);
    }
    let mut rest = compressed.get(XERIAL_HEADER..).ok_or(CORRUPT)?;
    while !rest.is_empty() {
        // Concatenated streams each begin with a header of their own.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER..).ok_or(CORRUPT)?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(CORRUPT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CORRUPT)?;
        let block = behind.get(..length).ok_or(CORRUPT)?;
        append_block(block, bytes_max, &mut out)?;
        rest = &behind[length..];
    }
    Ok(out)
}

fn append_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let length = snap::raw::decompress_len(block).map_err(|_| CORRUPT)?;
    let from = out.len();
    if length > bytes_max - from {
        return Err(BatchError::TooLarge { bytes_max });
    }
    // A block expands at most 64 bytes from 3 (a copy element): a claim of more is a lie, and is not allocated for.
    if length > block.len().saturating_mul(24).saturating_add(64) {
        return Err(CORRUPT);
    }
    out.resize(from + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(|_| CORRUPT)?;
    out.truncate(from + written);
    Ok(())
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER + plain.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.extend_from_slice(&1_u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK) {
        let compressed = encoder.compress_vec(block).expect("a block of 32 KiB is never too large");
        let length = u32::try_from(compressed.len()).expect("a block of 32 KiB stays far below 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    out
}
