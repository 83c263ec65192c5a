//! Checkpoints of one shard's state: a base and deltas on it.
//!
//! A file gets its final name only after it is durable, so a file that has one is whole or damaged,
//! never half-written. A new base is durable before what it replaces is removed. The format is in
//! `docs/formats/checkpoint.md`.

mod file;
mod load;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, File, OpenOptions};
use base::task::offload;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::passing::{failed_write, remove_file};
use crate::types::LogId;
use file::{FileHeader, Kind, Writer};
pub use load::Loaded;

/// The largest chunk of a checkpoint.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// A checkpoint in a folder, by its name.
struct Found {
    path: PathBuf,
    bytes: u64,
    file: Arc<dyn File>,
    /// None when it is damaged.
    header: Option<FileHeader>,
}

/// The checkpoints in `dir`; none when it is not there. Nothing is changed.
async fn find(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Found>> {
    let entries = match disk.read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some((number, kind)) = file::parse_name(&entry.name) else { continue };
        let path = dir.join(&entry.name);
        let file = match disk.open(&path, OpenOptions::read()) {
            Ok(file) => file,
            // Beside a running broker a newer base may have replaced it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let header = file::read_header(&*file, number, kind).await?;
        found.push(Found { path, bytes: entry.len, file, header });
    }
    Ok(found)
}

/// The furthest entry that a checkpoint in `dir` covers by its header, and that checkpoint. Nothing is
/// changed.
///
/// # Errors
/// When a file cannot be read.
pub async fn furthest(disk: &dyn Disk, dir: &Path) -> io::Result<Option<(LogId, PathBuf)>> {
    let found = find(disk, dir).await?.into_iter();
    Ok(found.filter_map(|Found { path, header, .. }| Some((header?.at, path))).max())
}

/// The checkpoints in `dir` that are not what was written, with their lengths. Nothing is changed.
///
/// # Errors
/// When a file cannot be read.
pub(crate) async fn damaged(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut damaged = Vec::new();
    for Found { path, bytes, file, header } in find(disk, dir).await? {
        let whole = match header {
            Some(header) => file::is_whole(&file, &header).await?,
            None => false,
        };
        if !whole {
            damaged.push((path, bytes));
        }
    }
    Ok(damaged)
}

/// The checkpoints of one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Mutex<State>,
    /// Held while one gets its name, also when nobody waits for that any more.
    finishing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest base and the deltas on it, in order.
    chain: Vec<Stored>,
    next_number: u64,
    writing: bool,
}

#[derive(Debug, Clone)]
struct Stored {
    header: FileHeader,
    path: PathBuf,
    bytes: u64,
}

/// What is stored, for deciding whether a base or a delta comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Up to which entry the chain goes.
    pub at: LogId,
    pub base_bytes: u64,
    pub delta_bytes: u64,
    pub deltas: u32,
}

impl CheckpointStore {
    /// Opens the checkpoints in `dir`, made when absent; half-written ones are removed.
    ///
    /// # Errors
    /// When files cannot be read.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        let dir = dir.to_owned();
        offload(async move {
            disk.create_dir_all(&dir)?;
            let mut found = Vec::new();
            let mut next_number = 1;
            for entry in disk.read_dir(&dir)? {
                let path = dir.join(&entry.name);
                let Some((number, kind)) = file::parse_name(&entry.name) else {
                    if file::is_temporary(&entry.name) {
                        disk.remove(&path)?;
                    }
                    continue;
                };
                next_number = next_number.max(number + 1);
                let opened = disk.open(&path, OpenOptions::read())?;
                match file::read_header(&*opened, number, kind).await? {
                    Some(header) => found.push(Stored { header, path, bytes: entry.len }),
                    None => tracing::error!(path = %path.display(), "a damaged checkpoint is passed over"),
                }
            }
            let chain = newest_chain(found);
            let state = State { chain, next_number, writing: false };
            Ok(Self { shared: Arc::new(Shared { disk, dir, state: Mutex::new(state), finishing: Arc::default() }) })
        })
        .await
    }

    /// Where the files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The newest chain, as far as its files' headers go.
    #[must_use]
    pub fn chain(&self) -> Option<Chain> {
        let state = self.shared.state.lock();
        let (base, deltas) = state.chain.split_first()?;
        Some(Chain {
            at: deltas.last().unwrap_or(base).header.at,
            base_bytes: base.bytes,
            delta_bytes: deltas.iter().map(|delta| delta.bytes).sum(),
            deltas: u32::try_from(deltas.len()).unwrap_or(u32::MAX),
        })
    }

    /// Starts a base that covers everything up to `at`.
    ///
    /// # Errors
    /// When the file cannot be made.
    ///
    /// # Panics
    /// When another checkpoint of the shard is being written.
    pub async fn write_base(&self, at: LogId) -> io::Result<CheckpointWriter> {
        self.begin(at, Kind::Base).await
    }

    /// Starts a delta on the newest chain.
    ///
    /// # Errors
    /// When the file cannot be made.
    ///
    /// # Panics
    /// When there is no chain, or another checkpoint of the shard is being written.
    pub async fn write_delta(&self, at: LogId) -> io::Result<CheckpointWriter> {
        self.begin(at, Kind::Delta).await
    }

    async fn begin(&self, at: LogId, kind: Kind) -> io::Result<CheckpointWriter> {
        let before = self.shared.finishing.lock().await;
        let header = {
            let mut state = self.shared.state.lock();
            let newest = state.chain.last().map(|newest| newest.header);
            assert!(!state.writing, "one checkpoint of a shard is written at a time");
            assert!(newest.is_none_or(|newest| newest.at <= at), "checkpoints only go forward");
            let parent = match kind {
                Kind::Base => 0,
                Kind::Delta => newest.expect("a delta needs a base").number,
            };
            state.writing = true;
            state.next_number += 1;
            FileHeader { number: state.next_number - 1, kind, parent, at }
        };
        drop(before);
        let temporary = self.shared.dir.join(file::temporary_name(header.number));
        let mut writing = CheckpointWriter { shared: Arc::clone(&self.shared), header, temporary, writer: None };
        let (disk, path) = (Arc::clone(&self.shared.disk), writing.temporary.clone());
        let writer = offload(async move {
            let file = disk.open(&path, OpenOptions::replace())?;
            Writer::begin(file, &header).await
        });
        writing.writer = Some(writer.await?);
        Ok(writing)
    }
}

