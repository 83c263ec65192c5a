//! DeleteGroups: one answer per group.

use std::collections::BTreeSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::context::Context;
use crate::errors::{Code, NONE};

pub(super) async fn handle(context: &mut Context, request: DeleteGroupsRequest, _: i16) -> DeleteGroupsResponse {
    let names = request.groups_names;
    let mut results = Vec::with_capacity(names.len());
    let mut answered = BTreeSet::new();
    for group_id in names {
        // A group named twice is one group.
        if !answered.insert(group_id.clone()) {
            continue;
        }
        let code = match context.broker().groups().delete(&group_id).await {
            Ok(()) => NONE,
            Err(error) => error.code(),
        };
        results.push(DeletableGroupResult::default().with_group_id(group_id).with_error_code(code));
    }
    DeleteGroupsResponse::default().with_results(results)
}
