//! Writes the generated pages. The crate that a page is made from has the test that compares it.

use std::fs;

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, say};
use crate::tree::root;

pub(crate) fn run() -> Result<()> {
    let mut rosettamq = cargo();
    rosettamq.current_dir(root());
    rosettamq.args(["run", "--quiet", "--package", "server", "--bin", "rosettamq", "--", "reference"]);
    let page = output(&mut rosettamq)?;
    let path = root().join("docs/configuration.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    say("wrote docs/configuration.md");
    Ok(())
}
