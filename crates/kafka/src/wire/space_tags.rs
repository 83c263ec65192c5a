//! Tagged fields of ours in DescribeLogDirs, by which `rosettamq space` learns what takes space. Who does not know them skips them.
//!
//! ```text
//! request               tag 10000  any content: wanted
//! answer, a partition   tag 10000  int64 each: live in the log, live in objects, dead in the log, dead in objects
//! answer, a directory   tag 10000  int64 each: deleted in the log, deleted in objects, other of the log, other of objects, index
//!                                  files, checkpoints; int64 count of files that could not be read
//!                       tag 10001  compact array of: int32 shard, int8 kind, compact string topic (empty: none), int32 partition,
//!                                  int64 done, int64 of all, int64 milliseconds, tagged fields
//! ```
//!
//! Kinds: 0 build, 1 rewrite, 2 compact, 3 fetch, 4 scrub, 5 repair. What is done is counted in bytes, of kind 2 in offsets.
//!
//! More may come behind what is there.

use broker::space::{Rest, RunningWork, Taken, WorkKind};
use bytes::{BufMut, Bytes, BytesMut};

use super::write::Write;

pub(crate) const SPACE: i32 = 10_000;
pub(crate) const WORK: i32 = 10_001;

pub(crate) fn taken(taken: &Taken) -> Bytes {
    let Taken { live_in_log, live_in_objects, dead_in_log, dead_in_objects } = *taken;
    numbers(&[live_in_log, live_in_objects, dead_in_log, dead_in_objects])
}

pub(crate) fn rest(rest: &Rest) -> Bytes {
    let Rest { deleted_in_log, deleted_in_objects, log, objects, indexes, checkpoints, unread } = *rest;
    numbers(&[deleted_in_log, deleted_in_objects, log, objects, indexes, checkpoints, unread])
}

pub(crate) fn work(running: &[RunningWork]) -> Bytes {
    let mut content = BytesMut::new();
    content.count(true, running.len());
    for RunningWork { work, partition } in running {
        let (topic, index) = partition.as_ref().map_or(("", -1), |(topic, index)| (topic, *index));
        content.put_i32(i32::try_from(work.shard.0).unwrap_or(i32::MAX));
        content.put_i8(kind(work.kind));
        content.text(true, topic);
        content.put_i32(index);
        content.put_slice(&numbers(&[work.done, work.total]));
        content.put_i64(i64::try_from(work.running.as_millis()).unwrap_or(i64::MAX));
        content.no_tags(true);
    }
    content.freeze()
}

const fn kind(kind: WorkKind) -> i8 {
    match kind {
        WorkKind::Build => 0,
        WorkKind::Rewrite => 1,
        WorkKind::Compact => 2,
        WorkKind::Fetch => 3,
        WorkKind::Scrub => 4,
        WorkKind::Repair => 5,
    }
}

fn numbers(numbers: &[u64]) -> Bytes {
    let mut content = BytesMut::with_capacity(8 * numbers.len());
    for number in numbers {
        content.put_i64(i64::try_from(*number).unwrap_or(i64::MAX));
    }
    content.freeze()
}
