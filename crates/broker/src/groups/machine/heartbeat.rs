//! Heartbeats and the checks that need no answer later: they change nothing but a member's session.

use super::Machine;
use super::event::Moment;
use crate::groups::api::{
    CommitOffsetsError, GroupState, HeartbeatError, JoinGroupError, LeaveMemberError, MemberIdentity, SyncGroupError,
};

/// A request names a member that is not, or no longer, one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSuchMember {
    Unknown,
    Fenced,
}

macro_rules! member_errors {
    ($($error:ident),*) => {$(
        impl From<NoSuchMember> for $error {
            fn from(error: NoSuchMember) -> Self {
                match error {
                    NoSuchMember::Unknown => Self::UnknownMemberId,
                    NoSuchMember::Fenced => Self::FencedInstanceId,
                }
            }
        }
    )*};
}
member_errors!(JoinGroupError, SyncGroupError, HeartbeatError, CommitOffsetsError, LeaveMemberError);

impl Machine {
    /// Whether the identity is that of a member: a static member is fenced by a newer one with its instance id.
    pub(super) fn validate_member(&self, member: &MemberIdentity) -> Result<(), NoSuchMember> {
        if let Some(instance) = &member.instance_id {
            match self.instances.get(instance) {
                None => return Err(NoSuchMember::Unknown),
                Some(id) if *id != member.member_id => return Err(NoSuchMember::Fenced),
                Some(_) => {}
            }
        }
        if self.members.contains_key(&member.member_id) { Ok(()) } else { Err(NoSuchMember::Unknown) }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Moment,
        member: &MemberIdentity,
        generation: i32,
    ) -> Result<(), HeartbeatError> {
        self.validate_member(member)?;
        if generation != self.generation {
            return Err(HeartbeatError::IllegalGeneration);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(HeartbeatError::UnknownMemberId),
            GroupState::PreparingRebalance => {
                self.extend_session(now, &member.member_id);
                Err(HeartbeatError::RebalanceInProgress)
            }
            // Members may send heartbeats as soon as they know the generation.
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.extend_session(now, &member.member_id);
                Ok(())
            }
        }
    }

    /// Whether offsets may be committed in the group's name. A member's commit keeps its session alive.
    pub(crate) fn check_commit(
        &mut self,
        now: Moment,
        member: &MemberIdentity,
        generation: i32,
    ) -> Result<(), CommitOffsetsError> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member.member_id.is_empty() && member.instance_id.is_none() {
            return Err(CommitOffsetsError::UnknownMemberId);
        }
        if generation >= 0 && !self.exists() {
            return Err(CommitOffsetsError::GroupIdNotFound);
        }
        self.validate_member(member)?;
        if generation != self.generation {
            return Err(CommitOffsetsError::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(CommitOffsetsError::RebalanceInProgress);
        }
        self.extend_session(now, &member.member_id);
        Ok(())
    }

    /// A session is only ever made longer, so that the next look at the sessions stays early enough.
    fn extend_session(&mut self, now: Moment, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = member.deadline.max(now.after_ms(member.session_timeout_ms));
        }
    }
}
