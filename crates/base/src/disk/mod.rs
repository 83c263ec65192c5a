//! Files and directories behind traits, so that a simulated disk can lose what was not synced.

#[cfg(feature = "simulation")]
mod gated;
mod real;
#[cfg(feature = "simulation")]
mod sim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;

#[cfg(feature = "simulation")]
pub use gated::GatedDisk;
pub use real::RealDisk;
#[cfg(feature = "simulation")]
pub use sim::{SimDisk, SimDiskOptions};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of open(2)")]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    /// Makes the file when it does not exist.
    pub create: bool,
    /// Fails when the file exists.
    pub create_new: bool,
    pub truncate: bool,
    /// Reads and writes past the page cache. Buffers, positions and lengths MUST be multiples of
    /// [`DIRECT_ALIGNMENT`]. Disks that cannot do it write through the cache instead.
    pub direct: bool,
}

/// Alignment of buffers, positions and lengths of direct reads and writes, in bytes.
pub const DIRECT_ALIGNMENT: usize = 4096;

impl OpenOptions {
    #[must_use]
    pub const fn read() -> Self {
        Self { read: true, write: false, create: false, create_new: false, truncate: false, direct: false }
    }

    #[must_use]
    pub const fn read_write() -> Self {
        Self { write: true, ..Self::read() }
    }

    /// Read and write; fails when the file exists.
    #[must_use]
    pub const fn create_new() -> Self {
        Self { create_new: true, ..Self::read_write() }
    }

    /// Read and write; made when absent, emptied when present.
    #[must_use]
    pub const fn replace() -> Self {
        Self { create: true, truncate: true, ..Self::read_write() }
    }
}

/// What a directory holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    /// Length of a file in bytes; 0 for a directory.
    pub len: u64,
    pub is_dir: bool,
}

/// Space on the file system that holds a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// What this process may still use.
    pub available: u64,
    pub total: u64,
}

/// A file system.
///
/// Every method blocks for as long as the metadata operation takes. A created, renamed or removed
/// name is durable only after [`Disk::sync_dir`] of its directory returned.
pub trait Disk: Send + Sync + Debug {
    /// # Errors
    /// As open(2).
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>>;

    /// Makes a directory and those above it, durable when it returns.
    ///
    /// # Errors
    /// As mkdir(2); a directory that exists is no error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Entries sorted by name. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// As opendir(3).
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Removes a file.
    ///
    /// # Errors
    /// As unlink(2).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As rmdir(2).
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing what `to` names.
    ///
    /// # Errors
    /// As rename(2).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As fsync(2). Such an error MUST stop whoever relies on the names.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    fn exists(&self, path: &Path) -> bool;

    /// # Errors
    /// As statvfs(3).
    fn free_bytes(&self, path: &Path) -> io::Result<Free>;

    /// Takes the lock file `path` (made when absent) until the lock is dropped. An error of kind
    /// `WouldBlock` says that another process holds it.
    ///
    /// # Errors
    /// As open(2) and flock(2).
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// A held lock; dropping it gives it back.
pub trait DirLock: Send + Sync + Debug {}

/// An open file. Positions are bytes from its start.
///
/// Writes and syncs block the calling thread in the real implementation: they belong on a thread of
/// [`crate::task::spawn_thread`] or inside [`crate::task::offload`]. Reads may be awaited anywhere.
/// Nothing happens before the returned future is polled.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync + Debug {
    /// Up to `len` bytes; fewer only at the end of the file.
    fn read_at(&self, position: u64, len: usize) -> BoxFuture<'_, io::Result<BytesMut>>;

    /// Fills `range` of `memory` from `position` on and gives the memory back with the count of bytes
    /// read; fewer than the range only at the end of the file. On a file opened with `direct` the
    /// range's address, its length and the position MUST be multiples of [`DIRECT_ALIGNMENT`].
    fn read_into(
        &self,
        position: u64,
        mut memory: Vec<u8>,
        range: Range<usize>,
    ) -> BoxFuture<'_, io::Result<(Vec<u8>, usize)>> {
        Box::pin(async move {
            let bytes = self.read_at(position, range.len()).await?;
            memory[range.start..range.start + bytes.len()].copy_from_slice(&bytes);
            Ok((memory, bytes.len()))
        })
    }

    /// Writes all buffers one after another, or fails with an unknown part written.
    fn write_at<'a>(&'a self, position: u64, buffers: &'a [IoSlice<'a>]) -> BoxFuture<'a, io::Result<()>>;

    /// Makes all writes that returned before this call durable, and the length they need. An error
    /// MUST NOT be followed by another try: what was not written may be gone from the cache.
    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Makes sure that the range can be read without waiting for the device, as far as the cache
    /// allows, waiting away from the async workers.
    fn warm(&self, position: u64, len: u64) -> BoxFuture<'_, io::Result<()>>;

    /// # Errors
    /// As fstat(2).
    fn len(&self) -> io::Result<u64>;

    /// # Errors
    /// As ftruncate(2).
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes space for the range, which reads as zeros, and extends the file to its end. `StorageFull` when there is none.
    ///
    /// # Errors
    /// As fallocate(2).
    fn allocate(&self, position: u64, len: u64) -> io::Result<()>;

    /// Lets the cache forget the range. Only a hint.
    fn forget(&self, position: u64, len: u64);

    /// For sendfile(2); none in a simulation.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Reads exactly `len` bytes.
///
/// # Errors
/// `UnexpectedEof` when the file ends before that.
pub async fn read_exact_at(file: &dyn File, position: u64, len: usize) -> io::Result<BytesMut> {
    let bytes = file.read_at(position, len).await?;
    if bytes.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
