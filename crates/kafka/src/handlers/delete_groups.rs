//! DeleteGroups: one answer per group.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::context::Context;
use crate::errors::{Code, NONE};

pub(super) async fn handle(context: &mut Context, request: DeleteGroupsRequest, _: i16) -> DeleteGroupsResponse {
    let mut names = request.groups_names;
    // A group named twice is one group.
    names.sort_unstable();
    names.dedup();
    let mut results = Vec::with_capacity(names.len());
    for group_id in names {
        let code = match context.broker().groups().delete(&group_id).await {
            Ok(()) => NONE,
            Err(error) => error.code(),
        };
        results.push(DeletableGroupResult::default().with_group_id(group_id).with_error_code(code));
    }
    DeleteGroupsResponse::default().with_results(results)
}
