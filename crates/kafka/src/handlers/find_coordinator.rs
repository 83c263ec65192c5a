//! FindCoordinator: who coordinates a group. Nobody coordinates transactions or share groups yet.

use broker::groups::CoordinatorError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::room::without_repeats;
use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{COORDINATOR_NOT_AVAILABLE, Code, INVALID_REQUEST, NONE, TRANSACTIONAL_ID_AUTHORIZATION_FAILED};
use crate::wire::produce::NodeEndpoint;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version that asks for several keys at once (KIP-699).
const BATCHED: i16 = 4;

/// What one key is told.
struct Found {
    error: i16,
    message: &'static str,
    endpoint: Option<NodeEndpoint>,
}

pub(super) async fn handle(
    context: &mut Context,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if version >= BATCHED {
        let mut keys = request.coordinator_keys;
        without_repeats(&mut keys, |key| key.to_string());
        let coordinators = keys.iter().map(|key| batched(context, request.key_type, key));
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    let found = find(context, request.key_type, &request.key);
    let message = (!found.message.is_empty()).then(|| text(found.message));
    let (id, host, port) = place(found.endpoint);
    FindCoordinatorResponse::default()
        .with_error_code(found.error)
        .with_error_message(message)
        .with_node_id(id.into())
        .with_host(host)
        .with_port(port)
}

fn batched(context: &Context, key_type: i8, key: &StrBytes) -> Coordinator {
    let found = find(context, key_type, key);
    let (id, host, port) = place(found.endpoint);
    Coordinator::default()
        .with_key(key.clone())
        .with_node_id(id.into())
        .with_host(host)
        .with_port(port)
        .with_error_code(found.error)
        .with_error_message(Some(text(found.message)))
}

fn place(endpoint: Option<NodeEndpoint>) -> (i32, StrBytes, i32) {
    endpoint.map_or_else(|| (-1, StrBytes::new(), -1), |endpoint| (endpoint.id, text(endpoint.host), endpoint.port))
}

/// Names only nodes that Metadata lists, too.
fn find(context: &Context, key_type: i8, key: &str) -> Found {
    let refused = |error, message| Found { error, message, endpoint: None };
    match key_type {
        GROUP => {}
        // The one code at which every client stops at once; all others make some of them ask for ever.
        TRANSACTION => {
            return refused(TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Transactions are not supported by this broker.");
        }
        _ => return refused(INVALID_REQUEST, "There is no coordinator of this type."),
    }
    let node = match context.broker().groups().coordinator(key) {
        Ok(node) | Err(CoordinatorError::NotCoordinator { leader: Some(node) }) => node,
        Err(error @ (CoordinatorError::Loading | CoordinatorError::Unavailable(_))) => {
            return refused(error.code(), "The coordinator is not available.");
        }
        Err(CoordinatorError::NotCoordinator { leader: None }) => {
            return refused(COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.");
        }
    };
    match context.shared.endpoints().find(node) {
        Some(endpoint) => Found { error: NONE, message: "", endpoint: Some(endpoint.clone()) },
        None => refused(COORDINATOR_NOT_AVAILABLE, "The coordinator is not available."),
    }
}
