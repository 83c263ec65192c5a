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

/// How many seeds were tried, and what the one said that failed.
fn find(wish: &Wish) -> Result<Option<(u64, String)>> {
    let mut children = Children::new(wish, wish.first..wish.first + wish.count);
    let mut tried = 0;
    while let Some((seed, line)) = children.next()? {
        tried += 1;
        // Too little that was done says nothing about what was planted.
        let is_found = !line.ends_with(" passed") && !line.contains("FAILED only") && !line.contains("there were only");
        if is_found {
            let what = line.split_once("FAILED ").map_or(&*line, |(_, what)| what);
            return Ok(Some((tried, format!("seed {seed}: {what}"))));
        }
    }
    Ok(None)
}
