//! UnregisterBroker: lets go of a node that does not come back.

use broker::RemoveNodeError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use record::NodeId;

use super::topic_partition::text;
use crate::context::Context;
use crate::errors::Code;

pub(super) async fn handle(
    context: &mut Context,
    request: UnregisterBrokerRequest,
    _: i16,
) -> UnregisterBrokerResponse {
    let response = UnregisterBrokerResponse::default();
    let id = request.broker_id.0;
    let removed = match u64::try_from(id) {
        Ok(node) => context.broker().remove_node(NodeId(node)).await,
        Err(_) => Err(RemoveNodeError::UnknownNode),
    };
    match removed {
        Ok(()) => response,
        Err(error) => {
            let message = match &error {
                RemoveNodeError::UnknownNode => format!("Broker ID {id} is not currently registered"),
                error => error.to_string(),
            };
            response.with_error_code(error.code()).with_error_message(Some(text(message)))
        }
    }
}
