//! What is done for the groups of a shard without anyone asking, as long as this node leads it.
//!
//! A group that had members when the shard was last led, here before a restart or elsewhere, comes into use: its
//! members have their session timeout to be heard of, then they are taken out, whether anyone names the group or not.

use std::sync::{Arc, Weak};

use base::task::{self, AbortHandle};
use base::time::{self, Duration};
use record::{ShardId, Term};

use super::service::Inner;
use super::stored::groups_where;

/// The offsets of a shard are counted anew so long after they were.
const COUNT_AFTER: Duration = Duration::from_secs(60);
/// After this when some were refused since: others may have been deleted.
const COUNT_FULL_AFTER: Duration = Duration::from_secs(5);
/// Between two tries to load the groups of a shard that does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One task per shard, each until the shard's replica has stopped.
pub(super) fn start(inner: &Arc<Inner>) -> Vec<AbortHandle> {
    let shards = inner.cluster.replicas().map(replica::Replica::shard_id);
    let watched = |shard| task::spawn("groups of a shard", watch(Arc::downgrade(inner), shard)).abort_handle();
    shards.map(watched).collect()
}

async fn watch(groups: Weak<Inner>, shard: ShardId) {
    let leadership = groups.upgrade().and_then(|inner| Some(inner.cluster.replica(shard)?.leadership()));
    let Some(mut leadership) = leadership else { return };
    let mut loaded: Option<Term> = None;
    loop {
        let now = *leadership.borrow_and_update();
        let Some(inner) = groups.upgrade() else { return };
        let mut again = COUNT_AFTER;
        if now.is_self {
            if loaded != Some(now.term) {
                loaded = inner.load_all(shard, now.term).await.then_some(now.term);
            }
            match (loaded, inner.cluster.replica(shard)) {
                (Some(_), Some(replica)) => inner.stored.count_offsets(replica).await,
                (None, _) => again = RETRY_AFTER,
                (Some(_), None) => return,
            }
        } else {
            loaded = None;
            inner.stored.forget(shard);
        }
        let refused = Arc::clone(&inner.offsets_refused);
        drop(inner);
        let counted = time::now();
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
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
    async fn load_all(self: &Arc<Self>, shard: ShardId, term: Term) -> bool {
        let Some(replica) = self.cluster.replica(shard).cloned() else { return false };
        // Only what a former leader committed last makes the list whole.
        if replica.read_barrier().await.is_err() {
            return false;
        }
        let has_members = |view: &shard::GroupView<'_>| view.record.is_some_and(|record| !record.members.is_empty());
        let (mut groups, mut left) = (0_usize, 0_usize);
        for group_id in groups_where(&replica, has_members) {
            match self.put_stored_in_use(&group_id, &replica, term) {
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
