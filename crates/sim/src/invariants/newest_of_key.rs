//! Of a partition that is compacted the newest acknowledged record of each key is there, unless it deletes its key; what is there is what
//! was written, in order; and what one read found gone no later one finds, once all have settled.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, violation};
use crate::client::KeyedRecord;

/// A key, and its value if it is not deleted.
type Pair = (String, Option<String>);

#[derive(Debug, Default)]
struct Partition {
    /// What was acknowledged, or read, by offset.
    known: BTreeMap<i64, Pair>,
    /// What was sent, acknowledged or not.
    sent: BTreeSet<Pair>,
    acked: BTreeSet<i64>,
    /// Offsets that some read found gone.
    gone: BTreeSet<i64>,
}

#[derive(Debug, Default)]
pub(super) struct NewestOfKey(BTreeMap<i32, Partition>);

impl NewestOfKey {
    pub(super) fn sent(&mut self, partition: i32, records: &[Pair]) {
        self.0.entry(partition).or_default().sent.extend(records.iter().cloned());
    }

    pub(super) fn acked(&mut self, partition: i32, base_offset: i64, records: &[Pair]) -> Result<(), Violation> {
        let known = self.0.entry(partition).or_default();
        for (offset, pair) in (base_offset..).zip(records) {
            known.is(partition, offset, pair)?;
            known.acked.insert(offset);
        }
        Ok(())
    }

    pub(super) fn has(&self, partition: i32) -> bool {
        self.0.contains_key(&partition)
    }

    /// All that is left before `end`. In the end nobody reads what is older than another one read.
    pub(super) fn left(
        &mut self,
        partition: i32,
        end: i64,
        left: &[KeyedRecord],
        in_the_end: bool,
    ) -> Result<(), Violation> {
        let known = self.0.entry(partition).or_default();
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        for record in left {
            let pair = (record.key.clone(), record.value.clone());
            if !known.sent.contains(&pair) {
                return known.wrong(partition, record.offset, "holds what nobody sent");
            }
            known.is(partition, record.offset, &pair)?;
            newest.insert(&record.key, record.offset);
        }
        if !left.windows(2).all(|pair| pair[0].offset < pair[1].offset) {
            return known.wrong(partition, end, "is not in order");
        }
        let there: BTreeSet<i64> = left.iter().map(|record| record.offset).collect();
        let mut last: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
        for offset in known.acked.range(..end) {
            let (key, value) = &known.known[offset];
            last.insert(key, (*offset, value.is_some()));
        }
        for (key, (offset, has_value)) in last {
            let found = newest.get(key).copied();
            let is_superseded = found.is_some_and(|found| found > offset);
            if has_value && !there.contains(&offset) && !is_superseded {
                return known.wrong(partition, offset, "is the newest of its key, and gone");
            }
            if !has_value && !there.contains(&offset) && found.is_some_and(|found| found < offset) {
                return known.wrong(partition, offset, "deletes its key, and is gone before what it deletes");
            }
        }
        if in_the_end && let Some(back) = there.iter().find(|offset| known.gone.contains(offset)) {
            return known.wrong(partition, *back, "was gone, and is there again");
        }
        let gone: Vec<i64> =
            known.known.range(..end).map(|(offset, _)| *offset).filter(|o| !there.contains(o)).collect();
        known.gone.extend(gone);
        Ok(())
    }
}

impl Partition {
    fn is(&mut self, partition: i32, offset: i64, pair: &Pair) -> Result<(), Violation> {
        match self.known.get(&offset) {
            Some(known) if known == pair => Ok(()),
            Some(known) => {
                let what = format!("offset {offset} of partition {partition} was {known:.40?}, and is {pair:.40?}");
                violation("the newest of each key stays", what)
            }
            None => {
                self.known.insert(offset, pair.clone());
                Ok(())
            }
        }
    }

    fn wrong(&self, partition: i32, offset: i64, what: &str) -> Result<(), Violation> {
        let key = self.known.get(&offset).map(|(key, _)| key);
        violation("the newest of each key stays", format!("offset {offset} of partition {partition} {what}: {key:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: Option<u64>) -> Pair {
        (key.to_owned(), value.map(|value| value.to_string()))
    }

    fn record(offset: i64, key: &str, value: Option<u64>) -> KeyedRecord {
        let (key, value) = pair(key, value);
        KeyedRecord { offset, key, value }
    }

    fn written() -> NewestOfKey {
        let mut newest = NewestOfKey::default();
        let records = [pair("a", Some(1)), pair("b", Some(2)), pair("a", Some(3)), pair("b", None)];
        newest.sent(1, &records);
        newest.acked(1, 0, &records).unwrap();
        newest
    }

    #[test]
    fn what_is_superseded_may_go() {
        let all = [record(0, "a", Some(1)), record(1, "b", Some(2)), record(2, "a", Some(3)), record(3, "b", None)];
        for left in [&all[..], &all[1..], &all[2..], &all[2..3]] {
            written().left(1, 4, left, true).unwrap();
        }
    }

    #[test]
    fn what_must_not_go_is_told() {
        let (old, new, deleted) = (record(0, "a", Some(1)), record(2, "a", Some(3)), record(1, "b", Some(2)));
        assert!(written().left(1, 4, std::slice::from_ref(&old), false).is_err(), "the newest is gone");
        assert!(written().left(1, 4, &[deleted, new.clone()], false).is_err(), "a delete went before what it deletes");
        assert!(written().left(1, 4, &[new.clone(), old.clone()], false).is_err(), "out of order");
        assert!(written().left(1, 4, &[record(2, "a", Some(4))], false).is_err(), "another value");
        let mut newest = written();
        newest.left(1, 4, std::slice::from_ref(&new), false).unwrap();
        newest.left(1, 4, &[old.clone(), new.clone()], false).unwrap();
        assert!(newest.left(1, 4, &[old, new], true).is_err(), "it came back");
    }
}
