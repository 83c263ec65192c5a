//! A file system of a few megabytes, to be filled.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::process;

const MOUNT_LIMIT: Duration = Duration::from_secs(20);

/// A tmpfs mount that ends with this value. Needs root.
#[derive(Debug)]
pub struct LimitedDisk {
    folder: TempDir,
}

impl LimitedDisk {
    /// `None` where this user may not mount.
    pub fn mount(megabytes: u32) -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("limited-").tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(folder.path());
        let mounted = process::run(&mut mount, MOUNT_LIMIT).is_ok();
        Ok(mounted.then_some(Self { folder }))
    }

    /// Bytes that are taken.
    pub fn used(&self) -> Result<u64> {
        let space = statvfs(self.folder.path())?;
        Ok((space.f_blocks - space.f_bfree) * space.f_frsize)
    }

    /// Makes it this large, in bytes, at once and without writing anything. Not below what is taken.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(self.folder.path());
        process::run(&mut mount, MOUNT_LIMIT).map(drop)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for LimitedDisk {
    fn drop(&mut self) {
        // Lazily, so that a file still held by a dying process does not keep the mount.
        let _unmounted = process::run(Command::new("umount").arg("-l").arg(self.folder.path()), MOUNT_LIMIT);
    }
}
