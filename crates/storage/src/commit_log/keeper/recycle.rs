//! What becomes of segments in which nothing lives: their numbers are durable in the list of those that went before the
//! first file goes, and no file goes that somebody reads.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::planted::{Planted, is_planted};

use super::Keeper;
use crate::commit_log::lost::let_go;
use crate::commit_log::position::segment_name;
use crate::commit_log::segment::{Filling, Segment};
use crate::passing::{failed_write, is_lasting, remove_file};

/// One try in so many is reported while they fail.
const PUT_OFF_PER_REPORT: u64 = 600;

impl Keeper {
    /// Takes dead segments out of the log, and uses or removes the files of those that nobody reads.
    pub(super) async fn recycle(&mut self) {
        if self.shared.liveness_changed.swap(false, Ordering::AcqRel) {
            self.retire();
        }
        let unread: Vec<_> = {
            let mut retired = self.shared.retired.lock();
            let is_unread = |segment: &Arc<Segment>| Arc::strong_count(segment) == 1;
            let (unread, read) =
                retired.drain(..).partition(|segment| is_unread(segment) || is_planted(Planted::RecycledUnderReader));
            *retired = read;
            unread
        };
        if unread.is_empty() {
            return;
        }
        // Before the first of them goes.
        let_go::add(&mut self.let_go, unread.iter().map(|segment| segment.sequence));
        if let Err(error) = let_go::record(&*self.shared.disk, &self.shared.dir, &self.let_go).await {
            self.put_off("write", &self.shared.dir.join(let_go::NAME), error, unread);
            return;
        }
        let mut unread = unread.into_iter();
        while let Some(segment) = unread.next() {
            if let Err(error) = self.reuse(&segment).await {
                let path = segment.path.clone();
                self.put_off("recycle", &path, error, std::iter::once(segment).chain(unread));
                return;
            }
        }
        self.put_off_count = 0;
    }

    /// What passes is tried again with the next look around; the space is taken that long.
    fn put_off(
        &mut self,
        operation: &'static str,
        path: &Path,
        error: io::Error,
        segments: impl IntoIterator<Item = Arc<Segment>>,
    ) {
        if is_lasting(&error) {
            self.shared.fail(operation, path, error);
            return;
        }
        if self.put_off_count.is_multiple_of(PUT_OFF_PER_REPORT) {
            let path = path.display();
            tracing::error!(%path, %error, operation, "dead segments are not recycled, trying on");
        }
        self.put_off_count += 1;
        self.shared.retired.lock().extend(segments);
    }

    fn retire(&self) {
        let mut used = BTreeSet::new();
        for shard in self.shared.all_shards() {
            let mut inner = shard.lock();
            inner.drop_dead_runs();
            used.extend(inner.runs.iter().map(|(_, run)| run.segment.sequence));
        }
        if !self.shared.truncations_are_durable() {
            self.shared.liveness_changed.store(true, Ordering::Release);
            return;
        }
        // Votes and bounds stand in a later header, once that is durable.
        let behind = self.shared.synced().sequence;
        let mut segments = self.shared.segments.lock();
        let dead: Vec<u32> = segments
            .iter()
            .filter(|(sequence, segment)| segment.is_sealed() && **sequence < behind && !used.contains(sequence))
            .map(|(sequence, _)| *sequence)
            .collect();
        let mut retired = self.shared.retired.lock();
        retired.extend(dead.iter().filter_map(|sequence| segments.remove(sequence)));
    }

    async fn reuse(&mut self, segment: &Segment) -> io::Result<()> {
        assert!(segment.is_sealed(), "only a sealed segment is given up");
        let shared = Arc::clone(&self.shared);
        shared.blocks.forget(segment.sequence.into());
        let _making = shared.making.lock().await;
        let wanted = shared.ready.lock().len() < shared.options.ready_segments;
        if !wanted || u64::from(segment.capacity) != shared.options.segment_bytes {
            remove_file(&*shared.disk, &segment.path)?;
            return shared.disk.sync_dir(&shared.dir).map_err(failed_write);
        }
        let sequence = shared.next_sequence.load(Ordering::Relaxed);
        let path = shared.dir.join(segment_name(sequence));
        match shared.disk.rename(&segment.path, &path) {
            // Somebody took it away: there is nothing to use again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        if let Err(error) = shared.disk.sync_dir(&shared.dir) {
            // The next try begins with the old name.
            let _ = shared.disk.rename(&path, &segment.path);
            return Err(failed_write(error));
        }
        shared.next_sequence.store(sequence + 1, Ordering::Relaxed);
        let recycled =
            Segment::new(sequence, path, Arc::clone(&segment.file), segment.capacity, shared.options.salt, true);
        *recycled.filling.lock().await = Filling { reserved_to: 0, filled_to: segment.capacity };
        shared.ready.lock().push_back(Arc::new(recycled));
        shared.counters.segments_recycled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
