//! The data directory of a node: who may use it, which format it has, whose it is.
//!
//! One process at a time, by a lock on `LOCK`. `IDENTITY` names format and node; it is written once,
//! at the first start, before anything else is.
//!
//! ```text
//! LOCK                      held while a process uses the directory
//! IDENTITY                  format version, node id and the node's uuid, as text
//! log/                      the commit log
//! shards/N/checkpoints/     checkpoints of shard N
//! shards/N/index/           sealed indexes of shard N
//! shards/N/INSTALLING       there while shard N is brought here from another node
//! ```

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use base::Env;
use base::disk::{DirEntry, Disk, OpenOptions, read_exact_at};
use record::{NodeId, ShardId};

use crate::checkpoint;
use crate::commit_log::{Covered, Damage};

/// The layout of everything under the directory.
pub const FORMAT_VERSION: u32 = 1;

/// An identity file is a few lines; more is not one.
const IDENTITY_BYTES_MAX: u64 = 4096;

const IDENTITY_TITLE: &str = "RosettaMQ data directory";

/// A node that starts alone is the first of its cluster.
const FIRST_NODE: NodeId = NodeId(1);

/// An open data directory. Dropping it gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    _lock: Box<dyn base::disk::DirLock>,
}

/// Whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub node_id: NodeId,
    /// Made at the first start; tells two nodes apart that were given the same id.
    pub uuid: u128,
}

impl Identity {
    /// What the commit log puts into its checksums: see its options. Clients never learn it.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "any half of a random number is random")]
    pub const fn salt(self) -> u64 {
        self.uuid as u64
    }
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
    /// Opens `path`, made when absent, and takes its lock. Blocks for a few operations on names.
    ///
    /// # Errors
    /// When another process uses it or it is not this version's.
    pub async fn open(env: &Env, path: &Path) -> Result<Self, DataDirError> {
        let disk = &*env.disk;
        let io_error = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { operation, path, source }
        };
        disk.create_dir_all(path).map_err(io_error("make", path))?;
        // Before anything is left in it.
        refuse_foreign(disk, path)?;
        let lock_path = path.join("LOCK");
        let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => DataDirError::InUse { path: path.to_owned() },
            _ => DataDirError::Io { operation: "lock", path: lock_path.clone(), source },
        })?;
        let identity = match read_identity(disk, path).await? {
            Some(identity) => identity,
            None => make_identity(env, path).await?,
        };
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
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

    /// Says, while it is there, that the shard is being brought here: see [`crate::InstallMarker`].
    #[must_use]
    pub fn installing_file(&self, shard: ShardId) -> PathBuf {
        self.shard_dir(shard).join("INSTALLING")
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
    let entries = match disk.read_dir(&shards_dir(data_dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let shard = |entry: DirEntry| {
        let shard = entry.name.parse().ok().map(ShardId).filter(|_| entry.is_dir)?;
        Some((shard, shards_dir(data_dir).join(entry.name).join("checkpoints")))
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

/// The identity of a data directory, which is neither locked nor changed; none when it was never
/// started in.
///
/// # Errors
/// When the file is there and is not this version's.
pub async fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DataDirError> {
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
    let mut lines = text.lines();
    if lines.next() != Some(IDENTITY_TITLE) {
        return Err(damaged());
    }
    let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
    let format: u32 = value("format").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    if format != FORMAT_VERSION {
        return Err(DataDirError::Format { path: path.to_owned(), found: format });
    }
    let node_id = value("node").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    let uuid = value("uuid").and_then(|text| u128::from_str_radix(&text, 16).ok()).ok_or_else(damaged)?;
    Ok(Some(Identity { node_id: NodeId(node_id), uuid }))
}

/// A file of someone else, and none of ours, means a wrong path more often than anything else.
fn refuse_foreign(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let io_error = |source| DataDirError::Io { operation: "read", path: path.to_owned(), source };
    let entries = disk.read_dir(path).map_err(io_error)?;
    if entries.iter().any(|entry| entry.name == "IDENTITY") {
        return Ok(());
    }
    let ours = ["LOCK", "IDENTITY.new", "lost+found"];
    match entries.into_iter().find(|entry| !ours.contains(&entry.name.as_str())) {
        Some(entry) => Err(DataDirError::Foreign { path: path.to_owned(), entry: entry.name }),
        None => Ok(()),
    }
}

async fn make_identity(env: &Env, path: &Path) -> Result<Identity, DataDirError> {
    let disk = &env.disk;
    let final_path = path.join("IDENTITY");
    let new_path = path.join("IDENTITY.new");
    let io_error = |source| DataDirError::Io { operation: "write", path: final_path.clone(), source };
    let identity = Identity { node_id: FIRST_NODE, uuid: env.random.uuid() };
    let mut text = String::new();
    writeln!(text, "{IDENTITY_TITLE}\nformat {FORMAT_VERSION}\nnode {}\nuuid {:032x}", identity.node_id, identity.uuid)
        .expect("writing to a string succeeds");
    let file = disk.open(&new_path, OpenOptions::replace()).map_err(io_error)?;
    base::task::offload(async move {
        file.write_at(0, &[IoSlice::new(text.as_bytes())]).await?;
        file.sync_data().await
    })
    .await
    .map_err(io_error)?;
    disk.rename(&new_path, &final_path).map_err(io_error)?;
    disk.sync_dir(path).map_err(io_error)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(io_error)?;
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let env = Env::real();
        let first = DataDir::open(&env, &path).await.unwrap();
        let identity = first.identity();
        drop(first);
        assert_eq!(DataDir::open(&env, &path).await.unwrap().identity(), identity);
    }

    #[tokio::test]
    async fn a_second_user_gets_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let _first = DataDir::open(&env, dir.path()).await.unwrap();
        let error = DataDir::open(&env, dir.path()).await.unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }));
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }

    #[tokio::test]
    async fn another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        drop(DataDir::open(&env, dir.path()).await.unwrap());
        let file = env.disk.open(&dir.path().join("IDENTITY"), OpenOptions::read_write()).unwrap();
        let text = format!("{IDENTITY_TITLE}\nformat 2\n");
        file.write_at(0, &[IoSlice::new(text.as_bytes())]).await.unwrap();
        let error = DataDir::open(&env, dir.path()).await.unwrap_err();
        assert!(matches!(error, DataDirError::Format { found: 2, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_directory_of_someone_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        env.disk.open(&dir.path().join("thesis.tex"), OpenOptions::create_new()).unwrap();
        let error = DataDir::open(&env, dir.path()).await.unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert!(!env.disk.exists(&dir.path().join("LOCK")), "nothing is left in it");
    }
}
