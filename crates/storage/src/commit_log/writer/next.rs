//! How the writer comes to its next segment.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::disk::{Disk, OpenOptions};
use base::planted::{Planted, is_planted};
use base::time::Duration;

use super::{Stopped, Writer};
use crate::commit_log::position::segment_name;
use crate::commit_log::segment::Segment;
use crate::commit_log::segment_header::SegmentHeader;
use crate::commit_log::shared::Shared;
use crate::commit_log::{LogState, Options};
use crate::passing::{failed_write, is_lasting};

/// How long to wait before looking for space again.
const STALL: Duration = Duration::from_millis(100);

/// How often that it waits is told, in looks: once a minute.
const LOOKS_PER_REPORT: u64 = 600;

/// How often to look again when the log is to be closed: the keeper may just be giving a file back.
const LAST_LOOKS: u32 = 10;

impl Writer {
    pub(super) async fn next_segment(&mut self) -> Result<(), Stopped> {
        let segment = self.take_segment().await?;
        assert!(segment.sequence > self.segment.sequence, "segments are written in order");
        // A block of the file's former life may still be cached under no name; under this one none is.
        self.shared.blocks.forget(segment.sequence.into());
        self.segment = segment;
        self.shared.segments.lock().insert(self.segment.sequence, Arc::clone(&self.segment));
        self.tails.clear();
        (self.runs, self.slots, self.reserved_to) = (0, 0, 0);
        let header = SegmentHeader {
            sequence: self.segment.sequence,
            life: self.shared.life,
            capacity: self.segment.capacity,
            synced: self.shared.synced(),
            salt: self.segment.salt,
            shards: self.states.iter().map(|(shard, state)| (*shard, stated(*state))).collect(),
        };
        self.direct = None;
        self.group.staging.restart(0, b"");
        self.group.staging.extend(&header.encode());
        self.shared.keeper_wake.notify_one();
        Ok(())
    }

    /// A ready segment, or else one whose space is taken now; waits while there is none.
    async fn take_segment(&mut self) -> Result<Arc<Segment>, Stopped> {
        let shared = Arc::clone(&self.shared);
        let mut looks_left = LAST_LOOKS;
        let mut looks = 0_u64;
        loop {
            // The keeper may be making one this moment, and numbers are taken in order.
            let making = shared.making.lock().await;
            if let Some(segment) = shared.ready.lock().pop_front() {
                shared.stalled.store(false, Ordering::Release);
                return Ok(segment);
            }
            let sequence = shared.next_sequence.load(Ordering::Relaxed);
            match create_segment(&shared, sequence) {
                Ok(segment) => {
                    shared.next_sequence.store(sequence + 1, Ordering::Relaxed);
                    shared.stalled.store(false, Ordering::Release);
                    return Ok(Arc::new(segment));
                }
                Err(error) if !is_lasting(&error) => {
                    drop(making);
                    shared.stalled.store(true, Ordering::Release);
                    if looks.is_multiple_of(LOOKS_PER_REPORT) {
                        let dir = shared.dir.display();
                        tracing::error!(%dir, %error, "no segment of the commit log can be made; writes wait until one can");
                    }
                    looks += 1;
                    shared.keeper_wake.notify_one();
                    if self.impatient.load(Ordering::Acquire) {
                        looks_left -= 1;
                    }
                    if looks_left == 0 || shared.stop.load(Ordering::Acquire) {
                        return Err(self.fail("make", &shared.dir.join(segment_name(sequence)), error));
                    }
                    base::time::sleep(STALL).await;
                }
                Err(error) => return Err(self.fail("make", &shared.dir.join(segment_name(sequence)), error)),
            }
        }
    }
}

/// What a segment begins with, of one shard.
fn stated(state: LogState) -> LogState {
    if is_planted(Planted::VoteInRecycledSegment) { LogState { vote: None, ..state } } else { state }
}

/// Makes a segment file with its space taken and its name durable. On failure no file is left.
pub(crate) fn create_segment(shared: &Shared, sequence: u32) -> io::Result<Segment> {
    make_segment(&*shared.disk, &shared.dir, &shared.options, sequence)
}

pub(crate) fn make_segment(disk: &dyn Disk, dir: &Path, options: &Options, sequence: u32) -> io::Result<Segment> {
    let path = dir.join(segment_name(sequence));
    let capacity = u32::try_from(options.segment_bytes).expect("bounded by the options");
    let file = disk.open(&path, OpenOptions::replace())?;
    let made = file.allocate(0, u64::from(capacity)).and_then(|()| disk.sync_dir(dir));
    if let Err(error) = made.map_err(failed_write) {
        drop(file);
        // The space matters more than a second error.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(Segment::new(sequence, path, file, capacity, options.salt, true))
}
