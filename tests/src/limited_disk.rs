//! A file system of a few megabytes, to be filled.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
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
