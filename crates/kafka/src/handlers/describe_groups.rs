//! DescribeGroups: state, protocol and members of groups.

use broker::groups::{DescribeGroupError, GroupDescription};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::room::{Room, without_repeats};
use super::topic_partition::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, text};
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST};

/// The first version that says of a group that it does not exist; before, it is described as dead.
const GROUP_NOT_FOUND_SINCE: i16 = 6;
/// The first version with static members' instance ids.
const INSTANCE_ID_SINCE: i16 = 4;

pub(super) async fn handle(
    context: &mut Context,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut asked = request.groups;
    without_repeats(&mut asked, |group_id| group_id.to_string());
    let mut room = Room::of(context);
    for group_id in asked {
        if room.is_used_up() {
            groups.push(DescribedGroup::default().with_group_id(group_id).with_error_code(INVALID_REQUEST));
            continue;
        }
        let described = match context.broker().groups().describe(&group_id).await {
            Ok(description) => {
                let asked = request.include_authorized_operations && !description.members.is_empty();
                let operations = if asked { GROUP_OPERATIONS } else { OPERATIONS_NOT_ASKED };
                described(group_id, description, version).with_authorized_operations(operations)
            }
            Err(error) => refused(group_id, &error, version),
        };
        room.take(described.members.iter().map(bytes).sum());
        groups.push(described);
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

/// About what one member of an answer takes, in memory and on the wire.
fn bytes(member: &DescribedGroupMember) -> usize {
    size_of::<DescribedGroupMember>() + 2 * (member.member_metadata.len() + member.member_assignment.len())
}

fn described(group_id: GroupId, description: GroupDescription, version: i16) -> DescribedGroup {
    let members = description.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            // Ignorable: left out where the version has no place for it.
            .with_group_instance_id(if version >= INSTANCE_ID_SINCE { member.instance_id.map(text) } else { None })
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_id(group_id)
        .with_group_state(StrBytes::from_static_str(description.state.name()))
        .with_protocol_type(text(description.protocol_type))
        .with_protocol_data(text(description.protocol))
        .with_members(members.collect())
}

fn refused(group_id: GroupId, error: &DescribeGroupError, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(group_id);
    match error {
        DescribeGroupError::GroupIdNotFound { .. } => {
            let dead = group.with_group_state(StrBytes::from_static_str("Dead"));
            if version < GROUP_NOT_FOUND_SINCE {
                return dead;
            }
            dead.with_error_code(error.code()).with_error_message(Some(text(error.to_string())))
        }
        DescribeGroupError::Coordinator(error) => group.with_error_code(error.code()),
    }
}
