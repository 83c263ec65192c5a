//! LeaveGroup: members go, one before version 3, any number since.

use broker::groups::{LeaveGroup, MemberIdentity};
use kafka_protocol::messages::leave_group_request::MemberIdentity as Leaving;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::context::Context;
use crate::errors::{Code, NONE};

/// The first version that names several members.
const BATCHED: i16 = 3;

pub(super) async fn handle(context: &mut Context, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let leaving =
        if version >= BATCHED { request.members } else { vec![Leaving::default().with_member_id(request.member_id)] };
    let members = leaving
        .iter()
        .map(|member| MemberIdentity {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(|id| id.to_string()),
        })
        .collect();
    let leave = LeaveGroup { group_id: request.group_id.to_string(), members };
    let left = match context.broker().groups().leave(leave).await {
        Ok(left) => left,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    let mut codes = left.iter().map(|result| match result {
        Ok(()) => NONE,
        Err(error) => error.code(),
    });
    if version < BATCHED {
        return LeaveGroupResponse::default().with_error_code(codes.next().unwrap_or(NONE));
    }
    let members = leaving.iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
