//! What this broker speaks: one table of APIs and versions, and the request header.
//!
//! The table is a promise: clients derive features from exact ranges, so every version in it is served. Produce is
//! advertised from 0 as Kafka does although 0 to 2 are refused: librdkafka sends nothing compressed otherwise.

use bytes::Bytes;

use crate::wire::read::{Malformed, Reader};

/// The requests that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiKey {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    SaslHandshake,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeConfigs,
    DescribeLogDirs,
    SaslAuthenticate,
    CreatePartitions,
    DeleteGroups,
    ElectLeaders,
    IncrementalAlterConfigs,
    AlterPartitionReassignments,
    ListPartitionReassignments,
    OffsetDelete,
    DescribeQuorum,
    DescribeCluster,
    UnregisterBroker,
    DescribeTopicPartitions,
}

/// One API: its key, the versions served, the first of them advertised, the first with flexible encoding.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    pub key: ApiKey,
    pub code: i16,
    pub advertised_min: i16,
    pub min: i16,
    pub max: i16,
    /// The first version with compact lengths and tagged fields; `i16::MAX` for none.
    pub flexible: i16,
}

const NEVER: i16 = i16::MAX;

const fn api(key: ApiKey, code: i16, min: i16, max: i16, flexible: i16) -> Api {
    Api { key, code, advertised_min: min, min, max, flexible }
}

/// Every API served, in the order of the keys.
pub const APIS: [Api; 34] = [
    Api { advertised_min: 0, ..api(ApiKey::Produce, 0, 3, 13, 9) },
    api(ApiKey::Fetch, 1, 4, 18, 12),
    api(ApiKey::ListOffsets, 2, 1, 11, 6),
    api(ApiKey::Metadata, 3, 0, 13, 9),
    api(ApiKey::OffsetCommit, 8, 2, 10, 8),
    api(ApiKey::OffsetFetch, 9, 1, 10, 6),
    api(ApiKey::FindCoordinator, 10, 0, 6, 3),
    api(ApiKey::JoinGroup, 11, 0, 9, 6),
    api(ApiKey::Heartbeat, 12, 0, 4, 4),
    api(ApiKey::LeaveGroup, 13, 0, 5, 4),
    api(ApiKey::SyncGroup, 14, 0, 5, 4),
    api(ApiKey::DescribeGroups, 15, 0, 6, 5),
    api(ApiKey::ListGroups, 16, 0, 5, 3),
    api(ApiKey::SaslHandshake, 17, 0, 1, NEVER),
    api(ApiKey::ApiVersions, 18, 0, 4, 3),
    api(ApiKey::CreateTopics, 19, 2, 7, 5),
    api(ApiKey::DeleteTopics, 20, 1, 6, 4),
    api(ApiKey::DeleteRecords, 21, 0, 2, 2),
    api(ApiKey::InitProducerId, 22, 0, 5, 2),
    api(ApiKey::OffsetForLeaderEpoch, 23, 2, 4, 4),
    api(ApiKey::DescribeConfigs, 32, 1, 4, 4),
    api(ApiKey::DescribeLogDirs, 35, 1, 5, 2),
    api(ApiKey::SaslAuthenticate, 36, 0, 2, 2),
    api(ApiKey::CreatePartitions, 37, 0, 3, 2),
    api(ApiKey::DeleteGroups, 42, 0, 2, 2),
    api(ApiKey::ElectLeaders, 43, 0, 2, 2),
    api(ApiKey::IncrementalAlterConfigs, 44, 0, 1, 1),
    api(ApiKey::AlterPartitionReassignments, 45, 0, 1, 0),
    api(ApiKey::ListPartitionReassignments, 46, 0, 0, 0),
    api(ApiKey::OffsetDelete, 47, 0, 0, NEVER),
    api(ApiKey::DescribeQuorum, 55, 0, 2, 0),
    api(ApiKey::DescribeCluster, 60, 0, 2, 0),
    api(ApiKey::UnregisterBroker, 64, 0, 0, 0),
    api(ApiKey::DescribeTopicPartitions, 75, 0, 0, 0),
];

