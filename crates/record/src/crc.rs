//! The CRC32C of a batch: over everything from the attributes on.

use crate::header::CRC_START;

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

#[cfg(test)]
mod tests {
    use super::*;

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
