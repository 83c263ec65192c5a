//! SyncGroup: the leader hands out the assignment, byte for byte; everyone gets theirs.

use broker::groups::{MemberIdentity, SyncGroup};
use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{Code, INCONSISTENT_GROUP_PROTOCOL};

/// The first version that names the protocol, in both directions.
const NAMES_PROTOCOL_SINCE: i16 = 5;

pub(super) async fn handle(context: &mut Context, request: SyncGroupRequest, version: i16) -> SyncGroupResponse {
    let names_protocol = version >= NAMES_PROTOCOL_SINCE;
    if names_protocol && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return SyncGroupResponse::default().with_error_code(INCONSISTENT_GROUP_PROTOCOL);
    }
    let sync = SyncGroup {
        group_id: request.group_id.to_string(),
        member: MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
        },
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        // Copied: the group keeps them, and must not keep the request's buffer.
        assignments: request
            .assignments
            .iter()
            .map(|member| (member.member_id.to_string(), Bytes::copy_from_slice(&member.assignment)))
            .collect(),
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
