//! Leaving: by the member itself, or by an administrator who names a static member's instance id only.

use super::Machine;
use super::event::{Moment, Outputs, Reply, Ticket};
use crate::groups::api::{LeaveMemberError, MemberIdentity};

impl Machine {
    pub(super) fn leave(&mut self, now: Moment, ticket: Ticket, members: &[MemberIdentity], out: &mut Outputs) {
        let mut any = false;
        let mut answers = Vec::with_capacity(members.len());
        for member in members {
            let answer = self.leave_one(member, out);
            any |= answer.is_ok();
            answers.push(answer);
        }
        if any {
            self.after_removal(now, out);
        }
        out.reply(ticket, Reply::Leave(answers));
    }

    fn leave_one(&mut self, member: &MemberIdentity, out: &mut Outputs) -> Result<(), LeaveMemberError> {
        let id = if member.member_id.is_empty() {
            let known = member.instance_id.as_ref().and_then(|instance| self.instances.get(instance));
            known.cloned().ok_or(LeaveMemberError::UnknownMemberId)?
        } else if self.pending.remove(&member.member_id).is_some() {
            return Ok(());
        } else {
            self.validate_member(member)?;
            member.member_id.clone()
        };
        tracing::info!(group = self.group_id, member = id, "the member leaves");
        self.remove_member(&id, out);
        Ok(())
    }
}
