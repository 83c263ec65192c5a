//! A disk in memory that may lose, tear and reorder whatever was not synced.
//!
//! A seed decides everything: how long operations take, and at [`SimDisk::crash`] which sectors of
//! which unsynced writes are there and which unsynced names. It is harsher than real file systems:
//! a name is durable only after `sync_dir`, and sectors are kept or lost one by one.

mod file;
mod image;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::image::Image;
use crate::random::{Random, SeededRandom};
use crate::time::{self, Duration};
use crate::trace;

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
    /// Writes and syncs that failed by that since the disk was made.
    failures: u64,
    /// When the machine crashes, and who is told.
    crash: Option<(CrashAt, CrashHook)>,
    /// Writes, syncs and changes of names since the disk was made.
    operations: u64,
    /// What the files take that have names, unless one grew or a name changed since that was added up.
    used: Option<u64>,
}

/// The operation at which a disk crashes.
#[derive(Debug, Clone, Copy)]
enum CrashAt {
    /// The one after so many more.
    Operation(u64),
    /// The one after the first write of a file, so many files on.
    Beginning(u64),
}

/// Called when a disk crashes at an operation, before that operation returns its error.
#[derive(Clone)]
struct CrashHook(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for CrashHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrashHook")
    }
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
            failures: 0,
            crash: None,
            operations: 0,
            used: None,
        };
        Self { shared: Arc::new(Shared { random: SeededRandom::new(seed), state: Mutex::new(state) }) }
    }

    /// Stops everything: what was not synced is lost, torn or kept as the seed has it. Files opened
    /// before answer with errors from now on.
    pub fn crash(&self) {
        self.shared.state.lock().crash(&self.shared.random);
    }

    /// Stops the process that uses the disk: files opened before answer with errors from now on, and
    /// nothing is lost.
    pub fn stop(&self) {
        self.shared.state.lock().end_life();
    }

    /// Crashes at the write, sync or change of a name that comes after `operations` more, and calls
    /// `hook` then, unless the disk crashes or is stopped before.
    pub fn crash_after(&self, operations: u64, hook: impl Fn() + Send + Sync + 'static) {
        self.shared.state.lock().crash = Some((CrashAt::Operation(operations), CrashHook(Arc::new(hook))));
    }

    /// As [`Self::crash_after`], but when a file was begun, after `files` more: what it begins with was written then
    /// and is not synced.
    pub fn crash_after_beginning(&self, files: u64, hook: impl Fn() + Send + Sync + 'static) {
        self.shared.state.lock().crash = Some((CrashAt::Beginning(files), CrashHook(Arc::new(hook))));
    }

    /// Writes, syncs and changes of names since the disk was made.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().operations
    }

    /// The files with their lengths, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.shared.state.lock();
        state.names.iter().map(|(path, file)| (path.clone(), state.files[file].len())).collect()
    }

    /// Forgets everything, as a new disk does.
    pub fn wipe(&self) {
        let mut state = self.shared.state.lock();
        state.end_life();
        state.files.clear();
        state.dirs.clear();
        state.names.clear();
        state.durable_names.clear();
        state.pending_names.clear();
        state.used = None;
    }

    /// Changes what the disk does from now on.
    pub fn set_options(&self, change: impl FnOnce(&mut SimDiskOptions)) {
        change(&mut self.shared.state.lock().options);
    }

    /// Lets the write or sync fail that comes after `operations` more; it and all later ones.
    pub fn fail_after(&self, operations: u64) {
        self.shared.state.lock().fail_after = Some(operations);
    }

    /// Writes and syncs that failed by [`Self::fail_after`] since the disk was made.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.state.lock().failures
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
    /// Counts a write, a sync or a change of a name, at which the machine may crash.
    fn operation(&self, kind: &'static str, numbers: &[u64]) -> io::Result<()> {
        let hook = {
            let mut state = self.state.lock();
            state.operations += 1;
            trace::event(kind, numbers);
            let Some((at, hook)) = &mut state.crash else { return Ok(()) };
            match at {
                CrashAt::Operation(0) => {}
                CrashAt::Operation(left) => {
                    *left -= 1;
                    return Ok(());
                }
                CrashAt::Beginning(left) => {
                    if kind == "write" && numbers.get(1) == Some(&0) {
                        *at = left.checked_sub(1).map_or(CrashAt::Operation(0), CrashAt::Beginning);
                    }
                    return Ok(());
                }
            }
            let hook = hook.clone();
            state.crash(&self.random);
            hook
        };
        (hook.0)();
        Err(io::Error::other("the simulated machine crashed"))
    }

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
    fn used_bytes(&mut self) -> u64 {
        let Self { used, names, files, .. } = self;
        *used.get_or_insert_with(|| names.values().map(|file| files[file].len()).sum())
    }

    /// Fails when a file may not grow by `more`.
    fn check_space(&mut self, more: u64) -> io::Result<()> {
        if self.used_bytes().saturating_add(more) > self.options.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if more > 0 {
            self.used = None;
        }
        Ok(())
    }

    /// What was opened before is dead.
    fn end_life(&mut self) {
        self.life += 1;
        self.locked.clear();
        self.fail_after = None;
        self.crash = None;
    }

    fn crash(&mut self, random: &dyn Random) {
        self.end_life();
        let mut names = std::mem::take(&mut self.durable_names);
        for change in self.pending_names.drain(..) {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        let linked: BTreeSet<u64> = names.values().copied().collect();
        self.files.retain(|file, _| linked.contains(file));
        for image in self.files.values_mut() {
            image.crash(random);
        }
        self.names.clone_from(&names);
        self.durable_names = names;
        self.used = None;
    }

    fn count_down(&mut self) -> io::Result<()> {
        match &mut self.fail_after {
            Some(0) => {
                self.failures += 1;
                Err(io::Error::other("input/output error (simulated)"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        trace::note("name", || format!("{change:?}"));
        change.apply(&mut self.names);
        self.used = None;
        self.pending_names.push(change);
    }
}
