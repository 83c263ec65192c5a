//! SaslAuthenticate: no listener has SASL, and Kafka says so in these words.

use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::errors::ILLEGAL_SASL_STATE;

pub(super) async fn handle(_: &mut Context, _: SaslAuthenticateRequest, _: i16) -> SaslAuthenticateResponse {
    let message = "SaslAuthenticate request received after successful authentication";
    SaslAuthenticateResponse::default()
        .with_error_code(ILLEGAL_SASL_STATE)
        .with_error_message(Some(StrBytes::from_static_str(message)))
}
