//! The newest offset of each key in a part of a stream: a table of so many bytes per key, however long keys are.
//!
//! A key is known by 128 bits of a keyed hash: that two of a billion keys have the same is as likely as one in 10^20, and nobody can
//! make some that do without the key of the hash, which is drawn anew for each pass.

use std::hash::Hasher;

use record::StreamOffset;
use siphasher::sip128::{Hasher128, SipHasher13};

/// Bytes of the table for each key that fits.
pub(crate) const BYTES_PER_KEY: u64 = 32;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    /// Less than 0 in one that is free.
    offset: i64,
}

const FREE: Slot = Slot { hash: (0, 0), offset: -1 };

/// The table.
#[derive(Debug)]
pub(crate) struct Keys {
    slots: Vec<Slot>,
    used: usize,
    room: usize,
    seed: (u64, u64),
}

impl Keys {
    /// For `count` keys.
    pub(crate) fn with_room(count: usize, seed: (u64, u64)) -> Self {
        // A quarter stays free, so that a key is found after a few looks.
        Self { slots: vec![FREE; count + count / 3 + 1], used: 0, room: count, seed }
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Notes that a record of that key is there; false if there is no room for another key.
    pub(crate) fn note(&mut self, key: &[u8], offset: StreamOffset) -> bool {
        let hash = self.hash(key);
        let at = self.place(hash);
        let slot = &mut self.slots[at];
        if slot.offset < 0 {
            if self.used == self.room {
                return false;
            }
            self.used += 1;
            *slot = Slot { hash, offset: offset.0 };
        }
        slot.offset = slot.offset.max(offset.0);
        true
    }

    /// The offset of the newest record of that key, if there is any.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<StreamOffset> {
        let slot = self.slots[self.place(self.hash(key))];
        (slot.offset >= 0).then_some(StreamOffset(slot.offset))
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// The slot that has the hash, or a free one in which it would be.
    fn place(&self, hash: (u64, u64)) -> usize {
        let slots = self.slots.len();
        let first = (u128::from(hash.0) * slots as u128) >> 64;
        let mut at = usize::try_from(first).expect("less than there are slots");
        loop {
            let slot = &self.slots[at];
            if slot.offset < 0 || slot.hash == hash {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_costs_what_is_stated() {
        let keys = Keys::with_room(3_000_000, (1, 2));
        let bytes = keys.slots.len() * size_of::<Slot>();
        assert!(bytes as u64 <= 3_000_001 * BYTES_PER_KEY, "{bytes}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut keys = Keys::with_room(2, (1, 2));
        assert!(keys.note(b"a", StreamOffset(1)) && keys.note(b"b", StreamOffset(2)));
        assert!(!keys.note(b"c", StreamOffset(3)) && keys.note(b"a", StreamOffset(4)));
        assert_eq!((keys.newest(b"a"), keys.newest(b"c"), keys.len()), (Some(StreamOffset(4)), None, 2));
        assert_eq!(Keys::with_room(0, (1, 2)).newest(b""), None);
    }

    proptest! {
        #[test]
        fn as_an_ordinary_map(notes in proptest::collection::vec((proptest::collection::vec(0_u8..4, 0..4), 0_i64..1_000), 0..300), seed: (u64, u64)) {
            let mut keys = Keys::with_room(notes.len(), seed);
            let mut model = BTreeMap::new();
            for (key, offset) in &notes {
                prop_assert!(keys.note(key, StreamOffset(*offset)));
                let newest = model.entry(key.clone()).or_insert(*offset);
                *newest = (*newest).max(*offset);
            }
            prop_assert_eq!(keys.len(), model.len());
            for (key, newest) in model {
                prop_assert_eq!(keys.newest(&key), Some(StreamOffset(newest)));
            }
        }
    }
}
