//! How many groups the shards hold, so that there are never without end: a group that only has offsets stays until it
//! is deleted.

use std::collections::BTreeMap;

use base::time::{self, Duration, Instant};
use parking_lot::Mutex;
use record::ShardId;
use replica::Replica;

/// The groups of a shard are counted anew when one is to be added and they were last counted so long ago.
const COUNT_AFTER: Duration = Duration::from_secs(60);
/// The same when there was no room: some may have been deleted.
const COUNT_FULL_AFTER: Duration = Duration::from_secs(5);

/// What was counted, and what was added since.
#[derive(Debug, Default)]
pub(super) struct Stored {
    shards: Mutex<BTreeMap<ShardId, Count>>,
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
}
