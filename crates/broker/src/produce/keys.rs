//! Keys: a topic that is compacted takes no record without one.

use bytes::Bytes;
use record::Limits;

use super::{InvalidRecord, ProduceError};
use crate::topics::PartitionRef;

/// Records of one batch that are named when it is refused.
const INVALID_RECORDS_MAX: usize = 100;
/// Those that the text names, too.
const IN_TEXT_MAX: usize = 3;

/// Refuses a batch with records that have no key, in Kafka's words. Compressed records are read piece by piece.
pub(super) fn check(batch: &Bytes, partition: &PartitionRef) -> Result<(), ProduceError> {
    let places = record::records_without_key(batch, Limits::default(), INVALID_RECORDS_MAX)?;
    if places.is_empty() {
        return Ok(());
    }
    let (topic, number) = (&partition.topic().name, partition.index());
    let message = format!("Compacted topic cannot accept message without key in topic partition {topic}-{number}.");
    let named = |place: &u32| format!("RecordError(batchIndex={place}, message='{message}')");
    let in_text: Vec<String> = places.iter().take(IN_TEXT_MAX).map(named).collect();
    let text = format!(
        "One or more records have been rejected due to {} record errors in total, and only showing the first three errors at most: [{}]",
        places.len(),
        in_text.join(", ")
    );
    let record =
        |place: &u32| InvalidRecord { index: i32::try_from(*place).unwrap_or(i32::MAX), message: message.clone() };
    Err(ProduceError::InvalidRecords { records: places.iter().map(record).collect(), message: text })
}
