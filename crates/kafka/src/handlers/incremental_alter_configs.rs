//! IncrementalAlterConfigs: single keys set, deleted, appended to or subtracted from; all or nothing per resource.

use std::collections::{BTreeMap, BTreeSet};

use broker::configs::{Alteration, Operation, OperationKind, Resource};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, TOPIC, broker_resource};
use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, NONE};

pub(super) async fn handle(
    context: &mut Context,
    request: IncrementalAlterConfigsRequest,
    _: i16,
) -> IncrementalAlterConfigsResponse {
    let mut times: BTreeMap<(i8, StrBytes), u32> = BTreeMap::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, resource.resource_name.clone())).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        let unique = times[&(asked.resource_type, asked.resource_name.clone())] == 1;
        let (code, message) = alter(context, asked, unique, request.validate_only).await;
        responses.push(response.with_error_code(code).with_error_message(message.map(text)));
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    context: &Context,
    asked: AlterConfigsResource,
    unique: bool,
    validate_only: bool,
) -> (i16, Option<String>) {
    if !unique {
        return (INVALID_REQUEST, Some("Each resource must appear at most once.".to_owned()));
    }
    let checked = resource(context, &asked).and_then(|resource| Ok((resource, operations(asked.configs)?)));
    let (resource, operations) = match checked {
        Ok(checked) => checked,
        Err(message) => return (INVALID_REQUEST, Some(message)),
    };
    match context.broker().configs().alter(&resource, Alteration::Incremental(operations), validate_only).await {
        Ok(()) => (NONE, None),
        Err(error) => (error.code(), Some(error.to_string())),
    }
}

fn resource(context: &Context, asked: &AlterConfigsResource) -> Result<Resource, String> {
    match asked.resource_type {
        TOPIC => Ok(Resource::Topic(asked.resource_name.to_string())),
        BROKER => broker_resource(context, &asked.resource_name, "1"),
        other => Err(format!("Unknown resource type {other}")),
    }
}

fn operations(configs: Vec<AlterableConfig>) -> Result<Vec<Operation>, String> {
    let mut names = BTreeSet::new();
    if !configs.iter().all(|config| names.insert(&config.name)) {
        return Err("Error due to duplicate config keys".to_owned());
    }
    configs
        .iter()
        .map(|config| {
            let kind = match config.config_operation {
                0 => OperationKind::Set,
                1 => OperationKind::Delete,
                2 => OperationKind::Append,
                3 => OperationKind::Subtract,
                other => return Err(format!("Unknown config operation {other}")),
            };
            if config.value.is_none() && kind != OperationKind::Delete {
                return Err(format!("Null value not supported for : {}", config.name));
            }
            let value = config.value.as_ref().map(ToString::to_string);
            Ok(Operation { name: config.name.to_string(), kind, value })
        })
        .collect()
}
