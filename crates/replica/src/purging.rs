//! How far the group's log is purged.
//!
//! A lone member keeps nothing that a durable checkpoint covers. Of several a leader keeps what some
//! member lacks that was there lately, and every other member what it may be asked for once it leads;
//! neither keeps more than so many bytes. What somebody pulls stays until that is over.

use base::time::{Duration, Instant, now};
use record::LogIndex;
use storage::LogId;

use crate::core::Core;
use crate::raft::Group;

/// A member that was silent for longer is not waited for: it pulls state when it comes back.
const HEARD_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Pause between two looks at how far the members are.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// What the maintenance knows of the purging.
#[derive(Debug)]
pub(crate) struct Purging {
    /// The checkpoint that consensus knows of.
    told: Option<LogId>,
    /// Since when this node leads, as far as it looked.
    led_since: Option<Instant>,
    look_at: Instant,
}

impl Purging {
    pub(crate) fn new() -> Self {
        Self { told: None, led_since: None, look_at: now() }
    }

    /// When it is to be looked again, if there is something to look at.
    pub(crate) fn next_look(&self, core: &Core) -> Option<Instant> {
        let pending = core.durable_checkpoint().map(|checkpoint| checkpoint.id) > core.pins.purged();
        let looks = pending && !core.is_alone();
        [looks.then_some(self.look_at), core.pins.next_end()].into_iter().flatten().min()
    }

    /// Purges what nobody needs. `at_once` is for a checkpoint that just became durable.
    pub(crate) async fn look(&mut self, core: &Core, group: &Group, at_once: bool) {
        if at_once && core.full_disk.is_full() {
            // What was deleted to make room goes, too.
            core.pins.let_go();
        }
        let released = core.pins.take_released();
        if released {
            core.keep_live();
        }
        if !(at_once || released || now() >= self.look_at) {
            return;
        }
        self.look_at = now() + LOOK_PAUSE;
        let Some(checkpoint) = core.durable_checkpoint().map(|checkpoint| checkpoint.id) else { return };
        if self.told != Some(checkpoint) {
            if !group.checkpoint_durable(checkpoint).await {
                tracing::debug!(shard = core.config.shard.0, "the group does not take the checkpoint now");
                return;
            }
            self.told = Some(checkpoint);
        }
        let through = self.purge_max(core, group, checkpoint).min(core.pins.purge_max());
        if through <= core.pins.purged().map_or(LogIndex(0), |purged| purged.index) {
            return;
        }
        let id = match core.log.meta(through).await {
            _ if through == checkpoint.index => checkpoint,
            Ok(Some(meta)) => meta.id,
            // Damage, which whoever needs the entry is told of.
            Ok(None) | Err(_) => return,
        };
        if core.pins.note_purge(id) {
            group.purge(id.index).await;
        }
    }

    fn purge_max(&mut self, core: &Core, group: &Group, checkpoint: LogId) -> LogIndex {
        if core.is_alone() {
            return checkpoint.index;
        }
        let members = group.replication().members;
        let led_since = members.is_some().then(|| self.led_since.unwrap_or_else(now));
        self.led_since = led_since;
        let needed = members.zip(led_since).map_or(LogIndex(0), |(members, since)| {
            let others = members.into_iter().filter(|(id, _)| *id != core.config.node).map(|(_, member)| member);
            // Of one that was not heard yet nothing is known, for a while.
            let waited_for = others.filter(|member| member.silence.unwrap_or_else(|| since.elapsed()) <= HEARD_WITHIN);
            waited_for.map(|member| member.matched.unwrap_or(LogIndex(0))).min().unwrap_or(checkpoint.index)
        });
        let kept_from = core.log.kept_within(checkpoint.index, core.config.log_keep_bytes);
        let too_much = kept_from.map_or(checkpoint.index, |from| LogIndex(from.0.saturating_sub(1)));
        needed.max(too_much).min(checkpoint.index)
    }
}
