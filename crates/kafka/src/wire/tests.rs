//! Every decoder against its own encoder, against random bytes and against damaged requests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self, FetchResponse, OffsetCommitResponse, ProduceResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use record::{LeaderEpoch, StreamOffset, TopicId};
use uuid::Uuid;

use super::fetch::FetchRequest;
use super::fetch_response::{self, Aborted, PartitionHead, Piece};
use super::produce::{self, AnswerDetail, NodeEndpoint, PartitionAnswer, ProduceRequest, TopicKey};
use super::read::Malformed;
use super::response::ResponseBuilder;
use super::{commit, guard, schema};
use crate::handshake::{APIS, Api, ApiKey, RequestHeader};
use crate::limits::DECODED_BYTES_MAX;

fn header(api: &Api, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(api.code.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend([0, 4]);
    bytes.extend(b"test");
    if api.is_flexible(version) {
        bytes.push(0);
    }
    bytes
}

fn parsed(api: &Api, version: i16) -> RequestHeader {
    RequestHeader::parse(&Bytes::from(header(api, version))).expect("a header of ours")
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).expect("a message of ours");
    bytes.freeze()
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

/// A body of every API and version with something in every array, as the message crate writes it.
fn bodies() -> Vec<(&'static Api, i16, Bytes)> {
    let mut all = Vec::new();
    for api in &APIS {
        for version in api.min..=api.max {
            let fields = match schema::body(api.key) {
                Some(fields) => fields,
                None if api.key == ApiKey::Produce => {
                    all.push((api, version, encoded(&produce_request(version), version)));
                    continue;
                }
                None => {
                    all.push((api, version, encoded(&fetch_request(version), version)));
                    continue;
                }
            };
            let mut body = BytesMut::new();
            fill(&mut body, fields, version, api.is_flexible(version));
            all.push((api, version, body.freeze()));
        }
    }
    all
}

/// Writes a structure with two items in every array and something in every text.
fn fill(into: &mut BytesMut, fields: &[schema::Field], version: i16, flexible: bool) {
    use super::write::Write;
    use bytes::BufMut;
    for field in fields.iter().filter(|field| version >= field.since && version <= field.until) {
        match field.kind {
            schema::Kind::Fixed(size) => into.put_bytes(1, size),
            schema::Kind::Text => into.text(flexible, "text"),
            schema::Kind::Blob if flexible => into.text(true, "blob"),
            schema::Kind::Blob => {
                into.put_i32(4);
                into.put_slice(b"blob");
            }
            schema::Kind::FixedArray(size) => {
                into.count(flexible, 2);
                into.put_bytes(1, 2 * size);
            }
            schema::Kind::TextArray => {
                into.count(flexible, 2);
                into.text(flexible, "one");
                into.text(flexible, "two");
            }
            schema::Kind::Array(fields) => {
                into.count(flexible, 2);
                fill(into, fields, version, flexible);
                fill(into, fields, version, flexible);
            }
            schema::Kind::Optional(fields) => {
                into.put_i8(1);
                fill(into, fields, version, flexible);
            }
        }
    }
    if flexible {
        // One unknown tagged field of three bytes.
        into.put_slice(&[1, 100, 3, 1, 2, 3]);
    }
}

fn produce_request(version: i16) -> messages::ProduceRequest {
    let data = |index, records: &'static [u8]| {
        PartitionProduceData::default().with_index(index).with_records(Some(Bytes::from_static(records)))
    };
    let topic = |text, id| {
        let topic = TopicProduceData::default();
        let topic = if version >= 13 { topic.with_topic_id(Uuid::from_u128(id)) } else { topic.with_name(name(text)) };
        topic.with_partition_data(vec![data(0, b"first"), data(1, b"second")])
    };
    messages::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic("left", 1), topic("right", 2)])
}

