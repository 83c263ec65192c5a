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

/// Every kind of fault must occur in one seed of so many.
const KIND_ONE_IN: u64 = 4;

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
                && kinds.contains(kind)
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
        if !wish.calm && wish.count >= 20 {
            for kind in Kind::all() {
                let name = kind.name().replace(' ', "_");
                let seeds = self.seeds_with.get(&name).copied().unwrap_or_default();
                if seeds * KIND_ONE_IN < wish.count {
                    writeln!(out, "FAILED {name} occurred in {seeds} seeds only")?;
                    passed = false;
                }
            }
        }
        for failed in &self.failed {
            writeln!(out, "{failed}")?;
        }
        Ok(passed)
    }
}
