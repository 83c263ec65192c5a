//! A disk whose writes wait while its gate is closed.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{DirEntry, DirLock, Disk, File, Free, OpenOptions, RealDisk};

/// The operating system's file systems, behind a gate that is open at first.
#[derive(Debug, Clone)]
pub struct GatedDisk(watch::Sender<bool>);

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    open: watch::Receiver<bool>,
}

impl Default for GatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl GatedDisk {
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    /// Writes wait from now on.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// Lets go on what waits, and all that comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, options)?;
        Ok(Arc::new(GatedFile { file, open: self.0.subscribe() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.read_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<Free> {
        RealDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        RealDisk.lock(path)
    }
}

impl File for GatedFile {
    fn read_at(&self, position: u64, len: usize) -> BoxFuture<'_, io::Result<BytesMut>> {
        self.file.read_at(position, len)
    }

    fn write_at<'a>(&'a self, position: u64, buffers: &'a [IoSlice<'a>]) -> BoxFuture<'a, io::Result<()>> {
        let mut open = self.open.clone();
        Box::pin(async move {
            // A disk that is gone is open.
            let _ = open.wait_for(|open| *open).await;
            self.file.write_at(position, buffers).await
        })
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        self.file.sync_data()
    }

    fn warm(&self, position: u64, len: u64) -> BoxFuture<'_, io::Result<()>> {
        self.file.warm(position, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.allocate(position, len)
    }

    fn forget(&self, position: u64, len: u64) {
        self.file.forget(position, len);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}
