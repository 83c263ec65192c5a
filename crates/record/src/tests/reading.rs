//! Reading copies nothing and never goes past the batch.

use super::golden::golden;
use crate::{BATCH_OVERHEAD, BatchError, Compression, Limits, records};

#[test]
fn uncompressed_records_are_slices_of_the_batch() {
    let batch = golden(Compression::None);
    let within = batch.as_ptr_range();
    for record in records(&batch, Limits { bytes_max: 0 }).unwrap() {
        let record = record.unwrap();
        for field in [record.key, record.value].into_iter().flatten() {
            assert!(within.contains(&field.as_ptr()));
        }
    }
}

#[test]
fn bytes_behind_the_batch_are_not_read() {
    let batch = golden(Compression::None);
    let longer = [&batch[..], &batch[..]].concat();
    assert_eq!(records(&longer.into(), Limits::default()).unwrap().count(), 40);
}

#[test]
fn a_cut_batch_is_refused_before_its_first_record() {
    let batch = golden(Compression::None);
    let cut = batch.slice(..BATCH_OVERHEAD + 5);
    let error = records(&cut, Limits::default()).unwrap_err();
    assert_eq!(error, BatchError::Truncated { stated: batch.len(), present: BATCH_OVERHEAD + 5 });
}
