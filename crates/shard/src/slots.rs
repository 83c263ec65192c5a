//! Groups, transactional ids and client ids hash to slots, and slots are on shards, so that adding shards moves slots
//! and no names.

/// How many slots there are, for ever.
pub const SLOTS: u16 = 1024;

/// The slot of a name: CRC32C of its bytes, modulo the number of slots.
#[must_use]
pub fn slot_of(name: &str) -> u16 {
    let slot = record::crc32c(name.as_bytes()) % u32::from(SLOTS);
    u16::try_from(slot).expect("a remainder of 1024 fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_change() {
        assert_eq!(slot_of(""), 0);
        assert_eq!(slot_of("123456789"), 0xe306_9283_u32.rem_euclid(1024).try_into().unwrap());
        assert_eq!(slot_of("group"), slot_of("group"));
    }
}
