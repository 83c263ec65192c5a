//! The data directory of a node: who may use it, which format it has, whose it is.
//!
//! One process at a time, by a lock on `LOCK`. `IDENTITY` names format and node; node and uuid are
//! written once, at the first start, before anything else is. The cluster is added when it is known.
//!
//! ```text
//! LOCK                      held while a process uses the directory
//! IDENTITY                  format version, node id, the node's uuid and its cluster, as text
//! JOINING                   while the node becomes one of an existing cluster's
//! LOST-NODES                nodes that this one was recovered without, until all know that they are removed
//! log/                      the commit log
//! shards/N/checkpoints/     checkpoints of shard N
//! shards/N/index/           sealed indexes of shard N
//! shards/N/objects/         objects of shard N
//! shards/N/INSTALLING       there while shard N is brought here from another node
//! ```

mod checked_text;
mod claim;
mod giving_up;
mod identity;
mod joining;
mod lost_nodes;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Env;
use base::disk::{DirEntry, Disk};
use parking_lot::Mutex;
use record::ShardId;

use crate::checkpoint;
use crate::commit_log::{Covered, Damage};
pub use claim::Claim;
pub use identity::{Identity, read_identity};
pub use joining::{Contact, Joining};
pub use lost_nodes::LostNodes;

use identity::write_identity;

/// The layout of everything under the directory.
pub const FORMAT_VERSION: u32 = 1;

/// An open data directory. Dropping it gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Mutex<Identity>,
    disk: Arc<dyn Disk>,
    _lock: Box<dyn base::disk::DirLock>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by another process; stop it, or give this one a directory of its own")]
    InUse { path: PathBuf },
    #[error(
        "the data directory {path} has format {found} and this version knows {FORMAT_VERSION}; start the version that wrote it"
    )]
    Format { path: PathBuf, found: u32 },
    #[error("{path} is not the identity of a data directory; restore it from a backup or use an empty directory")]
    Identity { path: PathBuf },
    #[error(
        "the data directory {path} is of the cluster {known:032x}, its metadata of {found:032x}: parts of two directories \
         were put together; bring back what belongs here"
    )]
    Cluster { path: PathBuf, known: u128, found: u128 },
    #[error("{path} does not say which cluster the node joins; remove it to begin anew")]
    Joining { path: PathBuf },
    #[error(
        "{path} is damaged, which says without which nodes this one was recovered: bring back the directory as it was before \
         `cluster recover` and recover again; or remove the file, see that none of the lost nodes runs, start this one, and \
         `cluster drain` and `cluster remove` them before anything else"
    )]
    LostNodes { path: PathBuf },
    #[error("the directory {path} holds {entry:?} and no IDENTITY: it is not a data directory; use an empty one")]
    Foreign { path: PathBuf, entry: String },
    #[error("cannot {operation} {path}: {source}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Opens `path`, made when absent, as the directory of its node or of the first one of a cluster.
    /// Blocks for a few operations on names.
    ///
    /// # Errors
    /// When another process uses it or it is not this version's.
    pub async fn open(env: &Env, path: &Path) -> Result<Self, DataDirError> {
        Claim::take(env, path).await?.founded(env).await
    }

    /// Writes down which cluster the node belongs to, once.
    ///
    /// # Errors
    /// When it cannot be written, or another one stands there.
    pub async fn set_cluster(&self, cluster: u128) -> Result<(), DataDirError> {
        let before = self.identity();
        match before.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(known) => Err(DataDirError::Cluster { path: self.path.clone(), known, found: cluster }),
            None => {
                let identity = Identity { cluster: Some(cluster), ..before };
                write_identity(&self.disk, &self.path, identity).await?;
                *self.identity.lock() = identity;
                Ok(())
            }
        }
    }

    /// What `JOINING` says, while it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn joining(&self) -> Result<Option<Joining>, DataDirError> {
        joining::read(&*self.disk, &self.path).await
    }

    /// The node's copy of the metadata is about to be brought here anew: until it is, this says where others are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note_members(&self, members: Vec<Contact>) -> Result<(), DataDirError> {
        // It was born long ago, and asks nobody to be taken in.
        let joining = Joining { birth: 0, addresses: Vec::new(), members };
        joining::write(&self.disk, &self.path, &joining).await
    }

    /// The node's copy of the metadata is here: nothing else is to be remembered.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end_joining(&self) -> Result<(), DataDirError> {
        joining::remove(&*self.disk, &self.path)
    }

    /// This node is recovered without these: it listens to them no more from its next start on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note_lost(&self, lost: &LostNodes) -> Result<(), DataDirError> {
        lost_nodes::write(&self.disk, &self.path, lost).await
    }

    /// The node's copy of the metadata says durably that they are removed.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end_lost(&self) -> Result<(), DataDirError> {
        lost_nodes::remove(&*self.disk, &self.path)
    }

    /// Gives up all that the directory holds: whoever opens it next is told by [`Claim::gives_up`]. Once it is empty it is
    /// that of a node without identity, which looks for its cluster at `addresses`.
    ///
    /// # Errors
    /// When that cannot be written down; it may be there all the same.
    pub async fn give_up(&self, addresses: &[(String, u16)]) -> Result<(), DataDirError> {
        giving_up::write(&self.disk, &self.path, addresses).await
    }

    /// Removes what was given up, identity and all; does nothing to a directory that was not. Nothing below it may be
    /// open, and whoever had it opens it anew: nothing else of this handle is true any more.
    ///
    /// # Errors
    /// When something cannot be removed; the next one to open the directory goes on with it.
    pub async fn empty(&self, env: &Env) -> Result<(), DataDirError> {
        giving_up::finish(env, &self.path).await
    }

    /// Takes back that it was given up: all stays as it is.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(&self) -> Result<(), DataDirError> {
        giving_up::take_back(&*self.disk, &self.path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn identity(&self) -> Identity {
        *self.identity.lock()
    }

    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        log_dir(&self.path)
    }

    #[must_use]
    pub fn checkpoint_dir(&self, shard: ShardId) -> PathBuf {
        self.shard_dir(shard).join("checkpoints")
    }

    #[must_use]
    pub fn index_dir(&self, shard: ShardId) -> PathBuf {
        self.shard_dir(shard).join("index")
    }

    /// The shard's objects, below the directory.
    #[must_use]
    pub fn objects_below(shard: ShardId) -> object_store::path::Path {
        format!("shards/{}/objects", shard.0).into()
    }

    /// Says, while it is there, that the shard is being brought here: see [`crate::InstallMarker`].
    #[must_use]
    pub fn installing_file(&self, shard: ShardId) -> PathBuf {
        self.shard_dir(shard).join("INSTALLING")
    }

    /// The shards that have files here, in their order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn shards(&self) -> io::Result<Vec<ShardId>> {
        Ok(checkpoint_dirs(&*self.disk, &self.path)?.into_iter().map(|(shard, _)| shard).collect())
    }

    fn shard_dir(&self, shard: ShardId) -> PathBuf {
        shards_dir(&self.path).join(shard.to_string())
    }
}