fn fetch_request(version: i16) -> messages::FetchRequest {
    let partition = |index| {
        let partition =
            FetchPartition::default().with_partition(index).with_fetch_offset(5).with_partition_max_bytes(9);
        let partition = if version >= 9 { partition.with_current_leader_epoch(3) } else { partition };
        let partition = if version >= 12 { partition.with_last_fetched_epoch(2) } else { partition };
        let partition = if version >= 17 { partition.with_replica_directory_id(Uuid::from_u128(9)) } else { partition };
        if version >= 18 { partition.with_high_watermark(77) } else { partition }
    };
    let topic = FetchTopic::default().with_partitions(vec![partition(0), partition(4)]);
    let topic = if version >= 13 { topic.with_topic_id(Uuid::from_u128(6)) } else { topic.with_topic(name("one")) };
    let request = messages::FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    let request = if version >= 12 { request.with_cluster_id(Some(StrBytes::from_static_str("it"))) } else { request };
    let request = if version >= 15 {
        request.with_replica_state(ReplicaState::default().with_replica_id(8.into()).with_replica_epoch(1))
    } else {
        request.with_replica_id((-1).into())
    };
    if version < 7 {
        return request;
    }
    let forgotten = ForgottenTopic::default().with_partitions(vec![2, 3]);
    let forgotten =
        if version >= 13 { forgotten.with_topic_id(Uuid::from_u128(6)) } else { forgotten.with_topic(name("two")) };
    let request = request.with_session_id(11).with_session_epoch(12).with_forgotten_topics_data(vec![forgotten]);
    if version >= 11 { request.with_rack_id(StrBytes::from_static_str("rack")) } else { request }
}

#[test]
fn every_schema_reads_what_the_message_crate_reads() {
    for (api, version, body) in bodies() {
        let mut frame = header(api, version);
        frame.extend_from_slice(&body);
        let frame = Bytes::from(frame);
        assert!(crate::decode_any(&frame), "{:?} {version}", api.key);
        // Nothing less is enough.
        for cut in 1..=body.len().min(200) {
            let _ = crate::decode_any(&frame.slice(..frame.len() - cut));
        }
        let Some(fields) = schema::body(api.key) else { continue };
        let flexible = api.is_flexible(version);
        let at = frame.len() - body.len();
        assert!(guard::check(fields, &frame, at, version, flexible, DECODED_BYTES_MAX).is_ok());
        let cut = frame.slice(..frame.len() - 1);
        let short = guard::check(fields, &cut, at, version, flexible, DECODED_BYTES_MAX);
        assert!(body.is_empty() || short.is_err(), "{:?} {version}", api.key);
    }
}

#[test]
fn produce_reads_what_the_message_crate_writes() {
    let api = Api::by_code(0).expect("produce");
    for version in 3..=13 {
        let body = encoded(&produce_request(version), version);
        let request =
            ProduceRequest::decode(&body, 0, version, api.is_flexible(version), DECODED_BYTES_MAX).expect("decodes");
        assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
        assert_eq!(request.topics.iter().map(|topic| topic.partitions).collect::<Vec<_>>(), [2, 2]);
        let records: Vec<_> = request.partitions.iter().map(|partition| partition.records.as_deref()).collect();
        assert_eq!(records, [Some(&b"first"[..]), Some(b"second"), Some(b"first"), Some(b"second")]);
        match &request.topics[1].key {
            TopicKey::Name(name) => assert_eq!((version < 13, name.as_str()), (true, "right")),
            TopicKey::Id(id) => assert_eq!((version >= 13, *id), (true, TopicId(2))),
        }
    }
}

#[test]
fn fetch_reads_what_the_message_crate_writes() {
    let api = Api::by_code(1).expect("fetch");
    for version in 4..=18 {
        let body = encoded(&fetch_request(version), version);
        let request =
            FetchRequest::decode(&body, 0, version, api.is_flexible(version), DECODED_BYTES_MAX).expect("decodes");
        assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 1 << 20));
        assert_eq!(request.isolation, 1);
        assert_eq!(request.replica_id, if version >= 15 { 8 } else { -1 });
        let last = request.partitions[1];
        assert_eq!((last.index, last.fetch_offset, last.max_bytes), (4, 5, 9));
        assert_eq!(last.current_leader_epoch, if version >= 9 { 3 } else { -1 });
        assert_eq!(last.last_fetched_epoch, if version >= 12 { 2 } else { -1 });
        let session = if version >= 7 { (11, 12, 1) } else { (0, -1, 0) };
        assert_eq!((request.session_id, request.session_epoch, request.forgotten.len()), session);
    }
}

