//! SaslHandshake: no listener has SASL, and Kafka says so in these words.

use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use crate::context::Context;
use crate::errors::ILLEGAL_SASL_STATE;

pub(super) async fn handle(_: &mut Context, _: SaslHandshakeRequest, _: i16) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(ILLEGAL_SASL_STATE)
}
