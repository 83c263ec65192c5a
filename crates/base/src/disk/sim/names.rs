//! The simulated disk's names: what directories hold, and who holds a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::SimFile;
use super::image::Image;
use super::{NameChange, Shared, SimDisk};
use crate::disk::{DirEntry, DirLock, Disk, File, Free, OpenOptions};

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
            state.used = None;
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
        self.shared.operation("remove", &[])?;
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
        self.shared.operation("rename", &[])?;
        let mut state = self.shared.state.lock();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.operation("sync dir", &[])?;
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
        let mut state = self.shared.state.lock();
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
