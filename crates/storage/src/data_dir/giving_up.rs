//! A node that gives up its own cluster to become a new node of another one.
//!
//! `GIVING-UP` says that nothing here is wanted any more. Whoever opens the directory next looks whether that is so
//! before anything goes. The identity goes first: without it there is no way back. Then the directory is that of a node
//! without identity that knows where to look for its cluster.
//!
//! ```text
//! RosettaMQ giving up
//! at PORT HOST        where a cluster is, one or more of these
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::disk::{Disk, OpenOptions, read_exact_at};

use super::joining::{self, Joining, address_line, parse_address};
use super::{DataDirError, log_dir, lost_nodes, shards_dir};

pub(super) const FILE: &str = "GIVING-UP";
pub(super) const NEW_FILE: &str = "GIVING-UP.new";
const TITLE: &str = "RosettaMQ giving up";
const BYTES_MAX: u64 = 64 << 10;

pub(super) async fn write(disk: &Arc<dyn Disk>, dir: &Path, addresses: &[(String, u16)]) -> Result<(), DataDirError> {
    let lines: String = addresses.iter().map(address_line).collect();
    joining::replace(disk, dir, FILE, NEW_FILE, format!("{TITLE}\n{lines}")).await
}

pub(super) fn is_there(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join(FILE))
}

/// The directory is not given up after all.
pub(super) fn take_back(disk: &dyn Disk, dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join(FILE);
    let removed = remove_file(disk, &path).and_then(|()| disk.sync_dir(dir));
    removed.map_err(|source| DataDirError::Io { operation: "remove", path: path.clone(), source })
}

/// Empties a directory that was given up; does nothing to another one. Interrupted, it is gone on with.
pub(super) async fn finish(env: &Env, dir: &Path) -> Result<(), DataDirError> {
    let disk = &env.disk;
    let path = dir.join(FILE);
    let io_error = |source| DataDirError::Io { operation: "read", path: path.clone(), source };
    let file = match disk.open(&path, OpenOptions::read()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    let len = usize::try_from(file.len().map_err(io_error)?.min(BYTES_MAX)).expect("at most 64 KiB");
    let bytes = read_exact_at(&*file, 0, len).await.map_err(io_error)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| DataDirError::Joining { path: path.clone() })?;
    let mut lines = text.lines();
    let addresses: Option<Vec<(String, u16)>> =
        if lines.next() == Some(TITLE) { lines.map(parse_address).collect() } else { None };
    let addresses = addresses.ok_or_else(|| DataDirError::Joining { path: path.clone() })?;
    let removed = |source| DataDirError::Io { operation: "empty", path: dir.to_owned(), source };
    remove_file(&**disk, &dir.join("IDENTITY")).map_err(removed)?;
    disk.sync_dir(dir).map_err(removed)?;
    for dir in [log_dir(dir), shards_dir(dir)] {
        remove_tree(&**disk, &dir).map_err(removed)?;
    }
    // They were another cluster's.
    lost_nodes::remove(&**disk, dir)?;
    if joining::read(&**disk, dir).await?.is_none() {
        let joining = Joining { birth: env.random.uuid(), addresses, members: Vec::new() };
        joining::write(disk, dir, &joining).await?;
    }
    remove_file(&**disk, &path).map_err(removed)?;
    disk.sync_dir(dir).map_err(removed)
}

fn remove_file(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn remove_tree(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let entries = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir { remove_tree(disk, &path)? } else { remove_file(disk, &path)? }
    }
    disk.remove_dir(dir)
}
