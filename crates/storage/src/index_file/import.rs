//! Index files that come from another node: taken in only when every checksum in them is right.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::disk::{File, OpenOptions, read_exact_at};
use base::task::offload;
use bytes::Bytes;
use record::FileNumber;

use super::{IndexStore, Shared, verify};
use crate::passing::{failed_write, remove_file};

/// Tells two files apart that are brought under one number, one of which was given up.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// An index file that is being brought here. Dropped before [`IndexImport::finish`], it never was.
#[derive(Debug)]
pub struct IndexImport {
    shared: Arc<Shared>,
    number: FileNumber,
    bytes: u64,
    temporary: PathBuf,
    file: Arc<dyn File>,
    position: u64,
}

impl IndexStore {
    /// Bytes of `file`, if it is there.
    #[must_use]
    pub fn size(&self, file: FileNumber) -> Option<u64> {
        self.shared.files.lock().get(&file.0).copied()
    }

    /// Bytes of `file` as they lie on the disk, fewer than `len` only at its end; none when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn raw(&self, file: FileNumber, position: u64, len: usize) -> io::Result<Option<Bytes>> {
        if !self.contains(file) {
            return Ok(None);
        }
        let shared = Arc::clone(&self.shared);
        let path = shared.path(file);
        let opened = match base::task::blocking(move || shared.disk.open(&path, OpenOptions::read())).await {
            Ok(opened) => opened,
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.contains(file) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = opened.read_at(position, len).await?.freeze();
        // Read once, by one: it must not take the place of what others read.
        opened.forget(position, len as u64);
        Ok(Some(bytes))
    }

    /// Starts to bring `file` here, which has so many bytes elsewhere.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn import(&self, file: FileNumber, bytes: u64) -> io::Result<IndexImport> {
        assert!(file.0 > 0, "file numbers start with 1");
        let shared = Arc::clone(&self.shared);
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let temporary = shared.dir.join(format!("{:010}.{attempt}.new", file.0));
        let (disk, path) = (Arc::clone(&shared.disk), temporary.clone());
        let opened = offload(async move { disk.open(&path, OpenOptions::replace()) }).await?;
        Ok(IndexImport { shared, number: file, bytes, temporary, file: opened, position: 0 })
    }
}

impl IndexImport {
    /// Where the next bytes go.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// `InvalidData` when there are more than the file has, else when they cannot be written.
    pub async fn part(&mut self, bytes: Bytes) -> io::Result<()> {
        let (file, at) = (Arc::clone(&self.file), self.position);
        let end = at + bytes.len() as u64;
        if end > self.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an index file is longer than was said"));
        }
        offload(async move { file.write_at(at, &[IoSlice::new(&bytes)]).await.map_err(failed_write) }).await?;
        self.position = end;
        Ok(())
    }

    /// Checks everything in the file, makes it durable and gives it its name. One of that number that is there already
    /// is replaced.
    ///
    /// # Errors
    /// `InvalidData` when it is not whole or not the file of that number, else when it cannot be written.
    pub async fn finish(self) -> io::Result<()> {
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        let (number, bytes, temporary) = (self.number, self.bytes, self.temporary.clone());
        if self.position != bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an index file is shorter than was said"));
        }
        offload(async move {
            let contents = read_exact_at(&*file, 0, usize::try_from(bytes).map_err(io::Error::other)?).await?;
            if !verify::is_whole(&contents, number) {
                let text = format!("the index file {} came damaged", number.0);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            file.sync_data().await.map_err(failed_write)?;
            shared.disk.rename(&temporary, &shared.path(number))?;
            shared.disk.sync_dir(&shared.dir).map_err(failed_write)?;
            shared.forget(number);
            shared.files.lock().insert(number.0, bytes);
            Ok(())
        })
        .await
    }
}

impl Drop for IndexImport {
    fn drop(&mut self) {
        // A file without its final name is removed at the next start as well.
        let _ = remove_file(&*self.shared.disk, &self.temporary);
    }
}
