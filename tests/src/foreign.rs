//! Test suites that others wrote, run from allowlists that only grow.
//!
//! Keeps true: every entry of a list must pass; what is not listed has its reason in `foreign/findings.md`; an entry
//! that ran nothing counts as failed. While nodes are restarted the same entries must pass, but for those marked `steady`,
//! which have their reasons there too.

mod kafka_python;
mod librdkafka;

use std::fs;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};

pub use kafka_python::{KafkaPython, run as run_kafka_python};
pub use librdkafka::{Librdkafka, run as run_librdkafka};

use crate::{places, toolchain};

/// One line of an allowlist: words, without its comment.
#[derive(Clone, Debug)]
pub struct Entry {
    pub words: Vec<String>,
}

impl Entry {
    fn has(&self, word: &str) -> bool {
        self.words.iter().skip(1).any(|known| known == word)
    }

    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// The entries of a list for what is served; those marked `nightly` only when the run is one.
fn allowlist(name: &str, restarts: bool) -> Result<Vec<Entry>> {
    let path = places::foreign_sources().join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let entries = text.lines().filter_map(|line| {
        let words: Vec<String> = line.split('#').next()?.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Entry { words })
    });
    let is_wanted =
        |entry: &Entry| (toolchain::is_nightly() || !entry.has("nightly")) && !(restarts && entry.has("steady"));
    let wanted: Vec<Entry> = entries.filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "{name} lists nothing");
    Ok(wanted)
}

/// Runs all entries, a few at a time, and returns what failed.
fn run_all(entries: Vec<Entry>, at_once: usize, run: impl Fn(&Entry) -> Result<()> + Sync) -> Vec<String> {
    let waiting = Mutex::new(entries.into_iter());
    let failed = Mutex::new(Vec::new());
    let next = || waiting.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(entry) = next() {
                    if let Err(error) = run(&entry)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(format!("{}: {error:#}", entry.words.join(" ")));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_without_comments_and_nightly_entries() -> Result<()> {
        for name in ["librdkafka-allowlist.txt", "kafka-python-allowlist.txt"] {
            for entry in allowlist(name, false)? {
                ensure!(!entry.name().is_empty() && !entry.name().starts_with('#'), "{entry:?}");
                ensure!(toolchain::is_nightly() || !entry.has("nightly"), "{entry:?}");
            }
            for entry in allowlist(name, true)? {
                ensure!(!entry.has("steady"), "{entry:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn failures_are_collected() {
        let entry = |name: &str| Entry { words: vec![name.to_owned()] };
        let entries = (0..20).map(|number| entry(&number.to_string())).collect();
        let failed = run_all(entries, 3, |entry| {
            ensure!(entry.name() != "7", "seven");
            Ok(())
        });
        assert_eq!(failed, ["7: seven"]);
    }
}