#[test]
fn produce_response_is_what_the_message_crate_reads() {
    let api = Api::by_code(0).expect("produce");
    for version in 3..=13 {
        let flexible = api.is_flexible(version);
        let body = encoded(&produce_request(version), version);
        let request = ProduceRequest::decode(&body, 0, version, flexible, DECODED_BYTES_MAX).expect("decodes");
        let detail = AnswerDetail {
            record_errors: vec![(3, "bad".to_owned())],
            message: Some("worse".to_owned()),
            current_leader: Some((5, 6)),
            due: None,
        };
        let refused = PartitionAnswer { detail: Some(Box::new(detail)), ..PartitionAnswer::refused(6) };
        let good =
            PartitionAnswer { error: 0, base_offset: 9, log_append_time_ms: 10, log_start_offset: 11, detail: None };
        let answers = [(0, &good), (1, &refused), (0, &good), (1, &good)];
        let endpoint = NodeEndpoint { id: 5, host: "there".to_owned(), port: 9, rack: Some("r".to_owned()) };
        let mut into = BytesMut::new();
        produce::write_response(&mut into, version, flexible, &request.topics, answers.into_iter(), &[endpoint]);
        let mut bytes = into.freeze();
        let response = ProduceResponse::decode(&mut bytes, version).expect("decodes");
        assert!(bytes.is_empty(), "version {version}");
        let partitions = &response.responses[0].partition_responses;
        assert_eq!((partitions[0].base_offset, partitions[0].log_append_time_ms), (9, 10));
        assert_eq!(partitions[1].error_code, 6);
        assert_eq!(partitions[1].record_errors.len(), usize::from(version >= 8));
        assert_eq!(partitions[1].current_leader.leader_id.0, if version >= 10 { 5 } else { -1 });
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 10));
    }
}

#[test]
fn fetch_response_is_what_the_message_crate_reads() {
    let api = Api::by_code(1).expect("fetch");
    for version in 4..=18 {
        let flexible = api.is_flexible(version);
        let header = parsed(api, version);
        let mut builder = ResponseBuilder::new(&header, 0);
        let key = if version >= 13 { TopicKey::Id(TopicId(6)) } else { TopicKey::Name("one".to_owned().into()) };
        let found = PartitionHead {
            index: 0,
            error: 0,
            high_watermark: 20,
            last_stable_offset: 21,
            log_start_offset: 22,
            diverging_epoch: Some((1, 2)),
            current_leader: None,
            aborted: Aborted::Null,
        };
        let mut refused = PartitionHead::refused(3, 6, Aborted::Empty);
        refused.current_leader = Some((5, 6));
        let batch: Vec<u8> = (0..100).collect();
        fetch_response::begin(&mut builder, version, flexible, 0, 31, 1);
        fetch_response::begin_topic(&mut builder, flexible, &key, 2);
        fetch_response::begin_partition(&mut builder, version, flexible, &found, 200);
        for offset in [40, 41] {
            // The prefix spans two pieces.
            let pieces = [Bytes::copy_from_slice(&batch[..10]), Bytes::copy_from_slice(&batch[10..])];
            let pieces = pieces.into_iter().map(Piece::Memory);
            fetch_response::batch(&mut builder, StreamOffset(offset), LeaderEpoch(7), 100, pieces);
        }
        fetch_response::end_partition(&mut builder, flexible, &found);
        fetch_response::begin_partition(&mut builder, version, flexible, &refused, 0);
        fetch_response::end_partition(&mut builder, flexible, &refused);
        fetch_response::end_topic(&mut builder, flexible);
        let endpoint = NodeEndpoint { id: 5, host: "there".to_owned(), port: 9, rack: Some("r".to_owned()) };
        fetch_response::end(&mut builder, version, flexible, &[endpoint]);
        let bytes = builder.finish().expect("small").to_vec();
        let size = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
        assert_eq!(usize::try_from(size), Ok(bytes.len() - 4));
        let mut body = Bytes::from(bytes).slice(8 + usize::from(flexible)..);
        let response = FetchResponse::decode(&mut body, version).expect("decodes");
        assert!(body.is_empty(), "version {version}");
        assert_eq!(response.session_id, if version >= 7 { 31 } else { 0 });
        let partitions = &response.responses[0].partitions;
        let records = partitions[0].records.as_ref().expect("records");
        assert_eq!(records.len(), 200);
        assert_eq!(records[..16], record::read_prefix(StreamOffset(40), 88, LeaderEpoch(7)));
        assert_eq!(records[16..100], batch[16..]);
        assert_eq!(records[100..116], record::read_prefix(StreamOffset(41), 88, LeaderEpoch(7)));
        assert_eq!((partitions[0].high_watermark, partitions[0].last_stable_offset), (20, 21));
        assert_eq!(partitions[0].diverging_epoch.end_offset, if version >= 12 { 2 } else { -1 });
        assert_eq!(partitions[1].current_leader.leader_id.0, if version >= 12 { 5 } else { -1 });
        assert!(partitions[0].aborted_transactions.is_none() && partitions[1].aborted_transactions.is_some());
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
    }
}

