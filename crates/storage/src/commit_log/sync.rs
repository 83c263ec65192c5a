//! Making durable what was written, and telling those who wait.
//!
//! One thread at a time does this: the sync thread, or the writer itself when the sync thread has
//! nothing to do. Completions are called in the order of the queue, after the position that they
//! stand for is synced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::planted::{Planted, is_planted};
use base::queue::Receiver;
use record::ShardId;

use super::position::Position;
use super::request::Done;
use super::segment::Segment;
use super::shared::Shared;
use super::stalls::Operation;

/// One write that waits for its sync.
pub(crate) struct Written {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: Position,
    /// Bytes handed to the device.
    pub(crate) bytes: u64,
    pub(crate) dones: Vec<Done>,
}

/// The sync thread: one sync for everything written meanwhile.
pub(crate) async fn run(shared: Arc<Shared>, mut queue: Receiver<Written>, in_flight: Arc<AtomicUsize>) {
    let mut group = Vec::new();
    while queue.recv_all(&mut group).await > 0 {
        let count = group.len();
        sync_and_complete(&shared, &mut group).await;
        in_flight.fetch_sub(count, Ordering::Release);
        shared.sync_progress.notify_waiters();
    }
}

/// Syncs the files of all of `group`, which is left empty, and calls its completions.
pub(crate) async fn sync_and_complete(shared: &Shared, group: &mut Vec<Written>) {
    let Some(end) = group.last().map(|written| written.end) else { return };
    let mut segments: Vec<_> = group.iter().map(|written| Arc::clone(&written.segment)).collect();
    segments.dedup_by(|left, right| Arc::ptr_eq(left, right));
    let result = if shared.has_failed() { Err(shared.failure_error()) } else { sync_files(shared, segments).await };
    match result {
        Ok(()) => {
            let bytes = group.iter().map(|written| written.bytes).sum();
            shared.set_synced(end);
            shared.synced_bytes.fetch_add(bytes, Ordering::Release);
            complete(group.drain(..).flat_map(|written| written.dones).collect());
        }
        Err(_) => {
            for done in group.drain(..).flat_map(|written| written.dones) {
                done.call(Err(shared.failure_error()));
            }
        }
    }
}

async fn sync_files(shared: &Shared, segments: Vec<Arc<Segment>>) -> io::Result<()> {
    for segment in segments {
        shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        shared.stalls.begin(Operation::Sync);
        let synced = if is_planted(Planted::AckBeforeSync) { Ok(()) } else { segment.file.sync_data().await };
        shared.stalls.end(Operation::Sync);
        if let Err(error) = synced {
            shared.fail("sync", &segment.path, error);
            return Err(shared.failure_error());
        }
    }
    Ok(())
}

/// Calls completions in order; of the appends of one shard only the last one's.
fn complete(dones: Vec<Done>) {
    let mut later: Vec<ShardId> = Vec::new();
    let mut superseded = vec![false; dones.len()];
    for (done, superseded) in dones.iter().zip(&mut superseded).rev() {
        if let Done::Latest(shard, _) = done {
            *superseded = later.contains(shard);
            if !*superseded {
                later.push(*shard);
            }
        }
    }
    for (done, superseded) in dones.into_iter().zip(superseded) {
        if !superseded {
            done.call(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_the_last_append_of_each_shard_is_told_and_in_order() {
        let (sender, told) = mpsc::sync_channel(10);
        let latest = |shard: u32, name: &'static str| {
            let sender = sender.clone();
            Done::Latest(ShardId(shard), Box::new(move |_| sender.send(name).unwrap()))
        };
        let each = {
            let sender = sender.clone();
            Done::Each(Box::new(move |_| sender.send("each").unwrap()))
        };
        complete(vec![latest(1, "1a"), latest(2, "2a"), each, latest(1, "1b"), Done::Nobody]);
        drop(sender);
        assert_eq!(told.iter().collect::<Vec<_>>(), ["2a", "each", "1b"]);
    }
}
