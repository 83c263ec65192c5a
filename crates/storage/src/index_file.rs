//! The sealed index of a shard: for every seal one file that lists, per stream, the batches of the
//! sealed range of the log and where they lie.
//!
//! Files are read a block at a time through a bounded cache; nothing of them stays in memory
//! otherwise. A stream's entry in a file points back to the file before that has the stream, and by
//! a second pointer far back, so that any offset or time is found in O(log n) files. The format is
//! in `docs/formats/index-file.md`.

mod build;
mod find;
mod format;
mod import;
mod open;
mod parts;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, OpenOptions};
use base::task::offload;
use parking_lot::Mutex;
use record::{BatchEntry, FileNumber, LogIndex, ObjectKey, StreamId, StreamOffset};

use crate::block_cache::BlockCache;
use crate::object::{self, Objects};
use crate::passing::{failed_write, remove_file};
pub(crate) use format::{ENTRY_BYTES, StreamEntry};
pub use import::IndexImport;
use open::OpenFiles;
pub use parts::{Part, Source};
pub(crate) use verify::is_whole;

/// Files kept open for reading.
const OPEN_FILES_MAX: usize = 128;

/// The sealed indexes of one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IndexStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Sizes of the files there are.
    files: Mutex<BTreeMap<u32, u64>>,
    open: OpenFiles,
    cache: BlockCache,
    /// The objects that have the place of files, by the first of these: the last of them, and the object.
    placed: Mutex<BTreeMap<u32, (u32, ObjectKey)>>,
    /// The objects that have the place of what one stream has in files, by the stream and the first of these.
    compacted: Mutex<BTreeMap<(StreamId, u32), (u32, ObjectKey)>>,
    /// Those that are missing, by the stream and the first of the files: the last of them.
    awaited: Mutex<BTreeMap<(StreamId, u32), u32>>,
    objects: Objects,
    /// Files of which a read has found that they are not what was written.
    damaged: Mutex<BTreeSet<u32>>,
}

/// An object, and the files in whose place it has what a stream had in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InPlace {
    first: FileNumber,
    last: FileNumber,
    key: ObjectKey,
    /// Only what lies behind this compacted object counts.
    behind: Option<ObjectKey>,
}

/// The batches of one stream in the range that is being sealed.
#[derive(Debug, Clone)]
pub struct SealedStream {
    pub stream: StreamId,
    /// The newest earlier file that has this stream.
    pub previous: Option<FileNumber>,
    /// The oldest one: those before it may be there or not, and nothing points to them.
    pub oldest: Option<FileNumber>,
    /// In order of offsets; not empty.
    pub batches: Vec<BatchEntry>,
}

