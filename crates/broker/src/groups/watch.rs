//! What is done for the groups of a shard without anyone asking, as long as this node leads it.
//!
//! A group that had members when the shard was last led, here before a restart or elsewhere, or when its slot left
//! another shard, comes into use: its members have their session timeout to be heard of, then they are taken out,
//! whether anyone names the group or not. That time begins when the metadata sends members here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use base::task::{self, AbortHandle};
use base::time::{self, Duration, Instant};
use record::{ShardId, Term};
use replica::Replica;
use shard::slot_of;
use tokio::sync::watch;

use super::service::Inner;
use super::stored::groups_where;
use super::tenure::Tenures;

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
    let mut loaded: Option<(Term, Tenures)> = None;
    let mut counted: Option<Instant> = None;
    // Whether what was counted is out of date.
    let mut stale = false;
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
        let (mut slots, mut metadata) = (replica.slots_changed(), inner.cluster.metadata_changed());
        let now = *leadership.borrow_and_update();
        let due = |counted: Instant, stale| counted + if stale { COUNT_FULL_AFTER } else { COUNT_AFTER };
        let mut alarm = time::now() + RETRY_AFTER;
        if now.is_self {
            let before = loaded.take().filter(|(term, _)| *term == now.term).map(|(_, tenures)| tenures);
            loaded = inner.load_new(&replica, now.term, before).await.map(|tenures| (now.term, tenures));
            if loaded.is_some() {
                if counted.is_none_or(|counted| due(counted, stale) <= time::now()) {
                    inner.stored.count_offsets(&replica).await;
                    (counted, stale) = (Some(time::now()), false);
                }
                alarm = due(counted.unwrap_or_else(time::now), stale);
            }
        } else {
            (loaded, counted) = (None, None);
            inner.stored.forget(shard);
            alarm = time::now() + COUNT_AFTER;
        }
        let refused = Arc::clone(&inner.offsets_refused);
        drop((inner, replica));
        tokio::select! {
            // These two end with the replica and the node.
            Ok(()) = slots.changed() => stale = true,
            Ok(()) = metadata.changed(), if now.is_self => {}
            // Its end is that of the replica; whether there is another one is told beside.
            changed = leadership.changed() => if changed.is_err() && replicas.changed().await.is_err() { return },
            changed = replicas.changed() => if changed.is_err() { return },
            () = time::sleep_until(alarm) => {}
            () = refused.notified(), if !stale => stale = true,
        }
    }
}

impl Inner {
    /// Puts every group in use that has members and whose slot is new on the shard since it was as `before`; without
    /// that, every one. Gives what is there now, if it was seen to the end.
    async fn load_new(self: &Arc<Self>, replica: &Replica, term: Term, before: Option<Tenures>) -> Option<Tenures> {
        let shard = replica.shard_id();
        if before.as_ref().is_some_and(|before| *before == self.tenures(replica)) {
            return before;
        }
        // Only what a former leader committed last makes the list whole.
        replica.read_barrier().await.ok()?;
        let tenures = self.tenures(replica);
        self.stored.recount_groups(shard);
        let is_new =
            |slot: usize| tenures[slot].is_some() && before.as_ref().is_none_or(|known| known[slot] != tenures[slot]);
        if !(0..tenures.len()).any(is_new) {
            return Some(tenures);
        }
        let wanted = |view: &shard::GroupView<'_>| {
            view.record.is_some_and(|record| !record.members.is_empty()) && is_new(usize::from(slot_of(view.id)))
        };
        let (mut groups, mut left) = (0_usize, 0_usize);
        for group_id in groups_where(replica, wanted) {
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
        Some(tenures)
    }
}
