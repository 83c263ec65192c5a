//! Timestamps that are the producer's: the header tells the truth about them, and they lie within the topic's bounds.
//!
//! The header of a compressed batch is believed, and it alone decides: an append unpacks nothing, whatever a batch
//! claims. The records of an uncompressed batch are looked at one by one, which its own bytes bound.

use bytes::Bytes;
use record::{BatchSummary, Compression, Limits, TimestampMs, TimestampType};

use super::{InvalidRecord, ProduceError};
use crate::configs::TopicSettings;

/// Records of one batch that are named when it is refused.
const INVALID_RECORDS_MAX: usize = 100;
/// What Kafka says of a batch with records that it names.
const REJECTED: &str = "One or more records have been rejected due to invalid timestamp";

/// The batch with a header that says `CreateTime` and the largest timestamp that its records have.
pub(super) fn with_create_time(summary: BatchSummary, batch: Bytes) -> Result<(BatchSummary, Bytes), ProduceError> {
    let claims_append_time = summary.timestamp_type == TimestampType::LogAppendTime;
    if !claims_append_time && summary.max_timestamp_correction.is_none() {
        return Ok((summary, batch));
    }
    let max_timestamp = summary.max_timestamp_correction.unwrap_or(summary.max_timestamp);
    let patched = record::with_max_timestamp(&batch, TimestampType::CreateTime, max_timestamp)?.joined();
    let mut summary = BatchSummary {
        timestamp_type: TimestampType::CreateTime,
        max_timestamp,
        max_timestamp_correction: None,
        ..summary
    };
    if claims_append_time {
        // Only now that the batch is read as the producer's own time are its records' timestamps known.
        summary = record::validate(&patched)?;
        if let Some(actual) = summary.max_timestamp_correction.take() {
            summary.max_timestamp = actual;
            let patched = record::with_max_timestamp(&patched, TimestampType::CreateTime, actual)?.joined();
            return Ok((summary, patched));
        }
    }
    Ok((summary, patched))
}

/// Refuses a batch with records too far behind or ahead of `now`.
pub(super) fn check(
    summary: &BatchSummary,
    batch: &Bytes,
    settings: &TopicSettings,
    now: TimestampMs,
) -> Result<(), ProduceError> {
    let bounds = Bounds::new(settings, now);
    match summary.compression {
        Compression::None => check_records(summary, batch, &bounds, settings.timestamp_before_max_ms < i64::MAX),
        Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
            check_header(summary, &bounds)
        }
    }
}

/// What the header says of the records: the timestamp of the first, and the largest.
fn check_header(summary: &BatchSummary, bounds: &Bounds) -> Result<(), ProduceError> {
    let (first, largest) = (summary.base_timestamp, summary.max_timestamp);
    if !bounds.hold(first) {
        return Err(refused(vec![bounds.invalid(0, first)]));
    }
    if bounds.hold(largest) {
        return Ok(());
    }
    if summary.record_count == 1 {
        return Err(refused(vec![bounds.invalid(0, largest)]));
    }
    // Which record has it, only the records say.
    let message = format!("{REJECTED}. Timestamp {largest}, the largest of the batch, is out of range. {bounds}");
    Err(ProduceError::InvalidTimestamp { records: Vec::new(), message })
}

/// Every record, unless the header suffices: it has the true largest timestamp of an uncompressed batch.
fn check_records(
    summary: &BatchSummary,
    batch: &Bytes,
    bounds: &Bounds,
    bounded_below: bool,
) -> Result<(), ProduceError> {
    // The first record's timestamp is in the header, but later ones may be earlier.
    if !bounded_below && bounds.hold(summary.max_timestamp) && bounds.hold(summary.base_timestamp) {
        return Ok(());
    }
    let mut invalid = Vec::new();
    for (index, record) in (0..).zip(record::records(batch, Limits { bytes_max: batch.len() })?) {
        let timestamp = record?.timestamp;
        if !bounds.hold(timestamp) {
            invalid.push(bounds.invalid(index, timestamp));
            if invalid.len() == INVALID_RECORDS_MAX {
                break;
            }
        }
    }
    if invalid.is_empty() { Ok(()) } else { Err(refused(invalid)) }
}

fn refused(records: Vec<InvalidRecord>) -> ProduceError {
    ProduceError::InvalidTimestamp { records, message: REJECTED.to_owned() }
}

/// What a topic allows at a time; a record without a timestamp is always within.
struct Bounds {
    earliest: i64,
    latest: i64,
}

impl Bounds {
    fn new(settings: &TopicSettings, now: TimestampMs) -> Self {
        Self {
            earliest: now.0.saturating_sub(settings.timestamp_before_max_ms),
            latest: now.0.saturating_add(settings.timestamp_after_max_ms),
        }
    }