impl IndexStore {
    /// Opens the indexes in `dir`, made when absent; half-written ones are removed. At most
    /// `cache_bytes` of the files are kept in memory. What has the place of files is among `objects`.
    ///
    /// # Errors
    /// When files cannot be read.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path, cache_bytes: usize, objects: Objects) -> io::Result<Self> {
        let dir = dir.to_owned();
        offload(async move {
            disk.create_dir_all(&dir)?;
            let mut files = BTreeMap::new();
            for entry in disk.read_dir(&dir)? {
                match parse_name(&entry.name) {
                    Some(number) => {
                        files.insert(number, entry.len);
                    }
                    None if entry.name.ends_with(".new") => disk.remove(&dir.join(&entry.name))?,
                    None => {}
                }
            }
            let open = OpenFiles::new(OPEN_FILES_MAX);
            let cache = BlockCache::new(cache_bytes);
            Ok(Self {
                shared: Arc::new(Shared {
                    disk,
                    dir,
                    files: Mutex::new(files),
                    open,
                    cache,
                    placed: Mutex::default(),
                    compacted: Mutex::default(),
                    awaited: Mutex::default(),
                    objects,
                    damaged: Mutex::default(),
                }),
            })
        })
        .await
    }

    /// From now on an object, which is here and whole, is read in the place of the files from `first` to `last`, and of the objects that
    /// had the place of some.
    ///
    /// # Panics
    /// When it is not here, or has the place of a part of what another one has.
    pub fn place(&self, first: FileNumber, last: FileNumber, key: ObjectKey) {
        assert!(first <= last && self.objects().contains(key), "an object that is here has the place of files");
        let mut placed = self.shared.placed.lock();
        let partly = |(other_first, (other_last, _)): (&u32, &(u32, ObjectKey))| {
            let (begins, ends) = ((first.0..=last.0).contains(other_first), (first.0..=last.0).contains(other_last));
            begins != ends || (!begins && *other_first < first.0 && *other_last > last.0)
        };
        assert!(!placed.range(..=last.0).any(partly), "objects have the place of others as a whole");
        placed.retain(|other, _| !(first.0..=last.0).contains(other));
        placed.insert(first.0, (last.0, key));
    }

    /// The object has no place any more.
    pub fn take_out(&self, first: FileNumber) {
        self.shared.placed.lock().remove(&first.0);
    }

    /// From now on an object, which is here and whole, is read in the place of what a stream has in the files from `first` to `last`,
    /// and of the compacted objects that had the place of some.
    ///
    /// # Panics
    /// When it is not here, or has the place of a part of what another one has.
    pub fn place_compacted(&self, stream: StreamId, first: FileNumber, last: FileNumber, key: ObjectKey) {
        assert!(first <= last && self.objects().contains(key), "an object that is here has the place of files");
        let mut compacted = self.shared.compacted.lock();
        let overlapping: Vec<(u32, u32)> = compacted
            .range((stream, 0)..=(stream, last.0))
            .map(|((_, other), (end, _))| (*other, *end))
            .filter(|(_, end)| *end >= first.0)
            .collect();
        let is_inside = |(other, end): &(u32, u32)| *other >= first.0 && *end <= last.0;
        assert!(overlapping.iter().all(is_inside), "objects have the place of others as a whole");
        for (other, _) in overlapping {
            compacted.remove(&(stream, other));
        }
        compacted.insert((stream, first.0), (last.0, key));
    }

    /// A compacted object has no place any more.
    pub fn take_out_compacted(&self, stream: StreamId, first: FileNumber) {
        self.shared.compacted.lock().remove(&(stream, first.0));
    }

    /// A compacted object is not here: who lacks what a stream has in these files is told so.
    pub fn await_compacted(&self, stream: StreamId, first: FileNumber, last: FileNumber) {
        self.shared.awaited.lock().insert((stream, first.0), last.0);
    }

    /// It is here, or wanted no more.
    pub fn await_compacted_no_more(&self, stream: StreamId, first: FileNumber) {
        self.shared.awaited.lock().remove(&(stream, first.0));
    }

    /// Whether what a stream has in a file is in a compacted object that is missing.
    fn is_awaited(&self, file: FileNumber, stream: StreamId) -> bool {
        let awaited = self.shared.awaited.lock();
        let before = awaited.range((stream, 0)..=(stream, file.0)).next_back();
        before.is_some_and(|(_, last)| file.0 <= *last)
    }

    /// The object in which is what a stream had in a file.
    fn object_at(&self, file: FileNumber, stream: StreamId) -> Option<InPlace> {
        let before = {
            let compacted = self.shared.compacted.lock();
            let before = compacted.range((stream, 0)..=(stream, file.0)).next_back();
            before.map(|((_, first), (last, key))| (*first, *last, *key))
        };
        if let Some((first, last, key)) = before.filter(|(_, last, _)| file.0 <= *last) {
            return Some(InPlace { first: FileNumber(first), last: FileNumber(last), key, behind: None });
        }
        let placed = self.shared.placed.lock();
        let (first, (last, key)) = placed.range(..=file.0).next_back().filter(|(_, (last, _))| file.0 <= *last)?;
        // What the stream had in the files before is compacted, and the object may have it from before that.
        let behind = before.filter(|(_, through, _)| *first <= *through);
        let first = behind.map_or(*first, |(_, through, _)| through + 1);
        let behind = behind.map(|(.., compacted)| compacted);
        Some(InPlace { first: FileNumber(first), last: FileNumber(*last), key: *key, behind })
    }

    /// The objects in which batches are found that have an object's key.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// Whether a read has found that a file is damaged, which is still there.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        !self.shared.damaged.lock().is_empty()
    }

    /// Whether there is a file, or an object in its place.
    fn is_here(&self, file: FileNumber, stream: StreamId) -> bool {
        self.object_at(file, stream).is_some() || self.contains(file)
    }

    /// Where the last compacted object of a stream ends that is read here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn compacted_end(&self, stream: StreamId) -> io::Result<Option<StreamOffset>> {
        let newest = {
            let compacted = self.shared.compacted.lock();
            compacted.range((stream, 0)..=(stream, u32::MAX)).next_back().map(|(_, (_, key))| *key)
        };
        let Some(key) = newest else { return Ok(None) };
        self.end_of(key, stream).await.map(Some)
    }

    /// Where a compacted object ends, which is where the stream did in the files whose place it has.
    async fn end_of(&self, compacted: ObjectKey, stream: StreamId) -> io::Result<StreamOffset> {
        let entry = self.objects().entry(compacted, stream).await?;
        Ok(entry.map_or(StreamOffset(0), |entry| entry.index.next_offset))
    }

    /// What an object has of a stream that counts, and from where on.
    async fn entry_in(
        &self,
        place: InPlace,
        stream: StreamId,
    ) -> io::Result<Option<(object::StreamEntry, StreamOffset)>> {
        let Some(mut entry) = self.objects().entry(place.key, stream).await? else { return Ok(None) };
        let Some(compacted) = place.behind else { return Ok(Some((entry, StreamOffset(0)))) };
        let floor = Box::pin(self.end_of(compacted, stream)).await?;
        // When it was built the way back did not lead there.
        entry.index.previous = entry.index.previous.max(place.first.0 - 1);
        Ok((entry.index.next_offset > floor).then_some((entry, floor)))
    }

    /// What a file, or the object in its place, knows of a stream.
    async fn known(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<StreamEntry>> {
        match self.object_at(file, stream) {
            Some(place) => Ok(self.entry_in(place, stream).await?.map(|(entry, _)| entry.index)),
            None => self.entry(file, stream).await,
        }
    }

    /// Where the files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Files there are, in order.
    #[must_use]
    pub fn files(&self) -> Vec<FileNumber> {
        self.shared.files.lock().keys().copied().map(FileNumber).collect()
    }

    /// Those from `first` to `last`.
    #[must_use]
    pub fn files_within(&self, first: FileNumber, last: FileNumber) -> Vec<FileNumber> {
        self.shared.files.lock().range(first.0..=last.0).map(|(file, _)| FileNumber(*file)).collect()
    }

    #[must_use]
    pub fn contains(&self, file: FileNumber) -> bool {
        self.shared.files.lock().contains_key(&file.0)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.files.lock().values().sum()
    }

    /// Writes the index of `range`; `streams` MUST be sorted by stream. Durable when it returns. A
    /// file that is there already is replaced: sealing the same range gives the same batches.
    ///
    /// # Errors
    /// When the file cannot be written, or an earlier file that a stream names cannot be read.
    pub async fn write(
        &self,
        file: FileNumber,
        range: RangeInclusive<LogIndex>,
        streams: Vec<SealedStream>,
    ) -> io::Result<()> {
        assert!(file.0 > 0, "file numbers start with 1");
        assert!(streams.windows(2).all(|pair| pair[0].stream < pair[1].stream), "streams are sorted");
        let bytes = build::build(self, file, range, &streams).await?;
        let shared = Arc::clone(&self.shared);
        offload(async move {
            let temporary = shared.dir.join(format!("{:010}.new", file.0));
            let path = shared.path(file);
            let opened = shared.disk.open(&temporary, OpenOptions::replace())?;
            opened.write_at(0, &[IoSlice::new(&bytes)]).await.map_err(failed_write)?;
            opened.sync_data().await.map_err(failed_write)?;
            shared.disk.rename(&temporary, &path)?;
            shared.disk.sync_dir(&shared.dir).map_err(failed_write)?;
            shared.forget(file);
            shared.files.lock().insert(file.0, bytes.len() as u64);
            Ok(())
        })
        .await
    }

    /// Removes a file, if it is there; what points to it ends there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, file: FileNumber) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        offload(async move {
            let Some(bytes) = shared.files.lock().remove(&file.0) else { return Ok(()) };
            shared.forget(file);
            let synced = || shared.disk.sync_dir(&shared.dir).map_err(failed_write);
            let removed = remove_file(&*shared.disk, &shared.path(file)).and_then(|()| synced());
            if removed.is_err() {
                // The next call tries again.
                shared.files.lock().insert(file.0, bytes);
            }
            removed
        })
        .await
    }
}

impl Shared {
    fn path(&self, file: FileNumber) -> PathBuf {
        self.dir.join(name(file.0))
    }

    fn forget(&self, file: FileNumber) {
        self.open.forget(file);
        self.cache.forget(file.0.into());
        self.damaged.lock().remove(&file.0);
    }
}

fn name(number: u32) -> String {
    format!("{number:010}.index")
}

fn parse_name(text: &str) -> Option<u32> {
    let number = text.strip_suffix(".index")?.parse().ok()?;
    (number > 0 && name(number) == text).then_some(number)
}

/// The index files in a directory, in order; none if it is not there.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(FileNumber, String)>> {
    let entries = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries?,
    };
    let numbered = entries.into_iter().filter_map(|entry| Some((FileNumber(parse_name(&entry.name)?), entry.name)));
    let mut files: Vec<_> = numbered.collect();
    files.sort_unstable();
    Ok(files)
}

/// Decodes `bytes` as an index file as far as they go, for a fuzz target: must not panic.
#[doc(hidden)]
pub fn fuzz_index_file(bytes: &[u8]) {
    format::fuzz(bytes);
}
