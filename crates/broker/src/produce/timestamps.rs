//! Timestamps that are the producer's: the header tells the truth about them, and they lie within the topic's bounds.
//!
//! The header of a compressed batch is believed, so that an append costs nothing per record; only when it names a time
//! out of bounds are the records looked at.

use bytes::Bytes;
use record::{BatchSummary, Limits, TimestampMs, TimestampType};

use super::{InvalidRecord, ProduceError};
use crate::configs::TopicSettings;

/// Records of one batch that are named when it is refused.
const INVALID_RECORDS_MAX: usize = 100;
/// What the records of a batch may take when they are looked at.
const LIMITS: Limits = Limits { bytes_max: 64 << 20 };

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
    let (earliest, latest) = bounds(settings, now);
    let within = |timestamp: TimestampMs| timestamp.0 < 0 || (earliest..=latest).contains(&timestamp.0);
    let bounded_below = settings.timestamp_before_max_ms < i64::MAX;
    let uncompressed = summary.compression == record::Compression::None;
    // The first record's timestamp is in the header, but later ones may be earlier.
    let header_is_enough = !bounded_below || !uncompressed;
    if within(summary.max_timestamp) && within(summary.base_timestamp) && header_is_enough {
        return Ok(());
    }
    let mut records = Vec::new();
    for (index, record) in (0..).zip(record::records(batch, LIMITS)?) {
        let timestamp = record?.timestamp;
        if !within(timestamp) && records.len() < INVALID_RECORDS_MAX {
            let message = format!(
                "Timestamp {timestamp} of message with offset {index} is out of range. \
                 The timestamp should be within [{earliest}, {latest}]"
            );
            records.push(InvalidRecord { index, message });
        }
    }
    if records.is_empty() { Ok(()) } else { Err(ProduceError::InvalidTimestamp { records }) }
}

fn bounds(settings: &TopicSettings, now: TimestampMs) -> (i64, i64) {
    (now.0.saturating_sub(settings.timestamp_before_max_ms), now.0.saturating_add(settings.timestamp_after_max_ms))
}

#[cfg(test)]
mod tests {
    use record::{BatchBuilder, Compression};

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

    fn settings(before: i64, after: i64) -> TopicSettings {
        TopicSettings {
            message_bytes_max: 1 << 20,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: before,
            timestamp_after_max_ms: after,
        }
    }

    fn refused(compression: Compression, timestamps: &[i64], settings: &TopicSettings) -> Vec<i32> {
        let mut builder = BatchBuilder::new(compression);
        for timestamp in timestamps {
            builder.push(TimestampMs(*timestamp), None, Some(b"value"), &[]).expect("the record fits");
        }
        let batch = builder.build().expect("a batch with records");
        let summary = record::validate(&batch).expect("a valid batch");
        let (summary, batch) = with_create_time(summary, batch).expect("a valid batch");
        match check(&summary, &batch, settings, NOW) {
            Ok(()) => Vec::new(),
            Err(ProduceError::InvalidTimestamp { records }) => records.iter().map(|record| record.index).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn records_too_far_ahead_are_named() {
        let hour = settings(i64::MAX, 3_600_000);
        for compression in [Compression::None, Compression::Lz4] {
            assert_eq!(refused(compression, &[NOW.0, NOW.0 + 3_600_000], &hour), Vec::<i32>::new());
            assert_eq!(refused(compression, &[NOW.0, NOW.0 + 3_600_001, 5], &hour), [1]);
        }
    }

    #[test]
    fn records_too_far_behind_are_named_though_the_first_is_not() {
        let second = settings(1_000, i64::MAX);
        assert_eq!(refused(Compression::None, &[NOW.0, NOW.0 - 1_001, NOW.0], &second), [1]);
        assert_eq!(refused(Compression::None, &[NOW.0 - 1_000], &second), Vec::<i32>::new());
    }

    #[test]
    fn records_without_timestamp_are_never_out_of_range() {
        assert_eq!(refused(Compression::None, &[-1], &settings(0, 0)), Vec::<i32>::new());
    }
}
