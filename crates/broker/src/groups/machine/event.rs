//! What goes into the machine and what comes out.

use crate::groups::api::{
    HeartbeatError, JoinGroup, JoinGroupError, Joined, Left, MemberIdentity, SyncGroup, SyncGroupError, Synced,
};

/// Milliseconds on the driver's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// A time that is not negative later; anything else means now.
    pub(crate) fn after_ms(self, milliseconds: i32) -> Self {
        Self(self.0.saturating_add(u64::try_from(milliseconds).unwrap_or(0)))
    }
}

/// Names a request that waits for its answer. The driver never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Event {
    /// `fresh_member_id` is used if the member has none.
    Join {
        ticket: Ticket,
        request: JoinGroup,
        fresh_member_id: String,
    },
    Sync {
        ticket: Ticket,
        request: SyncGroup,
    },
    Leave {
        ticket: Ticket,
        members: Vec<MemberIdentity>,
    },
    /// Time has passed.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Join(Result<Joined, JoinGroupError>),
    Sync(Result<Synced, SyncGroupError>),
    /// Not made by a step: a heartbeat is answered at once unless it must wait behind what is being persisted.
    Heartbeat(Result<(), HeartbeatError>),
    Leave(Left),
}

/// The outcome of one step.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// The machine's record must be durable before any of the replies, and any later one, is sent.
    pub(crate) persist: bool,
    pub(crate) replies: Vec<(Ticket, Reply)>,
}

impl Outputs {
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.push((ticket, reply));
    }
}
