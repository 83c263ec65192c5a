//! The four compressions, in and out. Decompression stops at a limit that the caller sets: whatever the bytes claim,
//! no more than that is ever held.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use std::borrow::Cow;
use std::io::Read;

use crate::{BatchError, Compression};

/// Decompresses `compressed` into at most `bytes_max` bytes. Never panics, whatever the bytes are.
pub fn decompress(compression: Compression, compressed: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, BatchError> {
    match compression {
        Compression::None if compressed.len() > bytes_max => Err(BatchError::TooLarge { bytes_max }),
        Compression::None => Ok(Cow::Borrowed(compressed)),
        Compression::Gzip => gzip::decompress(compressed, bytes_max).map(Cow::Owned),
        Compression::Snappy => snappy::decompress(compressed, bytes_max).map(Cow::Owned),
        Compression::Lz4 => lz4::decompress(compressed, bytes_max).map(Cow::Owned),
        Compression::Zstd => zstandard::decompress(compressed, bytes_max).map(Cow::Owned),
    }
}

/// Reads `compressed` piece by piece. What is held at a time is a block or window of the format, `held_max` at most:
/// data that needs more is refused.
pub(crate) fn reader(
    compression: Compression,
    compressed: &[u8],
    held_max: usize,
) -> Result<Box<dyn Read + '_>, BatchError> {
    Ok(match compression {
        Compression::None => Box::new(compressed),
        Compression::Gzip => Box::new(gzip::reader(compressed)),
        Compression::Snappy => Box::new(snappy::reader(compressed, held_max)?),
        Compression::Lz4 => Box::new(lz4::reader(compressed)),
        Compression::Zstd => Box::new(zstandard::reader(compressed, held_max)?),
    })
}

/// Compresses as Kafka's own clients do, so that every client can read it.
pub(crate) fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => plain.to_vec(),
        Compression::Gzip => gzip::compress(plain),
        Compression::Snappy => snappy::compress(plain),
        Compression::Lz4 => lz4::compress(plain),
        Compression::Zstd => zstandard::compress(plain),
    }
}

/// Reads to the end or to the limit; memory grows with what was really decompressed, not with what is claimed.
fn read_bounded(reader: impl Read, name: &'static str, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|_| BatchError::Compression { compression: name })?;
    if out.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes_max });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
