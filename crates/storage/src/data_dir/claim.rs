//! The start of a data directory: its lock, and whose it becomes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Env;
use base::disk::Disk;
use parking_lot::Mutex;
use record::NodeId;

use super::identity::{read_identity, write_identity};
use super::{Contact, DataDir, DataDirError, Identity, Joining, LostNodes, giving_up, identity, joining, lost_nodes};

/// A node that starts alone is the first of its cluster.
const FIRST_NODE: NodeId = NodeId(1);

/// A data directory that is locked, whose node may have no identity yet. Dropping it gives the lock
/// back.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    identity: Option<Identity>,
    joining: Option<Joining>,
    lost: Option<LostNodes>,
    gives_up: bool,
    disk: Arc<dyn Disk>,
    lock: Box<dyn base::disk::DirLock>,
}

impl Claim {
    /// As [`Self::take`], of a directory that holds a node; leaves nothing in another. None if it holds none.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn take_existing(env: &Env, path: &Path) -> Result<Option<Self>, DataDirError> {
        if read_identity(&*env.disk, path).await?.is_none() {
            return Ok(None);
        }
        Self::take(env, path).await.map(Some)
    }

    /// Takes the lock of `path`, made when absent. Blocks for a few operations on names.
    ///
    /// # Errors
    /// When another process uses it or it is not this version's.
    pub async fn take(env: &Env, path: &Path) -> Result<Self, DataDirError> {
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
        let found = identity::read(disk, path).await?;
        if let Some((identity, false)) = found {
            write_identity(&env.disk, path, identity).await?;
        }
        let identity = found.map(|(identity, _)| identity);
        if identity.is_none() {
            // It was being emptied: the identity goes first.
            giving_up::finish(env, path).await?;
        }
        let gives_up = giving_up::is_there(disk, path);
        let joining = joining::read(disk, path).await?;
        let lost = lost_nodes::read(disk, path).await?;
        Ok(Self { path: path.to_owned(), identity, joining, lost, gives_up, disk: Arc::clone(&env.disk), lock })
    }

    /// Whether the node had given up what is here when it stopped, and nothing was removed yet. Who knows what is here
    /// decides whether that is so: [`DataDir::empty`] or [`DataDir::keep`].
    #[must_use]
    pub fn gives_up(&self) -> bool {
        self.gives_up
    }

    /// Whose it is; none before the first start has come so far.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What the node knows that was joining a cluster when it stopped.
    #[must_use]
    pub fn joining(&self) -> Option<&Joining> {
        self.joining.as_ref()
    }

    /// The nodes that this one was recovered without, until the cluster's metadata say that they are removed.
    #[must_use]
    pub fn lost(&self) -> Option<&LostNodes> {
        self.lost.as_ref()
    }

    /// The birth by which a cluster knows this node, now and whenever it asks again.
    ///
    /// # Errors
    /// When it cannot be written down.
    ///
    /// # Panics
    /// When the node has an identity.
    pub async fn birth(&mut self, env: &Env) -> Result<u128, DataDirError> {
        assert!(self.identity.is_none(), "a node is born once");
        if let Some(joining) = &self.joining {
            return Ok(joining.birth);
        }
        let joining = Joining { birth: env.random.uuid(), addresses: Vec::new(), members: Vec::new() };
        joining::write(&self.disk, &self.path, &joining).await?;
        Ok(self.joining.insert(joining).birth)
    }

    /// The directory of the node whose it is, or of the first node of a cluster.
    ///
    /// # Errors
    /// When the identity cannot be written.
    pub async fn founded(self, env: &Env) -> Result<DataDir, DataDirError> {
        let identity = match self.identity {
            Some(identity) => identity,
            None => {
                let identity = Identity { node_id: FIRST_NODE, uuid: env.random.uuid(), cluster: None };
                write_identity(&self.disk, &self.path, identity).await?;
                // A birth that no cluster was ever told, or that none has answered.
                joining::remove(&*self.disk, &self.path)?;
                identity
            }
        };
        Ok(self.of(identity))
    }

    /// The directory of a node that a cluster has taken in.
    ///
    /// # Errors
    /// When the identity cannot be written.
    pub async fn joined(
        mut self,
        env: &Env,
        node_id: NodeId,
        cluster: u128,
        members: Vec<Contact>,
    ) -> Result<DataDir, DataDirError> {
        let birth = self.birth(env).await?;
        let joining = Joining { birth, addresses: Vec::new(), members };
        joining::write(&self.disk, &self.path, &joining).await?;
        let identity = Identity { node_id, uuid: env.random.uuid(), cluster: Some(cluster) };
        write_identity(&self.disk, &self.path, identity).await?;
        Ok(self.of(identity))
    }

    fn of(self, identity: Identity) -> DataDir {
        let Self { path, disk, lock, .. } = self;
        DataDir { path, identity: Mutex::new(identity), disk, _lock: lock }
    }
}

/// A file of someone else, and none of ours, means a wrong path more often than anything else.
fn refuse_foreign(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let io_error = |source| DataDirError::Io { operation: "read", path: path.to_owned(), source };
    let entries = disk.read_dir(path).map_err(io_error)?;
    if entries.iter().any(|entry| entry.name == "IDENTITY") {
        return Ok(());
    }
    let ours =
        ["LOCK", "IDENTITY.new", joining::FILE, joining::NEW_FILE, giving_up::FILE, giving_up::NEW_FILE, "lost+found"];
    if entries.iter().any(|entry| entry.name == giving_up::FILE) {
        return Ok(());
    }
    match entries.into_iter().find(|entry| !ours.contains(&entry.name.as_str())) {
        Some(entry) => Err(DataDirError::Foreign { path: path.to_owned(), entry: entry.name }),
        None => Ok(()),
    }
}
