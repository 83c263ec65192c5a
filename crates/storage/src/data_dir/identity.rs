//! `IDENTITY`: whose data a directory holds.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, OpenOptions, read_exact_at};
use record::NodeId;

use super::checked_text::{is_sealed, opened_or_plain, sealed};
use super::{DataDirError, FORMAT_VERSION, joining};

/// An identity file is a few lines; more is not one.
const IDENTITY_BYTES_MAX: u64 = 4096;

const IDENTITY_TITLE: &str = "RosettaMQ data directory";

/// Whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub node_id: NodeId,
    /// Made at the first start; tells two nodes apart that were given the same id.
    pub uuid: u128,
    /// None until the node has founded or joined one.
    pub cluster: Option<u128>,
}

impl Identity {
    /// What the commit log puts into its checksums: see its options. Clients never learn it.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "any half of a random number is random")]
    pub const fn salt(self) -> u64 {
        self.uuid as u64
    }
}

/// The identity of a data directory, which is neither locked nor changed; none when it was never
/// started in.
///
/// # Errors
/// When the file is there and is not this version's.
pub async fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DataDirError> {
    read(disk, path).await.map(|read| read.map(|(identity, _)| identity))
}

/// As [`read_identity`]; with it, whether the file says that it is whole, which those of earlier versions do not.
pub(super) async fn read(disk: &dyn Disk, path: &Path) -> Result<Option<(Identity, bool)>, DataDirError> {
    let file_path = path.join("IDENTITY");
    let io_error = |source| DataDirError::Io { operation: "read", path: file_path.clone(), source };
    let file = match disk.open(&file_path, OpenOptions::read()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let damaged = || DataDirError::Identity { path: file_path.clone() };
    let len = file.len().map_err(io_error)?;
    let len = usize::try_from(len.min(IDENTITY_BYTES_MAX)).expect("at most 4096");
    let bytes = read_exact_at(&*file, 0, len).await.map_err(io_error)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
    let mut lines = opened_or_plain(text).unwrap_or(text).lines();
    if lines.next() != Some(IDENTITY_TITLE) {
        return Err(damaged());
    }
    let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
    let format: u32 = value("format").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    if format != FORMAT_VERSION {
        return Err(DataDirError::Format { path: path.to_owned(), found: format });
    }
    opened_or_plain(text).ok_or_else(damaged)?;
    let node_id = value("node").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    let uuid = value("uuid").and_then(|text| u128::from_str_radix(&text, 16).ok()).ok_or_else(damaged)?;
    // Directories of earlier versions do not say it.
    let cluster = match lines.next() {
        None => None,
        Some(line) => {
            let cluster = line.strip_prefix("cluster ").and_then(|text| u128::from_str_radix(text, 16).ok());
            Some(cluster.ok_or_else(damaged)?)
        }
    };
    if lines.next().is_some() {
        return Err(damaged());
    }
    Ok(Some((Identity { node_id: NodeId(node_id), uuid, cluster }, is_sealed(text))))
}

pub(super) async fn write_identity(disk: &Arc<dyn Disk>, path: &Path, identity: Identity) -> Result<(), DataDirError> {
    let Identity { node_id, uuid, cluster } = identity;
    let mut text = format!("{IDENTITY_TITLE}\nformat {FORMAT_VERSION}\nnode {node_id}\nuuid {uuid:032x}\n");
    if let Some(cluster) = cluster {
        writeln!(text, "cluster {cluster:032x}").expect("writing to a string succeeds");
    }
    joining::replace(disk, path, "IDENTITY", "IDENTITY.new", sealed(text)).await?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let io_error = |source| DataDirError::Io { operation: "sync", path: parent.to_owned(), source };
        disk.sync_dir(parent).map_err(io_error)?;
    }
    Ok(())
}
