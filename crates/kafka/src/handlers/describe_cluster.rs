//! DescribeCluster: its nodes as the listener that was asked advertises them.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::topic_partition::{CLUSTER_OPERATIONS, operations, text};
use crate::context::Context;
use crate::errors::{MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(context: &mut Context, request: DescribeClusterRequest, _: i16) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_endpoint_type(BROKERS);
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return response.with_error_code(MISMATCHED_ENDPOINT_TYPE).with_error_message(Some(text(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            )));
        }
        other => {
            return response
                .with_error_code(UNSUPPORTED_ENDPOINT_TYPE)
                .with_error_message(Some(text(format!("Unsupported endpoint type {other}"))));
        }
    }
    let shared = &context.shared;
    let endpoints = shared.endpoints();
    let away = if request.include_fenced_brokers { endpoints.away() } else { &[] };
    let live = endpoints.all().iter().map(|endpoint| (endpoint, false));
    let brokers = live.chain(away.iter().map(|endpoint| (endpoint, true))).map(|(endpoint, is_away)| {
        DescribeClusterBroker::default()
            .with_broker_id(endpoint.id.into())
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.as_deref().map(text))
            .with_is_fenced(is_away)
    });
    response
        .with_cluster_id(text(&shared.cluster_id))
        .with_controller_id(shared.controller_id(&endpoints).into())
        .with_cluster_authorized_operations(operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ))
        .with_brokers(brokers.collect())
}
