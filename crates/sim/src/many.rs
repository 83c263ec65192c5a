//! Many seeds, each in a process of its own, and what they covered together.

#[cfg(feature = "planted")]
pub(crate) mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use sim::faults::Kind;

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
    let mut waiting = (wish.first..wish.first + wish.count).flat_map(|seed| {
        let twice = wish.twice > 0 && seed % wish.twice == 0;
        std::iter::repeat_n(seed, 1 + usize::from(twice))
    });
    let mut running: Vec<(u64, Child)> = Vec::new();
    let mut lines: BTreeMap<u64, String> = BTreeMap::new();
    let mut total = Total::default();
    loop {
        while running.len() < wish.jobs.max(1)
            && let Some(seed) = waiting.next()
        {
            running.push((seed, start(seed, wish)?));
        }
        if running.is_empty() {
            break;
        }
        // The oldest first: the others go on meanwhile.
        let (seed, child) = running.remove(0);
        let line = line_of(seed, child)?;
        match lines.get(&seed) {
            Some(before) if *before == line => continue,
            Some(before) => {
                total.failed.push(format!("seed {seed} has two traces:\n  {before}\n  {line}"));
                continue;
            }
            None => {}
        }
        writeln!(std::io::stdout(), "{line}")?;
        total.add(&line);
        lines.insert(seed, line);
    }
    total.report(wish)
}

/// What a seed's process says at its end.
fn line_of(seed: u64, child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !line.is_empty() {
        return Ok(line);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Ok(format!("seed {seed} FAILED {}: {}", output.status, error.lines().take(3).collect::<Vec<_>>().join(" ")))
}

fn start(seed: u64, wish: &Wish) -> Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("run").arg(seed.to_string()).arg("--seconds").arg(wish.seconds.to_string());
    if wish.calm {
        command.arg("--calm");
    }
    if let Some(fault) = &wish.plant {
        command.arg("--plant").arg(fault);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("a seed's process cannot be started")
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
