//! What long work is under way on a node, and how far it is: for whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::{ShardId, StreamId};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// An object is made of old ranges of the log, or of one that is mostly dead.
    Build,
    /// Small objects become a larger one.
    Merge,
    /// A stream loses the records that newer ones of the same key supersede.
    Compact(StreamId),
    /// An object that others have is made or brought here.
    Bring,
    /// All that lies here is read and compared with its checksums.
    Scrub,
    /// A damaged object is put together anew.
    Repair,
}

/// Work of a shard that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub shard: ShardId,
    pub kind: WorkKind,
    pub bytes_done: u64,
    /// About as many are to be done; where something dies meanwhile fewer are.
    pub bytes_all: u64,
    pub running: Duration,
}

/// The work of a node: as many entries as there is work at a time, which the pace bounds, and a scrubber for each shard.
#[derive(Debug, Default)]
pub(super) struct Register {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    shard: ShardId,
    kind: WorkKind,
    bytes_done: AtomicU64,
    bytes_all: u64,
    since: Instant,
}

/// Work that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Working {
    register: Arc<Register>,
    number: u64,
    entry: Arc<Entry>,
}

impl Register {
    pub(super) fn begin(self: &Arc<Self>, shard: ShardId, kind: WorkKind, bytes_all: u64) -> Working {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { shard, kind, bytes_done: AtomicU64::new(0), bytes_all, since: now() });
        self.running.lock().insert(number, Arc::clone(&entry));
        Working { register: Arc::clone(self), number, entry }
    }

    /// What is under way of a shard, the oldest first.
    pub(super) fn of(&self, shard: ShardId) -> Vec<Work> {
        let work = |entry: &Arc<Entry>| Work {
            shard,
            kind: entry.kind,
            bytes_done: entry.bytes_done.load(Ordering::Relaxed),
            bytes_all: entry.bytes_all,
            running: now().saturating_duration_since(entry.since),
        };
        self.running.lock().values().filter(|entry| entry.shard == shard).map(work).collect()
    }
}

impl Working {
    pub(crate) fn add(&self, bytes: u64) {
        self.entry.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.register.running.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_while_it_is_under_way() {
        let register = Arc::new(Register::default());
        let scrub = register.begin(ShardId(1), WorkKind::Scrub, 300);
        let build = register.begin(ShardId(1), WorkKind::Build, 100);
        let _other = register.begin(ShardId(2), WorkKind::Compact(StreamId(7)), 5);
        build.add(30);
        build.add(40);
        let seen: Vec<_> =
            register.of(ShardId(1)).iter().map(|work| (work.kind, work.bytes_done, work.bytes_all)).collect();
        assert_eq!(seen, [(WorkKind::Scrub, 0, 300), (WorkKind::Build, 70, 100)]);
        drop(scrub);
        assert_eq!(register.of(ShardId(1)).len(), 1);
        drop(build);
        assert!(register.of(ShardId(1)).is_empty());
        assert_eq!(register.of(ShardId(2))[0].kind, WorkKind::Compact(StreamId(7)));
    }
}
