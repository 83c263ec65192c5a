//! A small cache of blocks of files that no longer change, bounded in bytes, first in first out.

use std::collections::VecDeque;

use base::hash::FixedHashMap;
use bytes::Bytes;
use parking_lot::Mutex;

/// Number or key of the file, and where in it.
type Key = (u64, u64);

#[derive(Debug)]
pub(crate) struct BlockCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: FixedHashMap<Key, Bytes>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    pub(crate) fn find(&self, key: Key) -> Option<Bytes> {
        self.inner.lock().blocks.get(&key).cloned()
    }

    pub(crate) fn insert(&self, key: Key, block: Bytes) {
        let mut inner = self.inner.lock();
        if inner.blocks.contains_key(&key) {
            return;
        }
        inner.bytes += block.len();
        inner.blocks.insert(key, block);
        inner.order.push_back(key);
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.order.pop_front() else { break };
            let block = inner.blocks.remove(&oldest);
            inner.bytes -= block.map_or(0, |block| block.len());
        }
    }

    /// Forgets a file that is gone or will be another.
    pub(crate) fn forget(&self, file: u64) {
        let mut inner = self.inner.lock();
        let mut order = std::mem::take(&mut inner.order);
        order.retain(|key| key.0 != file);
        inner.order = order;
        let mut freed = 0;
        inner.blocks.retain(|key, block| {
            let keep = key.0 != file;
            if !keep {
                freed += block.len();
            }
            keep
        });
        inner.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_the_oldest_go_first() {
        let cache = BlockCache::new(10);
        for block in 0..4 {
            cache.insert((1, block), Bytes::from_static(b"1234"));
        }
        assert!(cache.find((1, 1)).is_none());
        assert!(cache.find((1, 3)).is_some());
        cache.forget(1);
        assert!(cache.find((1, 3)).is_none());
        assert_eq!(cache.inner.lock().bytes, 0);
    }
}
