//! Whoever asks for the end of a partition is told at least what was acknowledged when he asked.

use std::collections::BTreeMap;

use super::{Violation, violation};

#[derive(Debug, Default)]
pub(super) struct ReadsAreCurrent {
    ends: BTreeMap<i32, i64>,
}

impl ReadsAreCurrent {
    pub(super) fn appended(&mut self, partition: i32, end: i64) {
        let known = self.ends.entry(partition).or_default();
        *known = end.max(*known);
    }

    pub(super) fn end(&self, partition: i32) -> i64 {
        self.ends.get(&partition).copied().unwrap_or_default()
    }

    #[expect(clippy::unused_self, reason = "a part of this invariant")]
    pub(super) fn read(&self, partition: i32, least: i64, end: i64) -> Result<(), Violation> {
        if end < least {
            let what = format!("the end of partition {partition} is said to be {end}, {least} was acknowledged before");
            return violation("reads are current", what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_end_is_told() {
        let mut reads = ReadsAreCurrent::default();
        reads.appended(0, 7);
        reads.appended(0, 5);
        assert_eq!((reads.end(0), reads.end(1)), (7, 0));
        reads.read(0, 7, 7).unwrap();
        assert!(reads.read(0, 7, 6).is_err());
    }
}
