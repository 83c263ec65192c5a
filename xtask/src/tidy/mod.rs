//! What holds in the whole tree and no compiler checks.
//!
//! Each rule is one file with a function from the tree to what is wrong, and tests of its own.

mod layers;
mod modules;
mod names;
mod sizes;
mod words;

use anyhow::{Result, bail};

use crate::process::say;
use crate::tree::{self, File};

/// One thing that is wrong, with the file it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault(String);

pub(crate) fn run() -> Result<()> {
    let faults = check(&tree::files()?)?;
    if !faults.is_empty() {
        let list: String = faults.iter().map(|fault| format!("\n  {}", fault.0)).collect();
        bail!("the tree is not tidy:{list}");
    }
    say("the tree is tidy");
    Ok(())
}

pub(crate) fn shrink() -> Result<()> {
    sizes::shrink(&tree::files()?)
}

fn check(files: &[File]) -> Result<Vec<Fault>> {
    let mut faults = layers::check(files)?;
    faults.extend(modules::check(files));
    faults.extend(names::check(files));
    faults.extend(sizes::check(files)?);
    faults.extend(words::check(files));
    Ok(faults)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        super::run().unwrap();
    }
}
