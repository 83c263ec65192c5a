//! gzip, several members in a row as one stream, as Java's reader has it.

use std::io::Write;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::read_bounded;
use crate::BatchError;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    read_bounded(reader(compressed), "gzip", bytes_max)
}

pub(super) fn reader(compressed: &[u8]) -> MultiGzDecoder<&[u8]> {
    MultiGzDecoder::new(compressed)
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}
