//! Offsets are given without a gap, from the first one on. (Nothing in these runs makes holes: no compaction, no
//! transactions.)

use super::{Violation, violation};
use crate::client::Seen;

pub(super) fn check(partition: i32, first: i64, records: &[Seen]) -> Result<(), Violation> {
    for (expected, seen) in (first..).zip(records) {
        if seen.offset != expected {
            let what = format!("behind offset {} of partition {partition} comes {}", expected - 1, seen.offset);
            return violation("no gap", what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told() {
        let seen = |offset| Seen { offset, value: String::new() };
        check(0, 0, &[seen(0), seen(1), seen(2)]).unwrap();
        check(0, 7, &[seen(7), seen(8)]).unwrap();
        assert!(check(0, 0, &[seen(1)]).is_err());
        assert!(check(0, 0, &[seen(0), seen(2)]).is_err());
    }
}