    fn hold(&self, timestamp: TimestampMs) -> bool {
        timestamp.0 < 0 || (self.earliest..=self.latest).contains(&timestamp.0)
    }

    fn invalid(&self, index: i32, timestamp: TimestampMs) -> InvalidRecord {
        let message = format!("Timestamp {timestamp} of message with offset {index} is out of range. {self}");
        InvalidRecord { index, message }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "The timestamp should be within [{}, {}]", self.earliest, self.latest)
    }
}

#[cfg(test)]
mod tests {
    use record::{BatchBuilder, BatchHeader};

    use super::*;
    use crate::configs::{Layers, Values};

    const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

    fn settings(before: i64, after: i64) -> TopicSettings {
        let none = Values::new();
        let defaults = TopicSettings::of(&none, Layers { node: &none, all_nodes: &none, fixed: &none });
        TopicSettings {
            message_bytes_max: 1 << 20,
            timestamp_before_max_ms: before,
            timestamp_after_max_ms: after,
            ..defaults
        }
    }

    fn batch(compression: Compression, timestamps: &[i64]) -> Bytes {
        let mut builder = BatchBuilder::new(compression);
        for timestamp in timestamps {
            builder.push(TimestampMs(*timestamp), None, Some(b"value"), &[]).expect("the record fits");
        }
        builder.build().expect("a batch with records")
    }

    /// The records that are named, or nothing when the batch is taken.
    fn check_batch(batch: Bytes, settings: &TopicSettings) -> Option<Vec<i32>> {
        let summary = record::validate(&batch).expect("a valid batch");
        let (summary, batch) = with_create_time(summary, batch).expect("a valid batch");
        match check(&summary, &batch, settings, NOW) {
            Ok(()) => None,
            Err(ProduceError::InvalidTimestamp { records, message }) => {
                assert!(message.starts_with(REJECTED));
                assert_eq!(records.is_empty(), message.len() > REJECTED.len(), "one of both says what is wrong");
                Some(records.iter().map(|record| record.index).collect())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn refused(compression: Compression, timestamps: &[i64], settings: &TopicSettings) -> Option<Vec<i32>> {
        check_batch(batch(compression, timestamps), settings)
    }

    #[test]
    fn records_too_far_ahead_are_named_as_far_as_they_are_known() {
        let hour = settings(i64::MAX, 3_600_000);
        let late = NOW.0 + 3_600_001;
        for compression in Compression::ALL {
            let whole = compression == Compression::None;
            assert_eq!(refused(compression, &[NOW.0, late - 1], &hour), None);
            assert_eq!(refused(compression, &[late], &hour), Some(vec![0]));
            assert_eq!(refused(compression, &[late, 5], &hour), Some(vec![0]));
            assert_eq!(refused(compression, &[NOW.0, late, 5], &hour), Some(if whole { vec![1] } else { vec![] }));
        }
    }

    #[test]
    fn records_too_far_behind_are_named_though_the_first_is_not() {
        let second = settings(1_000, i64::MAX);
        assert_eq!(refused(Compression::None, &[NOW.0, NOW.0 - 1_001, NOW.0], &second), Some(vec![1]));
        assert_eq!(refused(Compression::None, &[NOW.0 - 1_000], &second), None);
        assert_eq!(refused(Compression::Gzip, &[NOW.0 - 1_001, NOW.0], &second), Some(vec![0]));
    }

    #[test]
    fn records_without_timestamp_are_never_out_of_range() {
        for compression in Compression::ALL {
            assert_eq!(refused(compression, &[-1], &settings(0, 0)), None);
        }
    }

    /// What follows the header is no gzip, and would be found to be none by whoever unpacks it.
    #[test]
    fn a_compressed_batch_is_refused_without_unpacking_it() {
        let good = batch(Compression::Gzip, &[NOW.0, NOW.0 + 3_600_001]);
        let mut header = BatchHeader::parse(&good).expect("a header");
        let records = vec![0xff; good.len() - record::BATCH_OVERHEAD];
        header.crc = record::crc32c_of_two(&header.to_bytes()[record::CRC_START..], &records);
        let bad = Bytes::from([&header.to_bytes()[..], &records].concat());
        assert_eq!(check_batch(bad, &settings(i64::MAX, 3_600_000)), Some(Vec::new()));
    }

    #[test]
    fn no_more_than_a_hundred_records_are_named() {
        let late = [NOW.0 + 2; 250];
        let named = refused(Compression::None, &late, &settings(0, 1)).expect("is refused");
        assert_eq!(named, (0..100).collect::<Vec<_>>());
    }
}
