//! Client toolchains from their registries, installed into cargo's target folder.
//!
//! Keeps true: an installation is there whole or not at all (a stamp is written last, and holds what it was made
//! from, so that a changed version installs anew); two tests that need the same one wait for each other.

pub mod go;
pub mod iproute;
pub mod java;
pub mod kcat;
pub mod librdkafka;
pub mod node;
pub mod preload;
pub mod python;
pub mod strace;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::places;

/// Makes sure that `name` is installed from `recipe` (any text that says what it is made from), by `install` into an
/// empty folder, and returns the folder.
fn once(name: &str, recipe: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = places::clients().join(name);
    fs::create_dir_all(places::clients())?;
    let lock = File::create(places::clients().join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let stamp = folder.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == recipe) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    install(&folder).with_context(|| format!("installing {name} into {}", folder.display()))?;
    fs::write(stamp, recipe)?;
    Ok(folder)
}

/// The text of all files named, to be a recipe.
fn recipe_of(folder: &Path, files: &[&str]) -> Result<String> {
    let mut recipe = String::new();
    for file in files {
        let path = folder.join(file);
        recipe += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(recipe)
}

/// Copies plain files into an installation.
fn copy(from: &Path, files: &[&str], to: &Path) -> Result<()> {
    for file in files {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}
