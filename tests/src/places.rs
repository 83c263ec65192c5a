//! Where things lie: the workspace, cargo's target folder, and what is installed in it.

use std::env;
use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The sources of the client programs and their lock files.
pub fn client_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Allowlists and findings of foreign test suites.
pub fn foreign_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign")
}

/// Cargo's target folder: the one that the running program was built into, so that it follows `CARGO_TARGET_DIR`
/// and cargo's configuration alike.
pub fn target() -> PathBuf {
    let marked = env::current_exe().ok().and_then(|program| {
        let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
        program.ancestors().find(marked).map(Path::to_path_buf)
    });
    marked.unwrap_or_else(|| workspace().join("target"))
}

/// Where client toolchains are installed.
pub fn clients() -> PathBuf {
    target().join("clients")
}
