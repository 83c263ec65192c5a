//! JoinGroup: a member enters a group and waits until all have.

use broker::groups::{JoinGroup, JoinGroupError, Joined, MemberIdentity};
use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::topic_partition::text;
use crate::context::Context;
use crate::errors::Code;

/// The first version whose members are given an id before they join (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version in which the protocol's name may be null.
const NULLABLE_PROTOCOL_SINCE: i16 = 7;
/// The first version whose leaders may be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

/// What is asked, in buffers of its own: a member may wait for long, and the group keeps some of it.
pub(super) fn owned(context: &Context, request: JoinGroupRequest, version: i16) -> JoinGroup {
    // Version 0 knows one time-out for both.
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        -1 => request.session_timeout_ms,
        timeout => timeout,
    };
    JoinGroup {
        group_id: request.group_id.to_string(),
        member: MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
        },
        client_id: context.client_id_text(),
        client_host: context.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        requires_known_member_id: version >= MEMBER_ID_REQUIRED_SINCE,
        supports_skipping_assignment: version >= SKIP_ASSIGNMENT_SINCE,
        reason: request.reason.map(|reason| reason.to_string()),
    }
}

pub(super) async fn handle(context: &mut Context, join: JoinGroup, version: i16) -> JoinGroupResponse {
    let member_id = text(join.member.member_id.clone());
    match context.broker().groups().join(join).await {
        Ok(joined) => accepted(joined, version),
        Err(error) => refused(&error, member_id, version),
    }
}

fn accepted(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            // Ignorable: left out where the version has no place for it.
            .with_group_instance_id(if version >= 5 { member.instance_id.map(text) } else { None })
            .with_metadata(member.metadata)
    });
    let response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_members(members.collect());
    let response = if version >= NULLABLE_PROTOCOL_SINCE {
        response.with_protocol_type(Some(text(joined.protocol_type)))
    } else {
        response
    };
    if version >= SKIP_ASSIGNMENT_SINCE { response.with_skip_assignment(joined.skip_assignment) } else { response }
}

fn refused(error: &JoinGroupError, asked: StrBytes, version: i16) -> JoinGroupResponse {
    let member_id = match error {
        JoinGroupError::MemberIdRequired { member_id } => text(member_id),
        JoinGroupError::UnknownMemberId | JoinGroupError::FencedInstanceId => asked,
        JoinGroupError::InvalidGroupId
        | JoinGroupError::InvalidSessionTimeout
        | JoinGroupError::InconsistentGroupProtocol
        | JoinGroupError::GroupMaxSizeReached
        | JoinGroupError::RebalanceInProgress
        | JoinGroupError::Coordinator(_) => StrBytes::new(),
    };
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(if version >= NULLABLE_PROTOCOL_SINCE { None } else { Some(StrBytes::new()) })
        .with_member_id(member_id)
}
