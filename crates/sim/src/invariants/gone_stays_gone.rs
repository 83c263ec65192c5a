//! Records that were deleted from a partition's front stay gone, and no others go.

use std::collections::BTreeMap;

use super::{Violation, violation};

#[derive(Debug, Default)]
pub(super) struct GoneStaysGone {
    /// By partition: before what offset somebody asked to delete, at most.
    asked: BTreeMap<i32, i64>,
    /// Of which he was told that it was done.
    told: BTreeMap<i32, i64>,
}

impl GoneStaysGone {
    pub(super) fn asking(&mut self, partition: i32, before: i64) {
        let asked = self.asked.entry(partition).or_default();
        *asked = before.max(*asked);
    }

    pub(super) fn told(&mut self, partition: i32, before: i64) {
        let told = self.told.entry(partition).or_default();
        *told = before.max(*told);
    }

    /// Before this offset anything may be gone.
    pub(super) fn asked_before(&self, partition: i32) -> i64 {
        self.asked.get(&partition).copied().unwrap_or_default()
    }

    /// Somebody was told that a partition begins there. Who was cut off says so of what has gone since, too, and gives it;
    /// in the end nobody is.
    pub(super) fn begins(&self, partition: i32, first: i64, in_the_end: bool) -> Result<(), Violation> {
        let told = self.told.get(&partition).copied().filter(|_| in_the_end).unwrap_or_default();
        let asked = self.asked_before(partition);
        if (told..=asked).contains(&first) {
            return Ok(());
        }
        let what = format!("partition {partition} begins with {first}, deleted was what is before {told} to {asked}");
        violation("gone stays gone", what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_and_what_goes_by_itself_is_told() {
        let mut gone = GoneStaysGone::default();
        gone.begins(1, 0, true).unwrap();
        assert!(gone.begins(1, 1, true).is_err());
        gone.asking(1, 7);
        gone.told(1, 7);
        gone.asking(1, 9);
        for first in 7..=9 {
            gone.begins(1, first, true).unwrap();
        }
        assert!(gone.begins(1, 6, true).is_err() && gone.begins(1, 10, false).is_err());
        gone.begins(1, 6, false).unwrap();
        gone.begins(0, 0, true).unwrap();
        assert_eq!((gone.asked_before(1), gone.asked_before(0)), (9, 0));
    }
}
