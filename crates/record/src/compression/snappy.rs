//! Snappy in both forms that clients write: the bare block format, and the framing of the Java library (xerial).
//!
//! ```text
//! xerial: | 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version | compatible | length | block | length | block | ..
//!                                           4 bytes   4 bytes      4 bytes, all big-endian
//! ```

use std::io::{self, Read};

use crate::BatchError;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;
const XERIAL_BLOCK: usize = 32 * 1024;
const CORRUPT: BatchError = BatchError::Compression { compression: "snappy" };

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let mut blocks = Blocks::new(compressed)?;
    while let Some(block) = blocks.next_block()? {
        append_block(block, bytes_max, &mut out)?;
    }
    Ok(out)
}

/// Reads block by block; one that is larger than `held_max` is an error.
pub(super) fn reader(compressed: &[u8], held_max: usize) -> Result<BlockReader<'_>, BatchError> {
    Ok(BlockReader { blocks: Blocks::new(compressed)?, held_max, block: Vec::new(), position: 0 })
}

/// The compressed blocks one after the other.
#[derive(Debug)]
struct Blocks<'a> {
    framed: bool,
    rest: Option<&'a [u8]>,
}

impl<'a> Blocks<'a> {
    fn new(compressed: &'a [u8]) -> Result<Self, BatchError> {
        let framed = compressed.starts_with(&XERIAL_MAGIC);
        let rest = if framed { compressed.get(XERIAL_HEADER..).ok_or(CORRUPT)? } else { compressed };
        Ok(Self { framed, rest: Some(rest) })
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        let Some(mut rest) = self.rest.take() else { return Ok(None) };
        if !self.framed {
            return Ok(Some(rest));
        }
        // Concatenated streams each begin with a header of their own.
        while rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER..).ok_or(CORRUPT)?;
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(CORRUPT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CORRUPT)?;
        let (block, behind) = behind.split_at_checked(length).ok_or(CORRUPT)?;
        self.rest = Some(behind);
        Ok(Some(block))
    }
}

/// What the blocks hold, as one stream.
#[derive(Debug)]
pub(super) struct BlockReader<'a> {
    blocks: Blocks<'a>,
    held_max: usize,
    block: Vec<u8>,
    position: usize,
}

impl Read for BlockReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            let Some(block) = self.blocks.next_block().map_err(io::Error::other)? else { return Ok(0) };
            self.block.clear();
            self.position = 0;
            append_block(block, self.held_max, &mut self.block).map_err(io::Error::other)?;
        }
        let bytes = buffer.len().min(self.block.len() - self.position);
        buffer[..bytes].copy_from_slice(&self.block[self.position..self.position + bytes]);
        self.position += bytes;
        Ok(bytes)
    }
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