fn shards_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("shards")
}

/// What the checkpoints of a data directory's shards cover of the log.
///
/// # Errors
/// When they cannot be read.
pub async fn covered(disk: &dyn Disk, data_dir: &Path) -> io::Result<Vec<Covered>> {
    let mut covered = Vec::new();
    for (shard, dir) in checkpoint_dirs(disk, data_dir)? {
        let furthest = checkpoint::furthest(disk, &dir).await?;
        covered.extend(furthest.map(|(at, file)| Covered { shard, at, file }));
    }
    Ok(covered)
}

/// The checkpoints of a data directory's shards that are damaged.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn damaged_checkpoints(disk: &dyn Disk, data_dir: &Path) -> io::Result<Vec<Damage>> {
    let mut damaged = Vec::new();
    for (_, dir) in checkpoint_dirs(disk, data_dir)? {
        for (file, bytes) in checkpoint::damaged(disk, &dir).await? {
            damaged.push(Damage { file, position: 0, bytes, indexes: None });
        }
    }
    Ok(damaged)
}

/// Where the checkpoints of each shard lie, in the order of the shards.
fn checkpoint_dirs(disk: &dyn Disk, data_dir: &Path) -> io::Result<Vec<(ShardId, PathBuf)>> {
    Ok(shard_dirs(disk, data_dir)?.into_iter().map(|(shard, dir)| (shard, dir.join("checkpoints"))).collect())
}

/// The directories of the shards that have one, in order.
pub(crate) fn shard_dirs(disk: &dyn Disk, data_dir: &Path) -> io::Result<Vec<(ShardId, PathBuf)>> {
    let entries = match disk.read_dir(&shards_dir(data_dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let shard = |entry: DirEntry| {
        let shard = entry.name.parse().ok().map(ShardId).filter(|_| entry.is_dir)?;
        Some((shard, shards_dir(data_dir).join(entry.name)))
    };
    let mut dirs: Vec<(ShardId, PathBuf)> = entries.into_iter().filter_map(shard).collect();
    dirs.sort_unstable();
    Ok(dirs)
}

/// Where the commit log lies below a data directory.
#[must_use]
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

#[cfg(test)]
mod tests;
