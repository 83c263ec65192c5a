//! Long work of a node, as it can be watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::{FileNumber, ShardId, StreamId};

use super::build::Run;
use super::pace::Turn;
use crate::core::Core;

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkKind {
    /// Old ranges of the log become an object.
    Build,
    /// Small objects become a larger one, or what lives of one becomes a smaller one.
    Rewrite,
    /// Keys of a stream are compacted, with everything counted in offsets: those whose keys are read, and those that are written anew.
    Compact,
    /// An object that others have is made here.
    Fetch,
    /// A damaged object is put together anew.
    Repair,
    /// All that lies here is read and compared with its checksums.
    Scrub,
}

impl WorkKind {
    /// What is counted.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Compact => "offsets",
            _ => "bytes",
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Rewrite => "rewrite",
            Self::Compact => "compact",
            Self::Fetch => "fetch",
            Self::Repair => "repair",
            Self::Scrub => "scrub",
        }
    }
}

/// Something long that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub shard: ShardId,
    pub kind: WorkKind,
    /// The one that it is for, if it is not for all.
    pub stream: Option<StreamId>,
    pub done: u64,
    /// As it was estimated at the beginning; what dies meanwhile need not be done.
    pub total: u64,
    pub running: Duration,
}

/// What of it is under way now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Works(Arc<Mutex<Vec<Arc<Running>>>>);

#[derive(Debug)]
struct Running {
    shard: ShardId,
    kind: WorkKind,
    stream: Option<StreamId>,
    done: AtomicU64,
    total: u64,
    began: Instant,
}

/// Something long; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LongWork {
    works: Works,
    running: Arc<Running>,
}

impl Works {
    pub(super) fn begin(&self, shard: ShardId, kind: WorkKind, stream: Option<StreamId>, total: u64) -> LongWork {
        let running = Arc::new(Running { shard, kind, stream, done: AtomicU64::new(0), total, began: now() });
        self.0.lock().push(Arc::clone(&running));
        LongWork { works: self.clone(), running }
    }

    /// What a shard does, the longest first.
    pub(crate) fn of(&self, shard: ShardId) -> Vec<Work> {
        let running = self.0.lock();
        let of_shard = running.iter().filter(|running| running.shard == shard);
        of_shard.map(|running| running.work()).collect()
    }
}

impl Running {
    fn work(&self) -> Work {
        let Self { shard, kind, stream, ref done, total, began } = *self;
        Work { shard, kind, stream, done: done.load(Ordering::Relaxed).min(total), total, running: now() - began }
    }
}

impl LongWork {
    pub(super) fn add(&self, more: u64) {
        self.running.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Bytes were written for it.
    pub(super) fn count(&self, bytes: u64) {
        if self.running.kind != WorkKind::Compact {
            self.add(bytes);
        }
    }

    pub(super) fn come_to(&self, done: u64) {
        self.running.done.store(done, Ordering::Relaxed);
    }
}

impl Drop for LongWork {
    fn drop(&mut self) {
        self.works.0.lock().retain(|running| !Arc::ptr_eq(running, &self.running));
    }
}

impl Core {
    /// Waits until no other object is made; meanwhile it counts as work that is under way.
    pub(super) async fn turn_for(&self, kind: WorkKind, stream: Option<StreamId>, total: u64) -> Turn<'_> {
        let work = Arc::new(self.pace.works().begin(self.config.shard, kind, stream, total));
        self.pace.turn(&work).await
    }

    /// What kind of work a run is, and how many bytes are written for it at most.
    pub(super) fn extent_of(&self, run: &Run) -> (WorkKind, u64) {
        let state = self.state.read();
        let is_inside = |file: FileNumber| (run.first..=run.last).contains(&file);
        let objects = state.shard.objects().into_iter().filter(|object| is_inside(object.first));
        let of_objects: u64 = objects.map(|object| object.bytes).sum();
        let mut ranges: Vec<_> = state.shard.sealed_ranges();
        drop(state);
        ranges.retain(|range| is_inside(range.file));
        let ranges: Vec<_> = ranges.into_iter().map(|range| range.from..=range.through).collect();
        let kind = if run.replaces.is_empty() { WorkKind::Build } else { WorkKind::Rewrite };
        (kind, of_objects + self.log.bytes_within(&ranges))
    }

    /// A pass over all that lies here of the shard.
    pub(super) fn begin_scrub(&self) -> LongWork {
        let (of_objects, ranges) = {
            let state = self.state.read();
            let of_objects: u64 = state.shard.all_objects().into_iter().map(|object| object.bytes).sum();
            (of_objects, state.shard.sealed_ranges())
        };
        let ranges: Vec<_> = ranges.into_iter().map(|range| range.from..=range.through).collect();
        self.pace.works().begin(self.config.shard, WorkKind::Scrub, None, of_objects + self.log.bytes_within(&ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_seen_as_long_as_it_runs() {
        let works = Works::default();
        let scrub = works.begin(ShardId(1), WorkKind::Scrub, None, 100);
        let build = works.begin(ShardId(1), WorkKind::Build, None, 10);
        let other = works.begin(ShardId(2), WorkKind::Compact, Some(StreamId(7)), 5);
        scrub.add(30);
        scrub.add(3);
        build.come_to(12);
        base::time::sleep(Duration::from_secs(2)).await;
        let seen: Vec<_> = works.of(ShardId(1)).iter().map(|work| (work.kind, work.done, work.total)).collect();
        assert_eq!(seen, [(WorkKind::Scrub, 33, 100), (WorkKind::Build, 10, 10)], "no more than all is ever done");
        let compact = Work {
            shard: ShardId(2),
            kind: WorkKind::Compact,
            stream: Some(StreamId(7)),
            done: 0,
            total: 5,
            running: Duration::from_secs(2),
        };
        assert_eq!(works.of(ShardId(2)), [compact]);
        drop(scrub);
        assert_eq!(works.of(ShardId(1)).len(), 1);
        drop((build, other));
        assert!(works.of(ShardId(1)).is_empty() && works.of(ShardId(2)).is_empty());
    }
}
