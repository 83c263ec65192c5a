//! Whether each planted fault is found within so many seeds: that is how we know that a seed can fail.

use std::io::Write as _;

use anyhow::Result;
use base::planted::Planted;

use super::Wish;
use super::children::Children;

/// Within how many seeds a fault is found.
const fn seeds_max(fault: Planted) -> u64 {
    match fault {
        Planted::AckBeforeSync
        | Planted::VoteNotPersisted
        | Planted::VoteInRecycledSegment
        | Planted::TruncationSkipped
        | Planted::EntryProposedTwice => 4,
        Planted::FormerLifeAccepted
        | Planted::StaleRead
        | Planted::SnapshotBeforeData
        | Planted::ObjectNotSynced
        | Planted::RangeFreedEarly
        | Planted::ObjectPutTwice => 12,
        Planted::DeleteDroppedEarly => 24,
        Planted::RecycledUnderReader => 200,
    }
}

/// What reports a fault: words of the invariant, the answer or the panic that stand in no other failure. Whatever else a seed
/// fails by is not the fault found, above all not that it takes long.
const fn reports(fault: Planted) -> &'static [&'static str] {
    match fault {
        // What was said to be synced is gone after a loss of power: acknowledged records and their order, or entries in
        // the middle of a log, which then is damaged, or lacks some.
        Planted::AckBeforeSync => &[
            "acked is there: ",
            "one order: ",
            "reads are current: ",
            "commits stay: ",
            "no damage: ",
            " comes behind ",
        ],
        // A node votes in an earlier term, or twice in one, and its own log's checks see that first at times.
        Planted::VoteNotPersisted | Planted::VoteInRecycledSegment => {
            &["votes stay: ", "one leader: ", ": terms never go back", ": a member of a group has voted"]
        }
        // Entries of a former life do not fit those of this one: the log is taken for damaged.
        Planted::FormerLifeAccepted => &["no damage: "],
        // Two replicas have another entry at one place.
        Planted::TruncationSkipped => &["same state: "],
        // An end is given that was one once, or an offset behind it is refused as not there.
        Planted::StaleRead => &["reads are current: ", "commits stay: ", "is answered with code 1"],
        Planted::EntryProposedTwice => &["one order: "],
        // What the state refers to is not there: to a reader the record is corrupt.
        Planted::SnapshotBeforeData | Planted::RangeFreedEarly => &["is answered with code 2"],
        // It is found damaged by the node that wrote it, or by a reader.
        Planted::ObjectNotSynced | Planted::ObjectPutTwice => &["is answered with code 2", "no damage: "],
        Planted::DeleteDroppedEarly => &["the newest of each key stays: "],
        Planted::RecycledUnderReader => &["a batch whose checksum is wrong"],
    }
}

/// Plants each fault, or the one that is named, and runs seeds until one reports it. Whether all were found.
pub(crate) fn run(wish: &Wish) -> Result<bool> {
    let mut out = std::io::stdout();
    let mut all = true;
    for (name, fault) in Planted::ALL {
        if wish.plant.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let count = if wish.count == 0 { seeds_max(fault) } else { wish.count };
        let found = find(fault, &Wish { count, plant: Some(name.to_owned()), ..wish.clone() })?;
        match found {
            Some((tried, line)) => writeln!(out, "{name}: found after {tried} of {count} seeds: {line}")?,
            None => {
                all = false;
                writeln!(out, "{name}: FAILED: not found within {count} seeds")?;
            }
        }
    }
    Ok(all)
}

/// How many seeds were tried, and what the one said that reports the fault. It passes without the fault.
fn find(fault: Planted, wish: &Wish) -> Result<Option<(u64, String)>> {
    let mut children = Children::new(wish, wish.first..wish.first + wish.count);
    let mut tried = 0;
    while let Some((seed, line)) = children.next()? {
        tried += 1;
        let Some(what) = found(fault, &line) else {
            if let Some(other) = failed(&line) {
                writeln!(std::io::stdout(), "seed {seed} failed by something else: {other}")?;
            }
            continue;
        };
        let what = format!("seed {seed}: {what}");
        drop(children);
        let plain = Wish { count: 1, plant: None, ..wish.clone() };
        let mut without = Children::new(&plain, seed..seed + 1);
        let passes = without.next()?.is_some_and(|(_, line)| line.ends_with(" passed"));
        anyhow::ensure!(passes, "{what}: it does not pass without the fault, either");
        return Ok(Some((tried, what)));
    }
    Ok(None)
}

/// Why a seed failed.
fn failed(line: &str) -> Option<&str> {
    line.split_once("FAILED ").map(|(_, what)| what)
}

/// What a seed said that reports the fault.
fn found(fault: Planted, line: &str) -> Option<&str> {
    failed(line).filter(|what| reports(fault).iter().any(|words| has(what, words)))
}

/// Whether `words` stand there, and no digit behind them: a code of one digit is not the beginning of another.
fn has(what: &str, words: &str) -> bool {
    let mut behind = what.match_indices(words).map(|(at, _)| &what[at + words.len()..]);
    behind.any(|rest| {
        !words.ends_with(|last: char| last.is_ascii_digit()) || !rest.starts_with(|next: char| next.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: Planted, what: &str, expected: bool) {
        let line = format!("seed 7 trace 1 acked 2 FAILED {what}");
        assert_eq!(found(fault, &line), expected.then_some(what), "{fault:?}");
    }

    #[test]
    fn only_what_reports_the_fault_counts() {
        check(Planted::EntryProposedTwice, "one order: p2-1/9 stands at the offsets 3 and 4 of partition 1", true);
        check(Planted::TruncationSkipped, "one order: p2-1/9 stands at the offsets 3 and 4 of partition 1", false);
        check(Planted::VoteNotPersisted, "exit status: 101: thread panicked at a.rs:1:1: terms never go back", true);
        check(Planted::VoteNotPersisted, "exit status: 101: thread panicked at a.rs:1:1: something else", false);
        check(Planted::StaleRead, "r0: a fetch is answered with code 1", true);
        check(Planted::StaleRead, "r0: a fetch is answered with code 11", false);
        check(Planted::SnapshotBeforeData, "topics: a fetch is answered with code 2", true);
    }

    #[test]
    fn no_fault_is_found_by_what_takes_long_or_proves_little() {
        for (_, fault) in Planted::ALL {
            for what in [
                "the cluster did not converge: shard 1 has no leader",
                "the cluster did not converge: not all nodes run: [\"node1: the commit log cannot be opened\"]",
                "clients are without an answer 120s after the faults: None",
                "changes of members do not end: None",
                "not everything could be read in the end",
                "only 9000 operations were acknowledged",
                "there were only 12 faults",
                "it takes more than 300s",
                "signal: 9 (SIGKILL): ",
                "exit status: 101: thread 'simulation' panicked at a.rs:1:1: index out of bounds",
            ] {
                check(fault, what, false);
            }
            assert_eq!(found(fault, "seed 7 trace 1 acked 20000 passed"), None);
        }
    }
}
