//! How many groups the shards hold, and what their offsets take, so that there are never without end: a group that only
//! has offsets stays until it is deleted, and so do its offsets.
//!
//! What is added is counted at once. What went is noticed when all is counted anew, once in a while.

use std::collections::BTreeMap;

use base::time::{self, Duration, Instant};
use parking_lot::Mutex;
use record::ShardId;
use replica::Replica;
use shard::CommittedOffset;

/// The groups of a shard are counted anew when one is to be added and they were last counted so long ago.
const COUNT_AFTER: Duration = Duration::from_secs(60);
/// The same when there was no room: some may have been deleted.
const COUNT_FULL_AFTER: Duration = Duration::from_secs(5);
/// An offset with its places in the tables of a shard, without its metadata.
const OFFSET_BYTES: usize = 128;

/// What was counted, and what was added since.
#[derive(Debug, Default)]
pub(super) struct Stored {
    shards: Mutex<BTreeMap<ShardId, Count>>,
    offsets: Mutex<BTreeMap<ShardId, usize>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    groups: usize,
    at: Instant,
}

impl Stored {
    /// Whether the shard may have one group more.
    pub(super) fn has_room(&self, replica: &Replica, groups_max: usize) -> bool {
        let now = time::now();
        let mut shards = self.shards.lock();
        let known = shards.get(&replica.shard_id());
        let fresh = known.is_some_and(|count| {
            let age = now.saturating_duration_since(count.at);
            age < if count.groups < groups_max { COUNT_AFTER } else { COUNT_FULL_AFTER }
        });
        if !fresh {
            let groups = replica.state().groups().len();
            shards.insert(replica.shard_id(), Count { groups, at: now });
        }
        shards.get(&replica.shard_id()).is_some_and(|count| count.groups < groups_max)
    }

    /// A group is about to be added.
    pub(super) fn note_added(&self, shard: ShardId) {
        if let Some(count) = self.shards.lock().get_mut(&shard) {
            count.groups += 1;
        }
    }

    /// Counts offsets that are about to be stored over the present ones, if the node then has no more than `bytes_max`
    /// of them. What takes no more than before always has room.
    pub(super) fn take_offsets(
        &self,
        replica: &Replica,
        group_id: &str,
        offsets: &[CommittedOffset],
        bytes_max: usize,
    ) -> bool {
        let (added, freed) = {
            let state = replica.state();
            let added: usize = offsets.iter().map(offset_bytes).sum();
            let present = offsets.iter().filter_map(|new| state.offset(group_id, new.topic, new.partition));
            (added, present.map(offset_bytes).sum::<usize>())
        };
        let mut shards = self.offsets.lock();
        let all: usize = shards.values().sum();
        if added > freed && all + (added - freed) > bytes_max {
            return false;
        }
        let bytes = shards.entry(replica.shard_id()).or_default();
        *bytes = (*bytes + added).saturating_sub(freed);
        true
    }

    /// Counts the offsets of a shard anew, group by group, so that the shard is never held up for long.
    pub(super) async fn count_offsets(&self, replica: &Replica) {
        let shard = replica.shard_id();
        let before = self.offsets.lock().get(&shard).copied().unwrap_or_default();
        let groups = groups_where(replica, |view| view.offsets > 0);
        let mut bytes = 0;
        for group_id in groups {
            bytes += replica.state().offsets(&group_id).map(offset_bytes).sum::<usize>();
            base::task::yield_now().await;
        }
        let mut shards = self.offsets.lock();
        // What was added meanwhile may have been counted, or not.
        let since = shards.get(&shard).copied().unwrap_or_default().saturating_sub(before);
        shards.insert(shard, bytes + since);
    }

    /// Groups came or went by themselves: they are counted when one is added.
    pub(super) fn recount_groups(&self, shard: ShardId) {
        self.shards.lock().remove(&shard);
    }

    /// The shard is led elsewhere, and counted there.
    pub(super) fn forget(&self, shard: ShardId) {
        self.shards.lock().remove(&shard);
        self.offsets.lock().remove(&shard);
    }
}

/// The ids of those groups of the shard.
pub(super) fn groups_where(
    replica: &Replica,
    wanted: impl Fn(&shard::GroupView<'_>) -> bool,
) -> Vec<std::sync::Arc<str>> {
    replica.state().groups().iter().filter(|view| wanted(view)).map(|view| std::sync::Arc::clone(view.id)).collect()
}

fn offset_bytes(offset: &CommittedOffset) -> usize {
    OFFSET_BYTES + offset.metadata.len()
}
