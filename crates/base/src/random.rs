//! Randomness: the operating system's, or a seed's.

use std::fmt::Debug;

use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};

/// A source of random bits.
pub trait Random: Send + Sync + Debug {
    fn next_u64(&self) -> u64;

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    /// A version 4 UUID (RFC 9562, section 5.4) as a big-endian number.
    fn uuid(&self) -> u128 {
        let random = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        let version = 0x4_u128 << 76;
        let variant = 0x2_u128 << 62;
        random & !(0xf_u128 << 76) & !(0x3_u128 << 62) | version | variant
    }

    /// A number below `bound`, which MUST be above 0. The bias is below `bound` / 2^64.
    fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no member");
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product of two u64 is a u64")
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the operating system gives no random bytes: {error}"),
            }
        }
    }
}

/// A stream of numbers that depends on the seed alone (SplitMix64), today and in later versions.
#[derive(Debug)]
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        let mut state = self.state.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let random = SeededRandom::new(0);
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn uuid_is_version_4_rfc_9562_5_4() {
        for seed in 0..100 {
            let uuid = SeededRandom::new(seed).uuid();
            assert_eq!(uuid >> 76 & 0xf, 4);
            assert_eq!(uuid >> 62 & 0x3, 2);
        }
        assert_ne!(OsRandom.uuid(), OsRandom.uuid());
    }

    #[test]
    fn below_stays_below() {
        let random = SeededRandom::new(7);
        assert!((0..1_000).all(|_| random.below(3) < 3));
    }
}