impl Api {
    /// The API with this key on the wire.
    #[must_use]
    pub fn by_code(code: i16) -> Option<&'static Self> {
        APIS.binary_search_by_key(&code, |api| api.code).ok().map(|at| &APIS[at])
    }

    /// Whether `version` is served.
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        version >= self.min && version <= self.max
    }

    /// Whether `version` has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Whether a response of `version` has a tagged section in its header. The response to ApiVersions never has:
    /// a client must be able to read it before it knows what the broker speaks (KIP-511).
    #[must_use]
    pub const fn response_header_is_flexible(&self, version: i16) -> bool {
        self.is_flexible(version) && !matches!(self.key, ApiKey::ApiVersions)
    }
}

/// The header of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestHeader {
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// The client id's bytes, a slice of the frame; not checked to be UTF-8 here.
    pub(crate) client_id: Option<Bytes>,
    /// Where the body begins in the frame.
    pub(crate) body_at: usize,
}

/// Why a header is not taken. All end the connection, as they do in Kafka.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("api key {code} is not served")]
    UnknownApi { code: i16 },
    #[error("{key:?} version {version} is not served")]
    UnsupportedVersion { key: ApiKey, version: i16 },
    #[error("malformed request header: {0}")]
    Malformed(#[from] Malformed),
}

impl RequestHeader {
    /// Reads the header at the start of `frame`. A version of ApiVersions that is not served passes: it has an answer.
    pub(crate) fn parse(frame: &Bytes) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(frame);
        let code = reader.i16()?;
        let version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let api = Api::by_code(code).ok_or(HeaderError::UnknownApi { code })?;
        if !api.serves(version) && api.key != ApiKey::ApiVersions {
            return Err(HeaderError::UnsupportedVersion { key: api.key, version });
        }
        // The client id keeps its two-byte length in every header version.
        let client_id = reader.nullable_blob_i16()?;
        if api.is_flexible(version) {
            reader.skip_tags()?;
        }
        Ok(Self { api, version, correlation_id, client_id, body_at: reader.position() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_and_ranges_hold() {
        for pair in APIS.windows(2) {
            assert!(pair[0].code < pair[1].code);
            assert!(pair[0].key < pair[1].key);
        }
        for api in &APIS {
            assert!(api.advertised_min <= api.min && api.min <= api.max);
            assert_eq!(Api::by_code(api.code).map(|found| found.key), Some(api.key));
        }
        assert!(Api::by_code(4).is_none() && Api::by_code(-1).is_none() && Api::by_code(999).is_none());
    }

    #[test]
    fn ranges_and_flexibility_are_those_of_the_message_crate() {
        for api in &APIS {
            let theirs = kafka_protocol::messages::ApiKey::try_from(api.code).expect("a Kafka key");
            for version in api.min..=api.max {
                assert_eq!(
                    api.is_flexible(version),
                    theirs.request_header_version(version) == 2,
                    "{:?} {version}",
                    api.key
                );
                assert_eq!(
                    api.response_header_is_flexible(version),
                    theirs.response_header_version(version) == 1,
                    "{:?} {version}",
                    api.key
                );
            }
            let range = theirs.valid_versions();
            assert_eq!(api.min, range.min, "{:?}", api.key);
            match api.key {
                // The last version is not stable, and brokers do not show it.
                ApiKey::InitProducerId => assert_eq!(api.max, range.max - 1),
                // The crate lacks the last version of these.
                ApiKey::ListOffsets | ApiKey::OffsetCommit | ApiKey::OffsetFetch | ApiKey::DescribeLogDirs => {}
                _ => assert_eq!(api.max, range.max, "{:?}", api.key),
            }
        }
    }

    #[test]
    fn header_of_both_shapes() {
        let mut old = vec![0, 3, 0, 1, 0, 0, 0, 7, 0, 2, b'm', b'e'];
        let header = RequestHeader::parse(&Bytes::from(old.clone())).expect("parses");
        assert_eq!((header.api.key, header.version, header.correlation_id), (ApiKey::Metadata, 1, 7));
        assert_eq!(header.client_id.as_deref(), Some(&b"me"[..]));
        assert_eq!(header.body_at, 12);
        old[3] = 9;
        old.extend([1, 5, 2, 0, 0]);
        let header = RequestHeader::parse(&Bytes::from(old)).expect("unknown tags are skipped");
        assert_eq!(header.body_at, 17);
    }
}