impl CheckpointStore {
    /// Removes every checkpoint, durably.
    ///
    /// # Errors
    /// When a file cannot be removed; those that were newest are gone then.
    ///
    /// # Panics
    /// When one is being written.
    pub async fn clear(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        offload(async move {
            let chain = {
                let mut state = shared.state.lock();
                assert!(!state.writing, "nothing is written into what is cleared");
                std::mem::take(&mut state.chain)
            };
            remove_older(&shared, u64::MAX, &chain)?;
            shared.disk.sync_dir(&shared.dir).map_err(failed_write)
        })
        .await
    }
}

/// The chain that ends with the newest file from which parents lead to a base.
fn newest_chain(mut found: Vec<Stored>) -> Vec<Stored> {
    found.sort_by_key(|stored| stored.header.number);
    for newest in (0..found.len()).rev() {
        let mut chain = vec![found[newest].clone()];
        while let Some(delta) = chain.last().map(|last| last.header).filter(|last| last.kind == Kind::Delta) {
            let parent = found[..newest].iter().find(|stored| {
                stored.header.number == delta.parent
                    && stored.header.number < delta.number
                    && stored.header.at <= delta.at
            });
            let Some(parent) = parent else { break };
            chain.push(parent.clone());
        }
        if chain.last().is_some_and(|base| base.header.kind == Kind::Base) {
            chain.reverse();
            return chain;
        }
    }
    Vec::new()
}

/// A checkpoint that is being written. Dropped before `finish`, it never was.
#[derive(Debug)]
pub struct CheckpointWriter {
    shared: Arc<Shared>,
    header: FileHeader,
    temporary: PathBuf,
    writer: Option<Writer>,
}

impl CheckpointWriter {
    /// Adds a chunk of at most [`CHUNK_BYTES_MAX`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        assert!(chunk.len() <= CHUNK_BYTES_MAX, "a chunk is bounded");
        let mut writer = self.writer.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let writer = offload(async move {
            writer.chunk(&chunk).await?;
            Ok::<_, io::Error>(writer)
        });
        self.writer = Some(writer.await?);
        Ok(())
    }

    /// Makes it durable, then removes what it replaces. Returns its size in bytes.
    ///
    /// # Errors
    /// When it is not durable; the chain before it stands.
    pub async fn finish(mut self) -> io::Result<u64> {
        let writer = self.writer.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let shared = Arc::clone(&self.shared);
        let (header, temporary) = (self.header, self.temporary.clone());
        let path = shared.dir.join(file::name(header.number, header.kind));
        let finishing = Arc::clone(&shared.finishing).lock_owned().await;
        offload(async move {
            let _finishing = finishing;
            let bytes = writer.finish().await?;
            shared.disk.rename(&temporary, &path)?;
            shared.disk.sync_dir(&shared.dir).map_err(failed_write)?;
            let replaced = {
                let mut state = shared.state.lock();
                let replaced = if header.kind == Kind::Base { std::mem::take(&mut state.chain) } else { Vec::new() };
                state.chain.push(Stored { header, path, bytes });
                replaced
            };
            if header.kind == Kind::Base
                && let Err(error) = remove_older(&shared, header.number, &replaced)
            {
                let dir = shared.dir.display();
                tracing::warn!(%dir, %error, "older checkpoints are not removed before the next base");
            }
            Ok(bytes)
        })
        .await
    }
}

/// Removes every checkpoint before base `number`, those that no chain named included.
fn remove_older(shared: &Shared, number: u64, replaced: &[Stored]) -> io::Result<()> {
    // Newest first: a crash in between leaves a shorter chain, never one with a hole.
    for stored in replaced.iter().rev() {
        remove_file(&*shared.disk, &stored.path)?;
    }
    for entry in shared.disk.read_dir(&shared.dir)? {
        if file::parse_name(&entry.name).is_some_and(|(other, _)| other < number) {
            remove_file(&*shared.disk, &shared.dir.join(&entry.name))?;
        }
    }
    Ok(())
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        self.shared.state.lock().writing = false;
        // A file without its final name is removed at the next start as well.
        let _ = self.shared.disk.remove(&self.temporary);
    }
}
