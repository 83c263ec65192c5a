//! SyncGroup: the leader hands out the assignment, byte for byte; everyone gets theirs.

use broker::groups::{MemberIdentity, SyncGroup};
use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{Code, INCONSISTENT_GROUP_PROTOCOL};

/// The first version that names the protocol, in both directions.
const NAMES_PROTOCOL_SINCE: i16 = 5;

/// What is asked, in buffers of its own: a member may wait for long, and the group keeps some of it. None when the
/// protocol must be named and is not.
pub(super) fn owned(request: SyncGroupRequest, version: i16) -> Option<SyncGroup> {
    let names_protocol = version >= NAMES_PROTOCOL_SINCE;
    if names_protocol && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return None;
    }
    Some(SyncGroup {
        group_id: request.group_id.to_string(),
        member: MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
        },
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .iter()
            .map(|member| (member.member_id.to_string(), Bytes::copy_from_slice(&member.assignment)))
            .collect(),
    })
}

pub(super) async fn handle(context: &mut Context, sync: Option<SyncGroup>, version: i16) -> SyncGroupResponse {
    let names_protocol = version >= NAMES_PROTOCOL_SINCE;
    let Some(sync) = sync else {
        return SyncGroupResponse::default().with_error_code(INCONSISTENT_GROUP_PROTOCOL);
    };
    match context.broker().groups().sync(sync).await {
        Ok(synced) => {
            let response = SyncGroupResponse::default().with_assignment(synced.assignment);
            if names_protocol {
                response
                    .with_protocol_type(Some(text(synced.protocol_type)))
                    .with_protocol_name(Some(text(synced.protocol)))
            } else {
                response
            }
        }
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}
