//! What the groups in use on a node take in memory, all of them together: only so much.
//!
//! A group holds what its machine counts. It may hold more only while there is room; what is durable already is taken
//! up whether there is room or not, because its members were told that they are in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The account of all groups.
#[derive(Debug)]
pub(super) struct GroupMemory {
    used: AtomicUsize,
    bytes_max: usize,
}

/// One group's part of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<GroupMemory>,
    bytes: usize,
}

impl GroupMemory {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max })
    }

    /// Whether so many bytes more would be taken.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max
    }

    /// Takes what is there already.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Held { memory: Arc::clone(self), bytes }
    }
}

impl Held {
    /// Takes so many bytes more, or nothing.
    pub(super) fn try_grow(&mut self, more: usize) -> bool {
        let bytes_max = self.memory.bytes_max;
        let grown = |used: usize| used.checked_add(more).filter(|used| *used <= bytes_max);
        let taken = self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if taken { more } else { 0 };
        taken
    }

    /// What it takes in the end.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.memory.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            let before = self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            assert!(before >= self.bytes - bytes, "nothing is given back that was not taken");
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_bound_takes_nothing_and_what_is_there_counts() {
        let memory = GroupMemory::new(100);
        let mut one = memory.hold(60);
        let mut two = memory.hold(30);
        assert!(one.try_grow(10) && !two.try_grow(1));
        assert!(memory.has_room(0) && !memory.has_room(1));
        one.set(20);
        assert!(memory.has_room(50) && two.try_grow(50));
        two.set(500);
        assert!(!one.try_grow(1));
        drop((one, two));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
