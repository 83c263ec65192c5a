//! There is one history: whoever looks, whenever, sees the same record at an offset, no record stands at
//! two, and what one writer wrote stands in the order in which it was written.

use std::collections::BTreeMap;

use super::{Violation, parse, violation};
use crate::client::Seen;
use crate::load::WITHOUT_ID;

const NAME: &str = "one order";

#[derive(Debug, Default)]
pub(super) struct OneOrder {
    /// By partition and offset.
    values: BTreeMap<(i32, i64), String>,
    /// By partition and value.
    offsets: BTreeMap<(i32, String), i64>,
}

impl OneOrder {
    pub(super) fn see(&mut self, partition: i32, seen: &Seen) -> Result<(), Violation> {
        let Seen { offset, value } = seen;
        match self.values.get(&(partition, *offset)) {
            Some(known) if known == value => return Ok(()),
            Some(known) => {
                let what = format!("offset {offset} of partition {partition} is {value} now and was {known}");
                return violation(NAME, what);
            }
            None => {}
        }
        if let Some(known) = self.offsets.insert((partition, value.clone()), *offset) {
            let what = format!("{value} stands at the offsets {known} and {offset} of partition {partition}");
            return violation(NAME, what);
        }
        self.values.insert((partition, *offset), value.clone());
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "a part of this invariant")]
    pub(super) fn check_writers(&self, partition: i32, records: &[Seen]) -> Result<(), Violation> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for Seen { offset, value } in records {
            let Some((writer, number)) = parse(value) else {
                return violation(NAME, format!("nobody wrote {value:?} at offset {offset} of partition {partition}"));
            };
            // What was sent once may overtake what was sent before, over another connection.
            if writer.starts_with(WITHOUT_ID) {
                continue;
            }
            if let Some(before) = last.insert(writer, number).filter(|before| *before >= number) {
                let what = format!("in partition {partition} {value} stands behind {writer}-{before}");
                return violation(NAME, what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offset: i64, value: &str) -> Seen {
        Seen { offset, value: value.to_owned() }
    }

    #[test]
    fn two_records_at_an_offset_and_two_offsets_of_a_record_are_told() {
        let mut order = OneOrder::default();
        order.see(0, &seen(0, "a-1")).unwrap();
        order.see(0, &seen(0, "a-1")).unwrap();
        order.see(1, &seen(0, "a-9")).unwrap();
        assert!(order.see(0, &seen(0, "a-2")).is_err());
        assert!(order.see(0, &seen(1, "a-1")).is_err());
    }

    #[test]
    fn a_writer_out_of_order_is_told() {
        let order = OneOrder::default();
        order.check_writers(0, &[seen(0, "a-1/9"), seen(1, "b-1"), seen(2, "a-3")]).unwrap();
        order.check_writers(0, &[seen(0, "p-2"), seen(1, "p-1")]).unwrap();
        assert!(order.check_writers(0, &[seen(0, "a-2"), seen(1, "b-1"), seen(2, "a-1")]).is_err());
        assert!(order.check_writers(0, &[seen(0, "what")]).is_err());
    }
}
