//! When sessions are looked at: no later than the first of them ends, and not at every event.
//!
//! To find the first end among all members after each event would cost a group of many members the square of their
//! number for every rebalance. So a lower bound is kept: whatever gives a session an end lowers it, a heartbeat, which
//! only moves an end back, leaves it, and a look at all members makes it exact again.

use super::event::Moment;
use super::member::Member;
use super::{Machine, Outputs};

/// Members that go one after another are found together: a session may last this much longer.
const BETWEEN_LOOKS_MS: i32 = 100;

/// The lower bound of all ends.
#[derive(Debug, Default)]
pub(super) struct NextLook {
    at: Option<Moment>,
    /// Over all members.
    #[cfg(test)]
    pub(super) looks: usize,
}

impl NextLook {
    /// A session ends then, or later.
    pub(super) fn no_later_than(&mut self, end: Moment) {
        self.at = Some(self.at.map_or(end, |at| at.min(end)));
    }

    pub(super) fn at(&self) -> Option<Moment> {
        self.at
    }
}

impl Member {
    /// Its session begins anew, as long as the member asked for.
    pub(super) fn begin_session(&mut self, now: Moment, next_look: &mut NextLook) {
        self.deadline = now.after_ms(self.session_timeout_ms);
        next_look.no_later_than(self.deadline);
    }
}

impl Machine {
    /// The earliest end of a session or of an id that was given out.
    pub(super) fn first_end(&self) -> Option<Moment> {
        let members = self.members.values().filter(|member| member.can_expire()).map(|member| member.deadline);
        members.chain(self.pending.values().copied()).min()
    }

    /// Takes out whose session has ended, if any may have. Returns whether a member went.
    pub(super) fn expire_sessions(&mut self, now: Moment, out: &mut Outputs) -> bool {
        if self.next_look.at.is_none_or(|at| at > now) {
            return false;
        }
        self.pending.retain(|_, deadline| *deadline > now);
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.can_expire() && member.deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            tracing::info!(group = self.group_id, member = id, "the member's session expired");
            self.remove_member(id, out);
        }
        let soon = now.after_ms(BETWEEN_LOOKS_MS);
        self.next_look.at = self.first_end().map(|end| end.max(soon));
        #[cfg(test)]
        {
            self.next_look.looks += 1;
        }
        !expired.is_empty()
    }
}
