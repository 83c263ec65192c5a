//! How an object that was built here becomes one of the state.

use record::{ObjectKey, Term};
use shard::{Command, Outcome};

use super::Keeper;
use crate::core::Core;
use crate::errors::ProposeError;
use crate::leadership::Leadership;
use crate::pending::Pending;
use crate::proposer::Item;

/// What came of the proposal of an object.
pub(super) enum Proposed {
    Put,
    /// The state does not want it any more.
    Refused,
    /// It was not proposed, or nobody knows yet.
    Lost,
}

impl Keeper {
    /// Proposes the command by which an object that was built here becomes one of the state.
    pub(super) async fn place(&self, key: ObjectKey, command: Command) -> Proposed {
        let (core, shard) = (&self.core, self.core.config.shard.0);
        match core.propose_object(command).await {
            Ok(Outcome::PutObject(Ok(())) | Outcome::PutCompacted(Ok(()))) => {
                core.maintenance.notify_one();
                Proposed::Put
            }
            Ok(other) => {
                tracing::debug!(shard, object = %key, ?other, "an object was not wanted any more");
                core.here.give_up(key, None);
                Proposed::Refused
            }
            Err(ProposeError::Unknown) => {
                // It was proposed in a term in which this node led.
                let Leadership { term, leader, .. } = *core.leadership.borrow();
                let is_led_by_another = leader.is_some_and(|leader| leader != core.config.node);
                let last = if is_led_by_another { Term(term.0.saturating_sub(1)) } else { term };
                core.here.give_up(key, Some(last));
                Proposed::Lost
            }
            Err(error) => {
                tracing::debug!(shard, object = %key, %error, "an object was not proposed");
                core.here.give_up(key, None);
                Proposed::Lost
            }
        }
    }
}

impl Core {
    async fn propose_object(&self, put: Command) -> Result<Outcome, ProposeError> {
        let (answer, pending) = Pending::new();
        let item = Item::without_body(put, self.config.command_bytes_max, answer)?;
        // Past the queue's bound: writers that keep it full must not keep out what makes room.
        self.proposals.queue.push_over(item)?;
        pending.await
    }
}
