//! The files of the repository: those that git knows or would take, and no others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask lies in the repository")
}

/// A text file with its path from the root.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All files that hold text, in the order of their paths.
pub(crate) fn files() -> Result<Vec<File>> {
    let mut paths = list()?;
    paths.sort();
    paths.dedup();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        // A file may be deleted and not yet committed as such.
        let Ok(bytes) = fs::read(root().join(&path)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path, text });
        }
    }
    Ok(files)
}

fn list() -> Result<Vec<String>> {
    if root().join(".git").exists() {
        let mut git = Command::new("git");
        git.arg("-C").arg(root());
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        return Ok(process::output(&mut git)?.lines().map(str::to_owned).collect());
    }
    // Unpacked from an archive: all but what a build makes.
    let mut paths = Vec::new();
    walk(root(), &mut paths)?;
    Ok(paths)
}

fn walk(folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    const BUILT: [&str; 5] = ["target", "node_modules", "__pycache__", "rosettamq-data", "artifacts"];
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if BUILT.contains(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths)?;
        } else if let Ok(path) = path.strip_prefix(root()) {
            paths.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
