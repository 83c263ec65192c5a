//! Many seeds, each in a process of its own, and what they covered together.

mod children;
#[cfg(feature = "planted")]
pub(crate) mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use sim::faults::Kind;

use self::children::Children;

/// Every kind of fault must occur in one seed of so many, where there are [`MANY`].
const KIND_ONE_IN: u64 = 4;
const MANY: u64 = 20;
/// Before a kind that was tried and came to nothing, which is no fault.
const REFUSED: &str = "refused_";

/// Which seeds, and how.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) jobs: usize,
    pub(crate) twice: u64,
    pub(crate) seconds: u64,
    pub(crate) calm: bool,
    pub(crate) plant: Option<String>,
    /// What a seed may take, in real time.
    pub(crate) limit: Duration,
}

#[derive(Default)]
struct Total {
    passed: u64,
    failed: Vec<String>,
    sums: BTreeMap<String, u64>,
    /// In how many seeds a kind of fault occurred.
    seeds_with: BTreeMap<String, u64>,
}

/// Runs them; whether all passed and covered enough.
pub(crate) fn run(wish: &Wish) -> Result<bool> {
    let waiting = (wish.first..wish.first + wish.count).flat_map(|seed| {
        let twice = wish.twice > 0 && seed % wish.twice == 0;
        std::iter::repeat_n(seed, 1 + usize::from(twice))
    });
    let mut children = Children::new(wish, waiting);
    let mut lines: BTreeMap<u64, String> = BTreeMap::new();
    let mut total = Total::default();
    while let Some((seed, line)) = children.next()? {
        match lines.get(&seed) {
            Some(before) if *before == line => {}
            Some(before) => total.failed.push(format!("seed {seed} has two traces:\n  {before}\n  {line}")),
            None => {
                writeln!(std::io::stdout(), "{line}")?;
                total.add(&line);
                lines.insert(seed, line);
            }
        }
    }
    total.report(wish)
}

impl Total {
    fn add(&mut self, line: &str) {
        let kinds: BTreeSet<String> = Kind::all().iter().map(|kind| kind.name().replace(' ', "_")).collect();
        let words: Vec<&str> = line.split(' ').collect();
        for pair in words.windows(2) {
            if let (name, Ok(value)) = (pair[0], pair[1].parse::<u64>())
                && !["seed", "trace"].contains(&name)
            {
                *self.sums.entry(name.to_owned()).or_default() += value;
            }
        }
        for word in &words {
            if let Some((kind, count)) = word.split_once('=')
                && kinds.contains(kind.strip_prefix(REFUSED).unwrap_or(kind))
                && let Ok(count) = count.parse::<u64>()
            {
                *self.sums.entry(kind.to_owned()).or_default() += count;
                *self.seeds_with.entry(kind.to_owned()).or_default() += 1;
            }
        }
        if line.ends_with(" passed") {
            self.passed += 1;
        } else {
            self.failed.push(line.to_owned());
        }
    }

    fn report(&self, wish: &Wish) -> Result<bool> {
        let mut out = std::io::stdout();
        writeln!(out, "\n{} of {} seeds passed", self.passed, wish.count)?;
        for (name, sum) in &self.sums {
            match self.seeds_with.get(name) {
                Some(seeds) => writeln!(out, "{name}: {sum} in {seeds} seeds")?,
                None => writeln!(out, "{name}: {sum}")?,
            }
        }
        let mut passed = self.failed.is_empty();
        for missed in self.too_rare(wish) {
            writeln!(out, "FAILED {missed}")?;
            passed = false;
        }
        for failed in &self.failed {
            writeln!(out, "{failed}")?;
        }
        Ok(passed)
    }

    /// The kinds of faults that occurred in too few seeds.
    fn too_rare(&self, wish: &Wish) -> Vec<String> {
        if wish.calm || wish.count < MANY {
            return Vec::new();
        }
        let names = Kind::all().into_iter().map(|kind| kind.name().replace(' ', "_"));
        let counted = names.map(|name| (self.seeds_with.get(&name).copied().unwrap_or_default(), name));
        let rare = counted.filter(|(seeds, _)| seeds * KIND_ONE_IN < wish.count);
        rare.map(|(seeds, name)| format!("{name} occurred in {seeds} seeds only")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_no_fault() {
        let wish = |count, calm| Wish {
            first: 0,
            count,
            jobs: 1,
            twice: 0,
            seconds: 300,
            calm,
            plant: None,
            limit: Duration::ZERO,
        };
        let all: String = Kind::all().iter().map(|kind| format!(" {}=2", kind.name().replace(' ', "_"))).collect();
        let moved = all.clone() + " refused_drain=1";
        let refused = all.replace(" move=2", " refused_move=2");
        let mut total = Total::default();
        for place in 0..20 {
            let words = if place < 5 { &moved } else { &refused };
            total.add(&format!("seed {place} trace 7 faults 38{words} passed"));
        }
        assert_eq!(total.too_rare(&wish(20, false)), Vec::<String>::new());
        assert_eq!(total.too_rare(&wish(21, false)), ["move occurred in 5 seeds only"]);
        assert_eq!(total.too_rare(&wish(21, true)), Vec::<String>::new());
        assert_eq!((total.sums["move"], total.sums["refused_move"], total.seeds_with["refused_drain"]), (10, 30, 5));
    }
}
