//! Reading checkpoints: at a start, and for another node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, File, OpenOptions};
use base::task::offload;
use bytes::Bytes;

use super::file::{self, Reader};
use super::{CheckpointStore, Stored};
use crate::types::LogId;

impl CheckpointStore {
    /// The newest chain that is whole, base first. Every checksum is looked at before this returns.
    ///
    /// # Errors
    /// `InvalidData` when there are checkpoints and no base among them is whole.
    pub async fn load(&self) -> io::Result<Option<Loaded>> {
        let chain = self.shared.state.lock().chain.clone();
        let disk = Arc::clone(&self.shared.disk);
        let dir = self.shared.dir.clone();
        let loaded = offload(async move {
            let mut files: Vec<(Stored, Arc<dyn File>)> = Vec::new();
            let mut damaged = Vec::new();
            for stored in chain {
                let file = disk.open(&stored.path, OpenOptions::read())?;
                if !file::is_whole(&file, &stored.header).await? {
                    tracing::error!(path = %stored.path.display(), "a damaged checkpoint is passed over");
                    damaged.push(stored.path.clone());
                    break;
                }
                files.push((stored, file));
            }
            if files.is_empty() && !(damaged.is_empty() && no_checkpoint(&*disk, &dir)?) {
                let text = format!("no base checkpoint in {} is whole", dir.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Ok((files, damaged))
        })
        .await?;
        let (files, damaged) = loaded;
        let Some((newest, _)) = files.last() else { return Ok(None) };
        let at = newest.header.at;
        let used = files.len();
        let bytes = files.iter().map(|(stored, _)| stored.bytes).sum();
        let readers = files.into_iter().map(|(stored, file)| Reader::new(file, stored.header)).collect();
        // The next delta goes on what could be read.
        self.shared.state.lock().chain.truncate(used);
        Ok(Some(Loaded { at, bytes, damaged, readers }))
    }

    /// The newest chain, to be read beside its writer: what replaces it does not disturb that. A checksum is looked at
    /// when its chunk is read. None when there is no chain, or it was replaced while it was opened.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub async fn open_chain(&self) -> io::Result<Option<Loaded>> {
        let chain = self.shared.state.lock().chain.clone();
        let Some(at) = chain.last().map(|newest| newest.header.at) else { return Ok(None) };
        let disk = Arc::clone(&self.shared.disk);
        let open = move || {
            let mut readers = Vec::with_capacity(chain.len());
            let mut bytes = 0;
            for stored in chain {
                match disk.open(&stored.path, OpenOptions::read()) {
                    Ok(file) => readers.push(Reader::new(file, stored.header)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
                bytes += stored.bytes;
            }
            Ok(Some(Loaded { at, bytes, damaged: Vec::new(), readers }))
        };
        base::task::blocking(open).await
    }
}

fn no_checkpoint(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    Ok(disk.read_dir(dir)?.iter().all(|entry| file::parse_name(&entry.name).is_none()))
}

/// The chain of checkpoints to restore from.
#[derive(Debug)]
pub struct Loaded {
    /// Up to which entry it goes.
    pub at: LogId,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that were damaged and passed over.
    pub damaged: Vec<PathBuf>,
    readers: Vec<Reader>,
}

impl Loaded {
    /// The next chunk, of the base first and then of each delta in order.
    ///
    /// # Errors
    /// `InvalidData` when the file changed since it was checked.
    pub async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(reader) = self.readers.first_mut() {
            if let Some(chunk) = reader.next().await? {
                return Ok(Some(chunk));
            }
            self.readers.remove(0);
        }
        Ok(None)
    }
}
