//! The hash by which replicas compare their states. It is not a defence against malice: it finds replicas that went
//! apart by a fault.

/// Spreads the bits of a number over all of it (the finalizer of splitmix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of bytes that is the same on every machine and in every version.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    // A CRC alone is linear, so that sums of it could cancel out; mixed, they do not.
    mix(crc_fast::crc64_nvme(bytes) ^ mix(bytes.len() as u64))
}
