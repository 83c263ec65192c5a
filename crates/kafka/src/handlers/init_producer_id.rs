//! InitProducerId: an id for an idempotent producer. Transactional producers are refused once and for all.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, TRANSACTIONAL_ID_AUTHORIZATION_FAILED};

pub(super) async fn handle(context: &mut Context, request: InitProducerIdRequest, _: i16) -> InitProducerIdResponse {
    let refused = |code| {
        InitProducerIdResponse::default().with_error_code(code).with_producer_id((-1).into()).with_producer_epoch(-1)
    };
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    if (id == -1) != (epoch == -1) {
        return refused(INVALID_REQUEST);
    }
    match request.transactional_id {
        Some(name) if name.is_empty() => return refused(INVALID_REQUEST),
        // The one code at which every client stops at once.
        Some(_) => return refused(TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        None => {}
    }
    match context.broker().init_producer().await {
        Ok(identity) => InitProducerIdResponse::default()
            .with_producer_id(identity.id.0.into())
            .with_producer_epoch(identity.epoch.0),
        Err(error) => refused(error.code()),
    }
}
