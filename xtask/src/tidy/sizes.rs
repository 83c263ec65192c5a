//! Files stay small: what is longer than the limit stands on a list with its length, and the list only shrinks.
//!
//! A new file above the limit fails, a listed one that grows fails, and one that shrank fails until its entry is
//! lowered, so that what was gained is kept.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use super::Fault;
use crate::process::say;
use crate::tree::{File, root};

/// Lines of a Rust file, tests included.
const LINES_MAX: usize = 400;
const LIST: &str = "xtask/sizes.txt";

pub(super) fn check(files: &[File]) -> Result<Vec<Fault>> {
    let list = read(files)?;
    Ok(compare(&long(files), &list))
}

/// Lowers and removes entries; never adds or raises one.
pub(super) fn shrink(files: &[File]) -> Result<()> {
    let (list, long) = (read(files)?, long(files));
    let mut text = String::new();
    for (path, allowed) in list {
        if let Some(lines) = long.get(&path) {
            text.push_str(&format!("{} {path}\n", allowed.min(*lines)));
        }
    }
    fs::write(root().join(LIST), text).with_context(|| format!("cannot write {LIST}"))?;
    say(&format!("wrote {LIST}"));
    Ok(())
}

fn long(files: &[File]) -> BTreeMap<String, usize> {
    files
        .iter()
        .filter(|file| file.is_rust())
        .map(|file| (file.path.clone(), file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect()
}

fn compare(long: &BTreeMap<String, usize>, list: &BTreeMap<String, usize>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, lines) in long {
        match list.get(path) {
            None => faults.push(Fault(format!("{path}: {lines} lines, the limit is {LINES_MAX}: divide it"))),
            Some(allowed) if lines > allowed => {
                faults.push(Fault(format!("{path}: grew from {allowed} to {lines} lines: divide it")));
            }
            Some(_) => {}
        }
    }
    for (path, allowed) in list {
        if long.get(path).is_none_or(|lines| lines < allowed) {
            faults.push(Fault(format!("{path}: is below its entry of {allowed} lines: run cargo xtask tidy --shrink")));
        }
    }
    faults
}

fn read(files: &[File]) -> Result<BTreeMap<String, usize>> {
    let Some(list) = files.iter().find(|file| file.path == LIST) else {
        return Ok(BTreeMap::new());
    };
    list.text
        .lines()
        .map(|line| {
            let (lines, path) = line.split_once(' ').with_context(|| format!("{LIST}: {line:?} is not LINES PATH"))?;
            Ok((path.to_owned(), lines.parse()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_only_shrinks() {
        let map =
            |entries: &[(&str, usize)]| entries.iter().map(|(path, lines)| ((*path).to_owned(), *lines)).collect();
        let list = map(&[("a.rs", 500)]);
        assert_eq!(compare(&map(&[("a.rs", 500)]), &list), []);
        for wrong in [&[("a.rs", 501)][..], &[("a.rs", 499)], &[], &[("a.rs", 500), ("b.rs", 401)]] {
            assert_eq!(compare(&map(wrong), &list).len(), 1, "{wrong:?}");
        }
    }
}
