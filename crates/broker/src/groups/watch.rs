//! What is done for the groups of a shard without anyone asking, as long as this node leads it.
//!
//! A group that had members when the shard was last led, here before a restart or elsewhere, comes into use: its
//! members have their session timeout to be heard of, then they are taken out, whether anyone names the group or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use base::task::{self, AbortHandle};
use base::time::{self, Duration};
use record::{ShardId, Term};
use replica::Replica;
use tokio::sync::watch;

use super::service::Inner;
use super::stored::groups_where;

/// The offsets of a shard are counted anew so long after they were.
const COUNT_AFTER: Duration = Duration::from_secs(60);
/// After this when some were refused since: others may have been deleted.
const COUNT_FULL_AFTER: Duration = Duration::from_secs(5);
/// Between two tries to load the groups of a shard that does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The tasks of the shards that this node has replicas of. They end with it.
#[derive(Debug, Default)]
struct Watched(BTreeMap<ShardId, AbortHandle>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

/// Follows the node's replicas, with a task for each, until it is aborted.
pub(super) fn start(inner: &Arc<Inner>) -> AbortHandle {
    task::spawn("groups of shards", follow(Arc::downgrade(inner))).abort_handle()
}

async fn follow(groups: Weak<Inner>) {
    let Some(mut replicas) = groups.upgrade().map(|inner| inner.cluster.replicas_changed()) else { return };
    let mut watched = Watched::default();
    loop {
        replicas.mark_unchanged();
        {
            let Some(inner) = groups.upgrade() else { return };
            let present: BTreeSet<ShardId> = inner.cluster.replicas().iter().map(Replica::shard_id).collect();
            watched.0.retain(|shard, task| {
                let stays = present.contains(shard);
                if !stays {
                    task.abort();
                    inner.stored.forget(*shard);
                }
                stays
            });
            for shard in present {
                watched.0.entry(shard).or_insert_with(|| {
                    let watching = watch(Weak::clone(&groups), shard, replicas.clone());
                    task::spawn("groups of a shard", watching).abort_handle()
                });
            }
        }
        if replicas.changed().await.is_err() {
            return;
        }
    }
}

/// A replica that goes and comes back meanwhile is another one, which is led in later terms.
async fn watch(groups: Weak<Inner>, shard: ShardId, mut replicas: watch::Receiver<u64>) {
    let mut loaded: Option<Term> = None;
    loop {
        replicas.mark_unchanged();
        let Some(inner) = groups.upgrade() else { return };
        let Some(replica) = inner.cluster.replica(shard) else {
            // It may be back before anybody ends this task.
            drop(inner);
            if replicas.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut leadership = replica.leadership();
        let now = *leadership.borrow_and_update();
        let mut again = COUNT_AFTER;
        if now.is_self {
            if loaded != Some(now.term) {
                loaded = inner.load_all(&replica, now.term).await.then_some(now.term);
            }
            match loaded {
                Some(_) => inner.stored.count_offsets(&replica).await,
                None => again = RETRY_AFTER,
            }
        } else {
            loaded = None;
            inner.stored.forget(shard);
        }
        let refused = Arc::clone(&inner.offsets_refused);
        drop((inner, replica));
        let counted = time::now();
        tokio::select! {
            // Its end is that of the replica; whether there is another one is told beside.
            changed = leadership.changed() => if changed.is_err() && replicas.changed().await.is_err() { return },
            changed = replicas.changed() => if changed.is_err() { return },
            () = time::sleep_until(counted + again) => {}
            () = async {
                refused.notified().await;
                time::sleep_until(counted + COUNT_FULL_AFTER).await;
            } => {}
        }
    }
}

impl Inner {
    /// Puts every group of the shard in use that has members; whether it was seen to the end.
    async fn load_all(self: &Arc<Self>, replica: &Replica, term: Term) -> bool {
        let shard = replica.shard_id();
        // Only what a former leader committed last makes the list whole.
        if replica.read_barrier().await.is_err() {
            return false;
        }
        let has_members = |view: &shard::GroupView<'_>| view.record.is_some_and(|record| !record.members.is_empty());
        let (mut groups, mut left) = (0_usize, 0_usize);
        for group_id in groups_where(replica, has_members) {
            match self.put_stored_in_use(&group_id, replica, term) {
                Ok(()) => groups += 1,
                Err(_) => left += 1,
            }
            task::yield_now().await;
        }
        if groups > 0 {
            tracing::info!(%shard, groups, "groups are in use again: their members have their session timeout");
        }
        if left > 0 {
            tracing::warn!(%shard, groups = left, "groups stay as they are until they are named: too many are in use");
        }
        true
    }
}
