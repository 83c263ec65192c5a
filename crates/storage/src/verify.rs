//! Comparing the index files and objects of a data directory with their checksums, without changing anything, also beside a running
//! broker. The log is [`crate::inspect`]'s.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, OpenOptions, read_exact_at};
use record::ShardId;

use crate::data_dir::shard_dirs;
use crate::index_file;
use crate::object::{DiskStore, Objects};

const INDEX_CACHE_BYTES: usize = 1 << 20;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub path: PathBuf,
    pub shard: ShardId,
    pub kind: FileKind,
    pub bytes: u64,
    /// It is what was written.
    pub is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Index,
    Object,
}

/// Reads all index files and objects of all shards, one of them in memory at a time: an object's index, or an index file. What
/// comes or goes meanwhile may be left out.
///
/// # Errors
/// When a directory or a file cannot be read.
pub async fn verify(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    on_file: &mut (dyn FnMut(&Verified) + Send),
) -> io::Result<()> {
    for (shard, dir) in shard_dirs(&**disk, data_dir)? {
        let index_dir = dir.join("index");
        for (number, name) in index_file::list(&**disk, &index_dir)? {
            let path = index_dir.join(name);
            let Some(file) = there(disk.open(&path, OpenOptions::read()))? else { continue };
            let bytes = file.len()?;
            let whole = read_exact_at(&*file, 0, usize::try_from(bytes).map_err(io::Error::other)?).await;
            let is_whole = match whole {
                Ok(contents) => index_file::is_whole(&contents, number),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            };
            on_file(&Verified { path, shard, kind: FileKind::Index, bytes, is_whole });
        }
        let store = Arc::new(DiskStore::new(Arc::clone(disk), dir.clone()));
        let objects = Objects::open(store, "objects".into(), shard, INDEX_CACHE_BYTES).await?;
        for key in objects.keys() {
            let (path, bytes) = (dir.join("objects").join(objects.file_name(key)), objects.size(key).unwrap_or(0));
            let is_whole = match objects.verify(key).await {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => false,
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            on_file(&Verified { path, shard, kind: FileKind::Object, bytes, is_whole });
        }
    }
    Ok(())
}

/// What was found; nothing if it is gone.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
