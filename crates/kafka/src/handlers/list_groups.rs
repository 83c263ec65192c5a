//! ListGroups: the groups that this node coordinates, by state and type.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::topic_partition::text;
use crate::context::Context;

/// The only type of group there is.
const CLASSIC: &str = "classic";
const STATE_SINCE: i16 = 4;
const TYPE_SINCE: i16 = 5;

pub(super) async fn handle(context: &mut Context, request: ListGroupsRequest, version: i16) -> ListGroupsResponse {
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    if !wanted(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let groups = context
        .broker()
        .groups()
        .list()
        .await
        .into_iter()
        .filter(|group| wanted(&request.states_filter, group.state.name()))
        .map(|group| {
            let listed = ListedGroup::default()
                .with_group_id(text(group.group_id).into())
                .with_protocol_type(text(group.protocol_type));
            let listed = if version >= STATE_SINCE {
                listed.with_group_state(StrBytes::from_static_str(group.state.name()))
            } else {
                listed
            };
            if version >= TYPE_SINCE { listed.with_group_type(StrBytes::from_static_str(CLASSIC)) } else { listed }
        });
    ListGroupsResponse::default().with_groups(groups.collect())
}
