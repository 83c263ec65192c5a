//! Whether what is read of both brokers is the same, and what it should be.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::model::{Model, Topic};
use super::step::Place;
use crate::wire::FullRecord;

/// What a comparison came to, where nothing is wrong for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same {
        was_compacted: bool,
    },
    /// One of them has more than is to stay, for now.
    NotCleaned(String),
}

/// Compares what was read from where each begins.
pub(super) fn compare(
    model: &Model,
    place: &Place,
    first: (i64, i64),
    (theirs, ours): (&[FullRecord], &[FullRecord]),
) -> Result<Verdict> {
    let topic = model.topics.get(&place.topic).context("a topic that is there")?;
    let partition = model.partition(place).context("a partition that is there")?;
    ensure!(first.0 == first.1, "Kafka's begins at {}, ours at {}", first.0, first.1);
    let written = &partition.records;
    for (name, read) in [("Kafka's", theirs), ("ours", ours)] {
        are_written(written, first.0, read).with_context(|| format!("what is read of {name}"))?;
    }
    if !topic.was_compacted {
        let all = written.iter().filter(|record| record.offset >= first.0);
        ensure!(all.eq(ours), "of ours {} records are read", ours.len());
        ensure!(theirs == ours, "Kafka has {} records, ours {}", theirs.len(), ours.len());
        return Ok(Verdict::Same { was_compacted: false });
    }
    for (name, read) in [("Kafka's", theirs), ("ours", ours)] {
        newest_are_right(written, first.0, read).with_context(|| format!("what is read of {name}"))?;
    }
    if topic.compacts() && stay(topic, theirs) != stay(topic, ours) {
        let offsets = |read| stay(topic, read).iter().map(|record| record.offset).collect::<Vec<_>>();
        return Ok(Verdict::NotCleaned(format!("Kafka has {:?}\nours {:?}", offsets(theirs), offsets(ours))));
    }
    Ok(Verdict::Same { was_compacted: true })
}

/// What is read was written there, in order and from the beginning on.
fn are_written(written: &[FullRecord], first: i64, read: &[FullRecord]) -> Result<()> {
    let mut behind = first - 1;
    for record in read {
        ensure!(record.offset > behind, "{} after {behind}", record.offset);
        behind = record.offset;
        let at = usize::try_from(record.offset).ok().and_then(|at| written.get(at));
        ensure!(at == Some(record), "{record:?}, where was written {at:?}");
    }
    Ok(())
}

/// Of each key the newest record is there, or it deletes the key and nothing is.
fn newest_are_right(written: &[FullRecord], first: i64, read: &[FullRecord]) -> Result<()> {
    let by_key = |records: &[FullRecord]| -> BTreeMap<Vec<u8>, FullRecord> {
        let all = records.iter().filter(|record| record.offset >= first);
        all.filter_map(|record| Some((record.key.clone()?, record.clone()))).collect()
    };
    let (wanted, found) = (by_key(written), by_key(read));
    for (key, newest) in &wanted {
        let found = found.get(key);
        let is_deleted = newest.value.is_none() && found.is_none();
        ensure!(
            found == Some(newest) || is_deleted,
            "the newest of its key is {newest:?}, and what is read is {found:?}"
        );
    }
    Ok(())
}

/// What stays for good: of records without a value that depends on when a pass met them.
fn stay<'a>(topic: &Topic, read: &'a [FullRecord]) -> Vec<&'a FullRecord> {
    read.iter().filter(|record| record.value.is_some() || !topic.deletes_may_go).collect()
}
