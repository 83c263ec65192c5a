//! A disk in memory that may lose, tear and reorder whatever was not synced.
//!
//! A seed decides everything: how long operations take, and at [`SimDisk::crash`] which sectors of
//! which unsynced writes are there and which unsynced names. It is harsher than real file systems:
//! a name is durable only after `sync_dir`, and sectors are kept or lost one by one.

mod file;
mod image;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::file::SimFile;
use self::image::Image;
use super::{DirEntry, DirLock, Disk, File, Free, OpenOptions};
use crate::random::{Random, SeededRandom};
use crate::time::{self, Duration};

/// What the disk does besides storing.
#[derive(Debug, Clone)]
pub struct SimDiskOptions {
    /// Writes and syncs take up to this long, in simulated time.
    pub latency_max: Duration,
    /// How long a read takes.
    pub read_latency: Duration,
    /// The planted bug: syncs return at once and make nothing durable.
    pub ignore_sync: bool,
    /// Bytes that files can take together.
    pub capacity_bytes: u64,
}

impl Default for SimDiskOptions {
    fn default() -> Self {
        Self { latency_max: Duration::ZERO, read_latency: Duration::ZERO, ignore_sync: false, capacity_bytes: u64::MAX }
    }
}

/// A simulated disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    random: SeededRandom,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    options: SimDiskOptions,
    /// Counts crashes: what was opened before the last one is dead.
    life: u64,
    files: BTreeMap<u64, Image>,
    next_file: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since their directory was synced, in order.
    pending_names: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    /// Writes and syncs until one fails; none fails when unset.
    fail_after: Option<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(_, path, _)) = self;
        path.parent() == Some(dir)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl SimDisk {
    #[must_use]
    pub fn new(seed: u64, options: SimDiskOptions) -> Self {
        let state = State {
            options,
            life: 0,
            files: BTreeMap::new(),
            next_file: 0,
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locked: BTreeSet::new(),
            fail_after: None,
        };
        Self { shared: Arc::new(Shared { random: SeededRandom::new(seed), state: Mutex::new(state) }) }
    }

    /// Stops everything: what was not synced is lost, torn or kept as the seed has it. Files opened
    /// before answer with errors from now on.
    pub fn crash(&self) {
        let random = &self.shared.random;
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        state.life += 1;
        state.locked.clear();
        state.fail_after = None;
        let mut names = std::mem::take(&mut state.durable_names);
        for change in state.pending_names.drain(..) {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        let linked: BTreeSet<u64> = names.values().copied().collect();
        state.files.retain(|file, _| linked.contains(file));
        for image in state.files.values_mut() {
            image.crash(random);
        }
        state.names.clone_from(&names);
        state.durable_names = names;
    }

    /// Changes what the disk does from now on.
    pub fn set_options(&self, change: impl FnOnce(&mut SimDiskOptions)) {
        change(&mut self.shared.state.lock().options);
    }

    /// Lets the write or sync fail that comes after `operations` more; it and all later ones.
    pub fn fail_after(&self, operations: u64) {
        self.shared.state.lock().fail_after = Some(operations);
    }

    /// Flips bits of a stored byte, as a bad disk does.
    ///
    /// # Panics
    /// When the file is not there or is shorter.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) {
        let mut state = self.shared.state.lock();
        let file = state.names[path];
        state.files.get_mut(&file).expect("a name has a file").flip(position, mask);
    }

    /// The bytes of a file as a reader sees them now.
    ///
    /// # Panics
    /// When the file is not there.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.shared.state.lock();
        state.files[&state.names[path]].current().to_vec()
    }
}

impl Shared {
    /// How long an operation takes; also a point where other tasks run.
    async fn pause(&self) {
        let latency_max = self.state.lock().options.latency_max;
        let micros = u64::try_from(latency_max.as_micros()).unwrap_or(u64::MAX);
        if micros > 0 {
            time::sleep(Duration::from_micros(self.random.below(micros))).await;
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[file].len()).sum()
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        if self.used_bytes().saturating_add(more) > self.options.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn count_down(&mut self) -> io::Result<()> {
        match &mut self.fail_after {
            Some(0) => Err(io::Error::other("input/output error (simulated)")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.state.lock();
        let file = match state.names.get(path) {
            Some(_) if options.create_new => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => *file,
            None if options.create || options.create_new => {
                if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let file = state.next_file;
                state.next_file += 1;
                state.files.insert(file, Image::default());
                state.change_name(NameChange::Add(path.to_owned(), file));
                file
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if options.truncate {
            state.files.get_mut(&file).expect("a name has a file").set_len(0);
        }
        Ok(Arc::new(SimFile::new(Arc::clone(&self.shared), file, state.life, options.write)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.shared.state.lock();
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name_of = |entry: &Path| entry.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let mut entries = Vec::new();
        for (entry, file) in state.names.iter().filter(|(entry, _)| entry.parent() == Some(path)) {
            entries.extend(name_of(entry).map(|name| DirEntry { name, len: state.files[file].len(), is_dir: false }));
        }
        for entry in state.dirs.iter().filter(|entry| entry.parent() == Some(path)) {
            entries.extend(name_of(entry).map(|name| DirEntry { name, len: 0, is_dir: true }));
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let empty = self.read_dir(path)?.is_empty();
        if !empty {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.shared.state.lock().dirs.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.count_down()?;
        if state.options.ignore_sync {
            return Ok(());
        }
        let (synced, pending): (Vec<_>, Vec<_>) = state.pending_names.drain(..).partition(|change| change.is_in(path));
        state.pending_names = pending;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.shared.state.lock();
        state.names.contains_key(path) || state.dirs.contains(path)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<Free> {
        let state = self.shared.state.lock();
        let total = state.options.capacity_bytes;
        Ok(Free { available: total.saturating_sub(state.used_bytes()), total })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.shared.state.lock();
        if !state.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = state.life;
        Ok(Box::new(SimLock { shared: Arc::clone(&self.shared), path: path.to_owned(), life }))
    }
}

#[derive(Debug)]
struct SimLock {
    shared: Arc<Shared>,
    path: PathBuf,
    life: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.life == self.life {
            state.locked.remove(&self.path);
        }
    }
}
