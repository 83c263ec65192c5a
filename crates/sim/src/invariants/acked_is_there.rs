//! What a writer was told is there is there: at its offset, in the end, or until it is deleted.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Violation, violation};
use crate::client::Seen;

#[derive(Debug, Default)]
pub(super) struct AckedIsThere {
    /// By partition and offset.
    acked: BTreeMap<(i32, i64), String>,
}

impl AckedIsThere {
    pub(super) fn acked(&mut self, partition: i32, seen: Seen) {
        self.acked.insert((partition, seen.offset), seen.value);
    }

    pub(super) fn check(&self, partition: i32, offsets: Range<i64>, records: &[Seen]) -> Result<(), Violation> {
        let found: BTreeMap<i64, &str> = records.iter().map(|seen| (seen.offset, seen.value.as_str())).collect();
        let acked = self.acked.range((partition, offsets.start)..(partition, offsets.end));
        for ((_, offset), value) in acked {
            let there = found.get(offset).copied();
            if there != Some(value) {
                let what =
                    format!("{value} was acknowledged at offset {offset} of partition {partition}, where {there:?} is");
                return violation("acked is there", what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<i64> = 0..i64::MAX;

    #[test]
    fn what_is_missing_or_elsewhere_is_told() {
        let seen = |offset, value: &str| Seen { offset, value: value.to_owned() };
        let mut acked = AckedIsThere::default();
        acked.acked(1, seen(0, "a-1"));
        acked.acked(1, seen(1, "a-2"));
        acked.check(1, ALL, &[seen(0, "a-1"), seen(1, "a-2"), seen(2, "b-1")]).unwrap();
        acked.check(0, ALL, &[]).unwrap();
        assert!(acked.check(1, ALL, &[seen(0, "a-1")]).is_err());
        acked.check(1, 0..1, &[seen(0, "a-1")]).unwrap();
        acked.check(1, 1..i64::MAX, &[seen(1, "a-2")]).unwrap();
        assert!(acked.check(1, ALL, &[seen(0, "a-2"), seen(1, "a-1")]).is_err());
    }
}
