//! DescribeLogDirs, whose last version the message crate lacks: its requests are those before, its answers say one thing
//! more.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::DescribeLogDirsResponse;

use super::write::Write;

/// The last version of the message crate.
const CRATE_LAST: i16 = 4;
const WITH_ERROR: i16 = 3;
const WITH_SPACE: i16 = 4;
const WITH_CORDON: i16 = 5;

/// The version in which the message crate reads the request.
pub(crate) const fn crate_version(version: i16) -> i16 {
    if version > CRATE_LAST { CRATE_LAST } else { version }
}

pub(crate) fn encode(into: &mut BytesMut, version: i16, flexible: bool, response: &DescribeLogDirsResponse) {
    into.put_i32(response.throttle_time_ms);
    if version >= WITH_ERROR {
        into.put_i16(response.error_code);
    }
    into.count(flexible, response.results.len());
    for dir in &response.results {
        into.put_i16(dir.error_code);
        into.text(flexible, &dir.log_dir);
        into.count(flexible, dir.topics.len());
        for topic in &dir.topics {
            into.text(flexible, &topic.name);
            into.count(flexible, topic.partitions.len());
            for partition in &topic.partitions {
                into.put_i32(partition.partition_index);
                into.put_i64(partition.partition_size);
                into.put_i64(partition.offset_lag);
                into.put_u8(partition.is_future_key.into());
                into.tags(flexible, &partition.unknown_tagged_fields);
            }
            into.no_tags(flexible);
        }
        if version >= WITH_SPACE {
            into.put_i64(dir.total_bytes);
            into.put_i64(dir.usable_bytes);
        }
        if version >= WITH_CORDON {
            into.put_u8(0); // nobody keeps new partitions away from it
        }
        into.tags(flexible, &dir.unknown_tagged_fields);
    }
    into.no_tags(flexible);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    use kafka_protocol::protocol::{Decodable, StrBytes};

    use super::*;

    fn response(space: bool) -> DescribeLogDirsResponse {
        let partition = DescribeLogDirsPartition::default().with_partition_index(7).with_partition_size(9);
        let topic = DescribeLogDirsTopic::default()
            .with_name(StrBytes::from_static_str("t").into())
            .with_partitions(vec![partition]);
        let dir =
            DescribeLogDirsResult::default().with_log_dir(StrBytes::from_static_str("/d")).with_topics(vec![topic]);
        let dir = if space { dir.with_total_bytes(100).with_usable_bytes(40) } else { dir };
        DescribeLogDirsResponse::default().with_results(vec![dir])
    }

    #[test]
    fn tagged_fields_read_as_the_message_crate_reads_them() {
        let mut expected = response(true);
        let dir = &mut expected.results[0];
        dir.unknown_tagged_fields = [(10_000, Bytes::from_static(&[1; 200])), (10_001, Bytes::new())].into();
        dir.topics[0].partitions[0].unknown_tagged_fields.insert(10_000, Bytes::from_static(b"four"));
        let mut bytes = BytesMut::new();
        encode(&mut bytes, CRATE_LAST, true, &expected);
        let mut bytes = bytes.freeze();
        assert_eq!(DescribeLogDirsResponse::decode(&mut bytes, CRATE_LAST).expect("decodes"), expected);
        assert!(bytes.is_empty());
    }

    #[test]
    fn answers_read_as_the_message_crate_reads_them_and_the_last_has_one_byte_more() {
        for version in 1..=CRATE_LAST {
            let expected = response(version >= WITH_SPACE);
            let mut bytes = BytesMut::new();
            encode(&mut bytes, version, version >= 2, &expected);
            let mut bytes = bytes.freeze();
            assert_eq!(DescribeLogDirsResponse::decode(&mut bytes, version).expect("decodes"), expected);
            assert!(bytes.is_empty(), "version {version}");
        }
        let (mut before, mut last) = (BytesMut::new(), BytesMut::new());
        encode(&mut before, CRATE_LAST, true, &response(true));
        encode(&mut last, WITH_CORDON, true, &response(true));
        let (same, tags) = before.split_at(before.len() - 2);
        assert_eq!(&last[..], [same, &[0], tags].concat());
    }
}
