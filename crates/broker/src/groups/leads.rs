//! That this node still leads the shards whose groups it coordinates.
//!
//! What members ask of a group in use is mostly answered from memory. A node that was cut off from the others does not
//! learn that another leads in its place, and must not go on telling members that all is well. So whoever asks is
//! answered only if this node was found to lead within the last moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::time::{self, Duration, Instant};
use parking_lot::Mutex;
use record::ShardId;
use replica::Replica;
use tokio::sync::Mutex as AsyncMutex;

use super::api::CoordinatorError;
use super::group::coordinator_error;

/// So long a shard stays confirmed: shorter than the others wait before they elect another leader, unless this node has asked
/// one of them to lead.
const CONFIRMED_FOR: Duration = Duration::from_millis(250);

/// What was found out of each shard last.
#[derive(Debug, Default)]
pub(super) struct Leads {
    shards: Mutex<BTreeMap<ShardId, Arc<Gate>>>,
}

/// One asks for all who wait.
#[derive(Debug, Default)]
struct Gate {
    confirmed: Mutex<Option<Instant>>,
    asked: AsyncMutex<Option<Asked>>,
}

#[derive(Debug)]
struct Asked {
    at: Instant,
    found: Result<(), CoordinatorError>,
}

impl Leads {
    /// Returns when this node is known to lead the shard, or to have led it a moment ago.
    pub(super) async fn confirm(&self, replica: &Replica) -> Result<(), CoordinatorError> {
        let gate = Arc::clone(self.shards.lock().entry(replica.shard_id()).or_default());
        let ask = async || replica.read_barrier().await.map_err(|error| coordinator_error(&error));
        gate.confirm(time::now(), replica.leads_until_silent(), ask).await
    }
}

impl Gate {
    async fn confirm(
        &self,
        came: Instant,
        leads: bool,
        ask: impl AsyncFnOnce() -> Result<(), CoordinatorError>,
    ) -> Result<(), CoordinatorError> {
        if leads && self.is_confirmed(came) {
            return Ok(());
        }
        let mut asked = self.asked.lock().await;
        // Of what was asked after this one came the answer is as good; of what was asked before only a good one.
        if let Some(asked) = asked.as_ref().filter(|asked| asked.at >= came) {
            return asked.found.clone();
        }
        if leads && self.is_confirmed(came) {
            return Ok(());
        }
        let at = came.max(time::now());
        let found = ask().await;
        // It held at some time after it was asked for, so it counts from then.
        *self.confirmed.lock() = found.is_ok().then_some(at);
        *asked = Some(Asked { at, found: found.clone() });
        found
    }

    fn is_confirmed(&self, now: Instant) -> bool {
        self.confirmed.lock().is_some_and(|at| now.saturating_duration_since(at) < CONFIRMED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::{join, join_all};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_was_confirmed_a_moment_ago_is_not_asked_for_again() {
        let (gate, asked, start) = (Gate::default(), Cell::new(0), time::now());
        let ask = async || {
            asked.set(asked.get() + 1);
            Ok(())
        };
        let later = |seconds| start + Duration::from_secs(seconds);
        for (came, leads, expected) in [(1, true, 1), (1, true, 1), (2, true, 2), (3, false, 3)] {
            assert_eq!(gate.confirm(later(came), leads, ask).await, Ok(()));
            assert_eq!(asked.get(), expected, "at {came}");
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_one_answer_and_a_bad_one_is_not_kept() {
        let (gate, asked, answer) = (Gate::default(), Cell::new(0), Notify::new());
        let ask = async || {
            asked.set(asked.get() + 1);
            answer.notified().await;
            Err(CoordinatorError::Loading)
        };
        let later = |seconds| time::now() + Duration::from_secs(seconds);
        let first = gate.confirm(later(1), true, ask);
        let came = later(10);
        let others = join_all((0..100).map(|_| gate.confirm(came, true, ask)));
        let answers = async {
            for _ in 0..2 {
                base::task::yield_now().await;
                answer.notify_one();
            }
        };
        let (all, ()) = join(join(first, others), answers).await;
        assert!(all.0.is_err() && all.1.iter().all(Result::is_err));
        assert_eq!(asked.get(), 2, "those who came after the first was asked share the second");
        assert_eq!(gate.confirm(later(20), true, async || Ok(())).await, Ok(()));
    }
}
