//! A directory as an object store: the library's own implementation goes past the simulated disk.
//!
//! What was put is durable before it has its name, and its name before the call returns. Objects never change, so
//! nothing here has versions. An error of a write or a sync comes back as it was: see [`crate::is_lasting`].

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use base::disk::{DirEntry, Disk, File, OpenOptions};
use base::planted::{Planted, is_planted};
use base::task::offload;
use bytes::Bytes;
use chrono::DateTime;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

use parking_lot::Mutex;

use crate::passing::{failed_write, remove_file};

const STORE: &str = "directory";
/// The most that is read at once for a stream.
const READ_BYTES: u64 = 1 << 20;
/// Files kept open for reading.
const OPEN_FILES_MAX: usize = 128;
/// Names of files that are being written end so.
const UNFINISHED: &str = ".new";

/// The files below a directory.
#[derive(Debug, Clone)]
pub struct DiskStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Distinguishes files that are being written.
    uploads: AtomicU64,
    /// Open for reading, first in first out.
    open: Mutex<VecDeque<(Path, Arc<dyn File>)>>,
}

impl DiskStore {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self { shared: Arc::new(Shared { disk, root, uploads: AtomicU64::new(0), open: Mutex::default() }) }
    }

    /// Removes what was not written to its end below a directory.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub async fn remove_unfinished(&self, below: &Path) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let below = below.clone();
        offload(async move {
            let dir = shared.path(&below);
            let entries = shared.entries(&below)?.into_iter();
            entries
                .filter(|entry| !entry.is_dir && entry.name.ends_with(UNFINISHED))
                .try_for_each(|entry| remove_file(&*shared.disk, &dir.join(&entry.name)))
        })
        .await
    }

    async fn file(&self, location: &Path) -> Result<(Arc<dyn File>, ObjectMeta)> {
        let known =
            self.shared.open.lock().iter().find(|(other, _)| other == location).map(|(_, file)| Arc::clone(file));
        if let Some(file) = known {
            let size = file.len().map_err(|error| failed(location, error))?;
            return Ok((file, meta(location.clone(), size)));
        }
        let (shared, location) = (Arc::clone(&self.shared), location.clone());
        offload(async move {
            let opened = shared.disk.open(&shared.path(&location), OpenOptions::read());
            let file = opened.map_err(|error| failed(&location, error))?;
            // A directory can be opened, too.
            let is_file = file.read_at(0, 1).await.map_err(|error| match error.kind() {
                io::ErrorKind::IsADirectory => io::Error::new(io::ErrorKind::NotFound, error),
                _ => error,
            });
            is_file.map_err(|error| failed(&location, error))?;
            let size = file.len().map_err(|error| failed(&location, error))?;
            let mut open = shared.open.lock();
            if open.len() >= OPEN_FILES_MAX {
                open.pop_front();
            }
            open.push_back((location.clone(), Arc::clone(&file)));
            Ok((file, meta(location, size)))
        })
        .await
    }

    async fn upload(&self, location: &Path) -> Result<Upload> {
        let (shared, location) = (Arc::clone(&self.shared), location.clone());
        offload(async move {
            let path = shared.path(&location);
            let number = shared.uploads.fetch_add(1, Ordering::Relaxed);
            let unfinished = path.with_added_extension(format!("{number}{UNFINISHED}"));
            let dir = path.parent().expect("an object has a name");
            let create = || {
                shared.disk.create_dir_all(dir)?;
                shared.disk.open(&unfinished, OpenOptions::replace())
            };
            let file = create().map_err(|error| failed(&location, error))?;
            Ok(Upload { shared, location, path, unfinished, file, position: 0, ended: false })
        })
        .await
    }
}

impl Shared {
    fn path(&self, location: &Path) -> PathBuf {
        location.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }

    /// What lies there is gone, or another file.
    fn forget(&self, location: &Path) {
        self.open.lock().retain(|(other, _)| other != location);
    }

    /// What a directory has; nothing if it is none.
    fn entries(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        match self.disk.read_dir(&self.path(dir)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            entries => entries,
        }
    }

    /// Everything below a directory, in the order of the names.
    fn list(&self, below: &Path, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
        for entry in self.entries(below)? {
            let Some(location) = child(below, &entry.name) else { continue };
            if entry.is_dir {
                self.list(&location, found)?;
            } else if !entry.name.ends_with(UNFINISHED) {
                found.push(meta(location, entry.len));
            }
        }
        Ok(())
    }
}

/// What a name in a directory is called; none that no object can have.
fn child(below: &Path, name: &str) -> Option<Path> {
    let below = below.as_ref();
    Path::parse(if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }).ok()
}

fn meta(location: Path, size: u64) -> ObjectMeta {
    // No time: nobody asks for it, and the clock is not the disk's.
    ObjectMeta { location, last_modified: DateTime::UNIX_EPOCH, size, e_tag: None, version: None }
}

fn failed(location: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path: location.to_string(), source: error.into() },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: location.to_string(), source: error.into() },
        _ => Error::Generic { store: STORE, source: error.into() },
    }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

impl fmt::Display for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE} {}", self.shared.root.display())
    }
}

