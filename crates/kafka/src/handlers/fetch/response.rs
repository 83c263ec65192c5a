//! The response to a fetch, as it goes out.

use super::{Answer, Read, payload};
use crate::context::Context;
use crate::endpoints::Endpoints;
use crate::errors::NONE;
use crate::handshake::RequestHeader;
use crate::wire::fetch_response as write;
use crate::wire::response::{EncodeError, Response, ResponseBuilder};

/// Writes those answers that are told, grouped by topic as they follow each other.
pub(super) fn respond(
    context: &Context,
    header: &RequestHeader,
    session_id: i32,
    reads: &[Read],
    answers: Vec<Answer>,
    told: &[bool],
) -> ResponseBuilder {
    let mut told: Vec<(&Read, Answer)> =
        reads.iter().zip(answers).zip(told).filter(|(_, told)| **told).map(|(pair, _)| pair).collect();
    let (version, flexible) = (header.version, header.api.is_flexible(header.version));
    let batches: usize = told.iter().map(|(_, answer)| answer.batches.len()).sum();
    let mut builder = ResponseBuilder::new(header, 64 + 80 * told.len() + 16 * batches);
    let same_topic = |left: &(&Read, Answer), right: &(&Read, Answer)| left.0.key == right.0.key;
    let topics = told.chunk_by(same_topic).count();
    let mut leads_elsewhere = false;
    write::begin(&mut builder, version, flexible, NONE, session_id, topics);
    for topic in told.chunk_by_mut(same_topic) {
        write::begin_topic(&mut builder, flexible, &topic[0].0.key, topic.len());
        for (_, answer) in topic {
            leads_elsewhere |= answer.head.current_leader.is_some();
            write::begin_partition(&mut builder, version, flexible, &answer.head, answer.bytes);
            for batch in answer.batches.drain(..) {
                payload::append(&mut builder, batch);
            }
            write::end_partition(&mut builder, flexible, &answer.head);
        }
        write::end_topic(&mut builder, flexible);
    }
    let endpoints = leads_elsewhere.then(|| context.shared.endpoints());
    write::end(&mut builder, version, flexible, endpoints.as_deref().map_or(&[], Endpoints::all));
    builder
}

pub(super) fn refused(header: &RequestHeader, code: i16) -> Result<Response, EncodeError> {
    let (version, flexible) = (header.version, header.api.is_flexible(header.version));
    let mut builder = ResponseBuilder::new(header, 64);
    write::begin(&mut builder, version, flexible, code, 0, 0);
    write::end(&mut builder, version, flexible, &[]);
    builder.finish()
}
