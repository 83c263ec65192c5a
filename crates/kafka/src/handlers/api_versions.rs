//! ApiVersions: what this broker speaks.

use bytes::BufMut;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::context::Context;
use crate::errors::{INVALID_REQUEST, UNSUPPORTED_VERSION};
use crate::handshake::{APIS, Api, ApiKey, RequestHeader};
use crate::wire::response::{EncodeError, Response, ResponseBuilder};

/// The first version in which clients say what software they are.
const WITH_SOFTWARE: i16 = 3;

/// No feature is finalized: each (transactions of version 2, the consumer protocol, share groups) would make clients
/// use what is not there.
pub(super) async fn handle(context: &mut Context, request: ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    if version >= WITH_SOFTWARE {
        let (name, software_version) = (&*request.client_software_name, &*request.client_software_version);
        if !is_software(name) || !is_software(software_version) {
            return ApiVersionsResponse::default().with_error_code(INVALID_REQUEST);
        }
        let client_id = context.client_id_text();
        context.registration.describe(Some(&client_id), Some((name, software_version)));
    }
    let ranges = APIS.iter().map(|api| {
        ApiVersion::default().with_api_key(api.code).with_min_version(api.advertised_min).with_max_version(api.max)
    });
    ApiVersionsResponse::default().with_api_keys(ranges.collect())
}

/// The answer to a version that is not served: the oldest shape, with the range that is (KIP-511).
pub(super) fn unsupported(header: &RequestHeader) -> Result<Response, EncodeError> {
    let mut builder = ResponseBuilder::new(header, 32);
    let api: &Api = header.api;
    debug_assert_eq!(api.key, ApiKey::ApiVersions);
    let body = builder.head();
    body.put_i16(UNSUPPORTED_VERSION);
    body.put_i32(1);
    body.put_i16(api.code);
    body.put_i16(api.advertised_min);
    body.put_i16(api.max);
    builder.finish()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::is_software;

    #[test]
    fn software_names_are_those_of_kafkas_pattern() {
        for good in ["a", "apache-kafka-java", "librdkafka", "2.12.1", "kgo"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "ä", "a/b"] {
            assert!(!is_software(bad), "{bad}");
        }
    }
}