/// A file on its way; without an end it leaves nothing.
#[derive(Debug)]
struct Upload {
    shared: Arc<Shared>,
    location: Path,
    path: PathBuf,
    unfinished: PathBuf,
    file: Arc<dyn File>,
    /// Where the next part goes.
    position: u64,
    ended: bool,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, location, position) = (Arc::clone(&self.file), self.location.clone(), self.position);
        let len = data.content_length() as u64;
        self.position += len;
        Box::pin(async move {
            let written = offload(async move {
                let slices: Vec<IoSlice<'_>> = data.iter().map(|bytes| IoSlice::new(bytes)).collect();
                file.write_at(position, &slices).await?;
                // Little at a time: others wait for this disk, too. And nobody reads it soon.
                if !is_planted(Planted::ObjectNotSynced) {
                    file.sync_data().await?;
                }
                file.forget(position, len);
                Ok(())
            });
            written.await.map_err(|error| failed(&location, failed_write(error)))
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        let (path, unfinished) = (self.path.clone(), self.unfinished.clone());
        let completed = offload(async move {
            if !is_planted(Planted::ObjectNotSynced) {
                file.sync_data().await.map_err(failed_write)?;
            }
            shared.disk.rename(&unfinished, &path)?;
            shared.disk.sync_dir(path.parent().expect("an object has a name")).map_err(failed_write)
        });
        let completed = completed.await;
        self.shared.forget(&self.location);
        completed.map_err(|error| failed(&self.location, error))?;
        self.ended = true;
        Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() })
    }

    async fn abort(&mut self) -> Result<()> {
        self.ended = true;
        let (shared, unfinished) = (Arc::clone(&self.shared), self.unfinished.clone());
        let removed = offload(async move { remove_file(&*shared.disk, &unfinished) }).await;
        removed.map_err(|error| failed(&self.location, error))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.ended {
            // The next start removes what is left now.
            let _ = self.shared.disk.remove(&self.unfinished);
        }
    }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Overwrite => {}
            PutMode::Create => {
                if self.file(location).await.is_ok() {
                    return Err(failed(location, io::ErrorKind::AlreadyExists.into()));
                }
            }
            PutMode::Update(_) => return Err(not_implemented("a conditional put")),
        }
        let mut upload = self.upload(location).await?;
        upload.put_part(payload).await?;
        upload.complete().await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.upload(location).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            // What lies there now is asked for, not what did when it was opened.
            self.shared.forget(location);
        }
        let (file, meta) = self.file(location).await?;
        options.check_preconditions(&meta)?;
        let wanted = options.range.as_ref().map(|range| range.as_range(meta.size)).transpose();
        let wanted = wanted.map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })?;
        let range = wanted.unwrap_or(0..meta.size);
        let read_to = if options.head { range.start } else { range.end };
        let pieces = stream::unfold(range.start, {
            let location = location.clone();
            move |at| read_piece(Arc::clone(&file), location.clone(), at, read_to)
        });
        let payload = GetResultPayload::Stream(pieces.fuse().boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default(), extensions: Extensions::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (file, _) = self.file(location).await?;
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            found.push(read(&*file, range.clone()).await.map_err(|error| failed(location, error))?);
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let shared = Arc::clone(&self.shared);
        let deleted = locations.then(move |location| {
            let shared = Arc::clone(&shared);
            async move {
                let location = location?;
                let path = shared.path(&location);
                let disk = Arc::clone(&shared.disk);
                let removed = offload(async move {
                    disk.remove(&path)?;
                    disk.sync_dir(path.parent().expect("an object has a name")).map_err(failed_write)
                });
                let removed = removed.await;
                // Afterwards: somebody may have opened it meanwhile.
                shared.forget(&location);
                removed.map_err(|error| failed(&location, error))?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (shared, below) = (Arc::clone(&self.shared), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let mut found = Vec::new();
            let listed = base::task::blocking(move || shared.list(&below, &mut found).map(|()| found)).await;
            stream::iter(match listed {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(Error::Generic { store: STORE, source: error.into() })],
            })
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (shared, below) = (Arc::clone(&self.shared), prefix.cloned().unwrap_or_default());
        let listed = base::task::blocking(move || {
            let (mut common_prefixes, mut objects) = (Vec::new(), Vec::new());
            for entry in shared.entries(&below)? {
                let Some(location) = child(&below, &entry.name) else { continue };
                if entry.is_dir {
                    common_prefixes.push(location);
                } else if !entry.name.ends_with(UNFINISHED) {
                    objects.push(meta(location, entry.len));
                }
            }
            Ok::<_, io::Error>(ListResult { common_prefixes, objects, extensions: Extensions::default() })
        });
        listed.await.map_err(|error| Error::Generic { store: STORE, source: error.into() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let (file, meta) = self.file(from).await?;
        if mode == PutMode::Create && self.file(to).await.is_ok() {
            return Err(failed(to, io::ErrorKind::AlreadyExists.into()));
        }
        let mut upload = self.upload(to).await?;
        let mut at = 0;
        while at < meta.size {
            let piece = read(&*file, at..meta.size.min(at + READ_BYTES)).await.map_err(|error| failed(from, error))?;
            at += piece.len() as u64;
            upload.put_part(piece.into()).await?;
        }
        upload.complete().await.map(drop)
    }
}

/// All of a range: objects never change, so one that ends before is not what was listed.
async fn read(file: &dyn File, range: Range<u64>) -> io::Result<Bytes> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| io::ErrorKind::InvalidInput)?;
    base::disk::read_exact_at(file, range.start, len).await.map(bytes::BytesMut::freeze)
}

async fn read_piece(file: Arc<dyn File>, location: Path, at: u64, to: u64) -> Option<(Result<Bytes>, u64)> {
    let end = to.min(at + READ_BYTES);
    if at >= end {
        return None;
    }
    match read(&*file, at..end).await {
        Ok(bytes) => Some((Ok(bytes), end)),
        // Nothing behind an error.
        Err(error) => Some((Err(failed(&location, error)), to)),
    }
}
