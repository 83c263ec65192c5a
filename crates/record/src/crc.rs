//! The CRC32C of a batch: over everything from the attributes on.

use bytes::Bytes;

use crate::header::{BATCH_OVERHEAD, CRC_START, LENGTH_OVERHEAD, MAGIC};

/// CRC32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC32C of two pieces as if they were one.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a CRC32 has 32 bits")]
pub fn crc32c_of_two(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    digest.finalize() as u32
}

/// What a batch's CRC field must say; `batch` is at least a header long.
pub(crate) fn batch_crc(batch: &[u8]) -> u32 {
    crc32c(&batch[CRC_START..])
}

/// Whether pieces are, one behind the other, a batch as its producer sealed it: of the length that it states, and with the
/// checksum over all but its first 21 bytes. Those it says nothing of: base offset, length, leader epoch and magic.
#[must_use]
pub fn batch_is_whole(pieces: &[Bytes]) -> bool {
    let mut head = [0; CRC_START];
    let len: usize = pieces.iter().map(Bytes::len).sum();
    if len < BATCH_OVERHEAD {
        return false;
    }
    for (place, byte) in head.iter_mut().zip(pieces.iter().flat_map(|piece| piece.iter())) {
        *place = *byte;
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut skip = CRC_START;
    for piece in pieces {
        let skipped = skip.min(piece.len());
        digest.update(&piece[skipped..]);
        skip -= skipped;
    }
    let stated = usize::try_from(i32::from_be_bytes([head[8], head[9], head[10], head[11]]));
    let crc = u32::from_be_bytes([head[17], head[18], head[19], head[20]]);
    head[16].cast_signed() == MAGIC
        && stated.is_ok_and(|stated| stated.checked_add(LENGTH_OVERHEAD) == Some(len))
        && digest.finalize() == u64::from(crc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Compression, TimestampMs};

    #[test]
    fn a_batch_in_pieces_is_known_to_be_whole() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(TimestampMs(5), None, Some(&[7; 100]), &[]).unwrap();
        let batch = builder.build().unwrap();
        let len = batch.len();
        for cuts in [vec![], vec![1], vec![10, 19], vec![21], vec![22, 60], vec![len - 1]] {
            let ends = cuts.iter().copied().chain([len]);
            let starts = [0].into_iter().chain(cuts.iter().copied());
            let pieces = |batch: &Bytes| {
                starts.clone().zip(ends.clone()).map(|(from, to)| batch.slice(from..to)).collect::<Vec<_>>()
            };
            assert!(batch_is_whole(&pieces(&batch)), "{cuts:?}");
            for place in 0..len {
                let mut flipped = batch.to_vec();
                flipped[place] ^= 1;
                // Base offset and epoch are written over.
                let is_free = place < 8 || (12..16).contains(&place);
                assert_eq!(batch_is_whole(&pieces(&flipped.into())), is_free, "byte {place}");
            }
        }
        for short in [&[][..], &batch[..1], &batch[..60], &batch[..len - 1]] {
            assert!(!batch_is_whole(&[Bytes::copy_from_slice(short)]));
        }
    }

    #[test]
    fn check_value_of_the_polynomial() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn two_pieces_are_as_one() {
        assert_eq!(crc32c_of_two(b"1234", b"56789"), 0xe306_9283);
        assert_eq!(crc32c_of_two(b"", b"123456789"), 0xe306_9283);
    }
}
