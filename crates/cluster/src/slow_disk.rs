//! A node whose disk stays slow lets others lead: what it leads waits for its disk with every entry, while
//! others have a majority without it. So does one that is behind with the metadata (`lagging`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, Instant, now, sleep};
use replica::Replica;

use crate::host::Host;
use crate::members::successors;

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// A write or a sync that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// So many slow looks one after the other, and the disk counts as slow.
const SLOW_LOOKS: u32 = 4;
/// Without a slow look for so long it is quick again.
const QUICK_AGAIN: Duration = Duration::from_secs(30);

/// How the disk does.
#[derive(Debug)]
struct Pace {
    slow_looks: u32,
    slow: bool,
    last_slow: Option<Instant>,
}

impl Pace {
    const fn new() -> Self {
        Self { slow_looks: 0, slow: false, last_slow: None }
    }

    /// One more look; whether the disk counts as slow.
    fn look(&mut self, longest: Duration) -> bool {
        if longest >= SLOW {
            self.slow_looks += 1;
            self.last_slow = Some(now());
        } else {
            self.slow_looks = 0;
        }
        if self.slow_looks >= SLOW_LOOKS {
            self.slow = true;
        } else if self.last_slow.is_none_or(|last| last.elapsed() >= QUICK_AGAIN) {
            self.slow = false;
        }
        self.slow
    }
}

/// Watches the disk of the commit log until the task is aborted.
pub(crate) fn watch_disk(host: &Arc<Host>) -> JoinHandle<()> {
    let weak = Arc::downgrade(host);
    spawn("pace of the disk", async move {
        let mut pace = Pace::new();
        loop {
            sleep(LOOK_PAUSE).await;
            let Some(host) = weak.upgrade() else { return };
            let longest = host.log.longest_operation();
            let slow = pace.look(longest);
            let node = &host.node;
            if node.slow.swap(slow, Ordering::AcqRel) != slow {
                if slow {
                    let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(millis, "the disk is slow: other nodes are to lead what this one leads");
                } else {
                    tracing::info!("the disk is quick again");
                }
                node.statuses.tell();
            }
            if !slow && !node.lagging.has(node.id()) {
                continue;
            }
            for replica in node.shards.replicas().into_iter().filter(Replica::is_leader) {
                if let Some(successor) = successors(node, &replica).first()
                    && let Err(error) = replica.transfer_leader(*successor).await
                {
                    tracing::debug!(shard = replica.shard_id().0, %error, "the shard stays here for now");
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_slow_when_it_stays_so_and_quick_again_after_a_while() {
        let mut pace = Pace::new();
        let (slow, quick) = (SLOW, SLOW / 2);
        for _ in 0..SLOW_LOOKS - 1 {
            assert!(!pace.look(slow));
        }
        assert!(!pace.look(quick), "one that was slow for a moment");
        for _ in 0..SLOW_LOOKS - 1 {
            assert!(!pace.look(slow));
        }
        assert!(pace.look(slow));
        assert!(pace.look(quick), "not at once");
        sleep(QUICK_AGAIN).await;
        assert!(!pace.look(quick));
    }
}