#[test]
fn offset_commit_by_id_answers_in_the_shape_of_the_definition() {
    let topic = OffsetCommitResponseTopic::default()
        .with_topic_id(Uuid::from_u128(3))
        .with_partitions(vec![OffsetCommitResponsePartition::default().with_partition_index(4).with_error_code(100)]);
    let response = OffsetCommitResponse::default().with_topics(vec![topic]);
    let mut into = BytesMut::new();
    commit::encode_offset_commit(&mut into, &response);
    let mut expected = vec![0, 0, 0, 0, 2];
    expected.extend(3_u128.to_be_bytes());
    expected.extend([2, 0, 0, 0, 4, 0, 100, 0, 0, 0]);
    assert_eq!(&into[..], &expected[..]);
}

#[test]
fn counts_without_bytes_behind_them_allocate_nothing() {
    for api in &APIS {
        for version in api.min..=api.max {
            for huge in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80, 0, 0, 0]] {
                let mut frame = header(api, version);
                for _ in 0..8 {
                    frame.extend_from_slice(huge);
                }
                let _ = crate::decode_any(&Bytes::from(frame));
            }
        }
    }
}

#[test]
fn a_request_of_empty_items_costs_no_more_than_its_limit() {
    // Metadata 12 of sixteen million nameless topics.
    let api = Api::by_code(3).expect("metadata");
    let mut frame = header(api, 12);
    let at = frame.len();
    frame.extend([0x81, 0x80, 0x80, 0x08]);
    frame.resize(at + (16 << 20) * 18 + 8, 0);
    let frame = Bytes::from(frame);
    let fields = schema::body(ApiKey::Metadata).expect("walked");
    let refused = guard::check(fields, &frame, at, 12, true, DECODED_BYTES_MAX);
    assert!(matches!(refused, Err(Malformed::TooCostly { .. })));
}

#[test]
fn a_known_tag_must_fill_its_size() {
    let api = Api::by_code(1).expect("fetch");
    let good = encoded(&fetch_request(15), 15);
    // The replica state is the last tagged field: one tag byte, one size byte, 13 bytes, then nothing.
    let mut bad = good.to_vec();
    let size_at = bad.len() - 14;
    assert_eq!(bad[size_at], 13);
    bad[size_at] = 12;
    let bad = Bytes::from(bad);
    assert!(FetchRequest::decode(&good, 0, 15, api.is_flexible(15), DECODED_BYTES_MAX).is_ok());
    assert!(FetchRequest::decode(&bad, 0, 15, api.is_flexible(15), DECODED_BYTES_MAX).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(api in 0..APIS.len(), version in 0..20_i16, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut frame = header(&APIS[api], version);
        frame.extend(body);
        let _ = crate::decode_any(&Bytes::from(frame));
    }

    #[test]
    fn random_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = crate::decode_any(&Bytes::from(bytes));
    }

    #[test]
    fn damaged_requests_never_panic(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = bodies();
        let (api, version, body) = &all[which.index(all.len())];
        let mut frame = header(api, *version);
        let at = frame.len();
        frame.extend_from_slice(body);
        if frame.len() > at {
            for (place, value) in damage {
                let place = at + place.index(frame.len() - at);
                frame[place] = value;
            }
            frame.truncate(at + cut.index(frame.len() - at + 1));
        }
        let _ = crate::decode_any(&Bytes::from(frame));
    }
}
