//! Heartbeat: a member is alive, and learns whether its group rebalances.

use broker::groups::{Heartbeat, MemberIdentity};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::context::Context;
use crate::errors::{Code, NONE};

pub(super) async fn handle(context: &mut Context, request: HeartbeatRequest, _: i16) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group_id: request.group_id.to_string(),
        member: MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
        },
        generation: request.generation_id,
    };
    let code = match context.broker().groups().heartbeat(heartbeat).await {
        Ok(()) => NONE,
        Err(error) => error.code(),
    };
    HeartbeatResponse::default().with_error_code(code)
}
