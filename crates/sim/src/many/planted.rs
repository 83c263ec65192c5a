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
        Planted::FormerLifeAccepted | Planted::StaleRead | Planted::SnapshotBeforeData => 12,
        Planted::RecycledUnderReader => 40,
    }
}

/// Plants each fault, or the one that is named, and runs seeds until one fails. Whether all were found.
pub(crate) fn run(wish: &Wish) -> Result<bool> {
    let mut out = std::io::stdout();
    let mut all = true;
    for (name, fault) in Planted::ALL {
        if wish.plant.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let count = if wish.count == 0 { seeds_max(fault) } else { wish.count };
        let found = find(&Wish { count, plant: Some(name.to_owned()), ..wish.clone() })?;
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

/// How many seeds were tried, and what the one said that failed. It passes without the fault.
fn find(wish: &Wish) -> Result<Option<(u64, String)>> {
    let mut children = Children::new(wish, wish.first..wish.first + wish.count);
    let mut tried = 0;
    while let Some((seed, line)) = children.next()? {
        tried += 1;
        let Some(what) = found(&line) else { continue };
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

/// What a seed found. Too little that was done says nothing about what was planted, nor does a process that took too long or was
/// ended from outside.
fn found(line: &str) -> Option<&str> {
    let (_, what) = line.split_once("FAILED ")?;
    let says_nothing = ["only ", "it takes more than ", "signal: "].iter().any(|begin| what.starts_with(begin));
    (!says_nothing && !what.contains("there were only")).then_some(what)
}

#[cfg(test)]
mod tests {
    use super::found;

    #[test]
    fn only_what_an_invariant_or_a_panic_says_counts() {
        assert_eq!(found("seed 7 trace 1 acked 2 FAILED one_order: 3 at 4 and 5"), Some("one_order: 3 at 4 and 5"));
        assert_eq!(found("seed 7 FAILED exit status: 101: thread panicked"), Some("exit status: 101: thread panicked"));
        for line in [
            "seed 7 trace 1 acked 20000 passed",
            "seed 7 trace 1 FAILED only 9000 operations were acknowledged",
            "seed 7 trace 1 FAILED there were only 12 faults",
            "seed 7 FAILED it takes more than 300s",
            "seed 7 FAILED signal: 9 (SIGKILL): ",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
