//! Objects: what stays of ranges of a shard's log, sorted by stream and offset, each object one file of a store.
//!
//! An object has blocks of data and, behind them, its index, which has a checksum of every block. It is written once,
//! from front to end, and never changes. The format is in `docs/formats/object.md`.

mod build;
mod copy;
mod disk_store;
mod errors;
mod format;
mod parts_writer;
mod read;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use record::{LogIndex, ObjectKey, ShardId};
use tokio::sync::Notify;

use crate::block_cache::BlockCache;
pub use build::{BlockPlace, ObjectSummary, ObjectWriter, StreamStart};
pub use copy::{ObjectBody, ObjectCopy, ObjectIndex};
pub use disk_store::DiskStore;
use errors::io_error;
pub(crate) use format::StreamEntry;
pub use format::{AbortedRange, ObjectId};
use read::OpenObjects;
pub use read::{ObjectStream, READ_BYTES_MAX};
pub use verify::ObjectCheck;

/// The objects of one shard that are here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ObjectStore>,
    dir: Path,
    shard: ShardId,
    /// Sizes of those there are.
    sizes: Mutex<BTreeMap<ObjectKey, u64>>,
    open: OpenObjects,
    /// Parts of the index.
    cache: BlockCache,
    /// Objects in which a read met damage, or that were not there.
    suspects: Mutex<BTreeSet<ObjectKey>>,
    suspected: Notify,
}

impl Objects {
    /// Finds the objects below `dir`; of what else lies there nothing is touched. At most `cache_bytes` of
    /// their indexes are kept in memory.
    ///
    /// # Errors
    /// When the store cannot say what there is.
    pub async fn open(store: Arc<dyn ObjectStore>, dir: Path, shard: ShardId, cache_bytes: usize) -> io::Result<Self> {
        let found: Vec<_> = store.list(Some(&dir)).try_collect().await.map_err(io_error)?;
        let sizes = found.iter().filter_map(|meta| {
            let name = meta.location.prefix_match(&dir)?.next()?;
            Some((parse_name(name.as_ref())?, meta.size))
        });
        let sizes = Mutex::new(sizes.collect());
        let (open, cache) = (OpenObjects::default(), BlockCache::new(cache_bytes));
        let (suspects, suspected) = (Mutex::default(), Notify::new());
        Ok(Self { shared: Arc::new(Shared { store, dir, shard, sizes, open, cache, suspects, suspected }) })
    }

    /// Those there are, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.shared.sizes.lock().keys().copied().collect()
    }

    #[must_use]
    pub fn contains(&self, key: ObjectKey) -> bool {
        self.size(key).is_some()
    }

    /// Bytes of an object.
    #[must_use]
    pub fn size(&self, key: ObjectKey) -> Option<u64> {
        self.shared.sizes.lock().get(&key).copied()
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.sizes.lock().values().sum()
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self, key: ObjectKey) -> String {
        name(key)
    }

    /// Begins an object of this shard, which is here when [`Self::finish`] returned.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn begin(&self, id: ObjectId) -> io::Result<ObjectWriter> {
        assert_eq!(id.shard, self.shared.shard, "an object is of its shard");
        ObjectWriter::begin(&*self.shared.store, &self.location(id.key), id).await
    }

    /// Ends an object that was begun here; it is durable then.
    ///
    /// # Errors
    /// When it cannot be written: it is not here then.
    pub async fn finish(&self, writer: ObjectWriter) -> io::Result<ObjectSummary> {
        let summary = writer.finish().await?;
        self.is_here(summary.id.key, summary.bytes);
        Ok(summary)
    }

    /// The objects in which reads met damage since the last call, or that were not where they should be.
    #[must_use]
    pub fn take_suspects(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut *self.shared.suspects.lock())
    }

    /// Returns when there is one that was not taken.
    pub async fn suspected(&self) {
        while self.shared.suspects.lock().is_empty() {
            self.shared.suspected.notified().await;
        }
    }

    /// What was met in an object is known.
    pub fn forget_suspect(&self, key: ObjectKey) {
        self.shared.suspects.lock().remove(&key);
    }

    /// Whether that is news.
    fn suspect(&self, key: ObjectKey) -> bool {
        let is_news = self.contains(key) && self.shared.suspects.lock().insert(key);
        if is_news {
            self.shared.suspected.notify_one();
        }
        is_news
    }

    fn is_here(&self, key: ObjectKey, bytes: u64) {
        self.forget(key);
        self.shared.sizes.lock().insert(key, bytes);
    }

    /// Bytes of an object as they lie there, of one that is not damaged `len`, fewer only at its end; none when it is not here.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn raw(&self, key: ObjectKey, position: u64, len: u64) -> io::Result<Option<Bytes>> {
        let Some(size) = self.size(key) else { return Ok(None) };
        let range = position.min(size)..position.saturating_add(len).min(size);
        match self.read(key, range).await {
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.contains(key) => Ok(None),
            read => read.map(Some),
        }
    }

    /// Removes an object, if it is here.
    ///
    /// # Errors
    /// When it cannot be removed; it is here then.
    pub async fn remove(&self, key: ObjectKey) -> io::Result<()> {
        let Some(bytes) = self.shared.sizes.lock().remove(&key) else { return Ok(()) };
        self.forget(key);
        match self.shared.store.delete(&self.location(key)).await.map_err(io_error) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The next call tries again.
                self.shared.sizes.lock().insert(key, bytes);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// What the object is of, and between which indexes of the log it lay.
    ///
    /// # Errors
    /// `NotFound` when it is not here, `InvalidData` when it is damaged.
    pub async fn origin(&self, key: ObjectKey) -> io::Result<(ObjectId, RangeInclusive<LogIndex>)> {
        let open = self.open_object(key).await?;
        Ok((open.trailer.id, open.trailer.from..=open.trailer.through))
    }

    fn forget(&self, key: ObjectKey) {
        self.shared.open.forget(key);
        self.shared.cache.forget(key.0);
        self.forget_suspect(key);
    }

    fn location(&self, key: ObjectKey) -> Path {
        self.shared.dir.clone().join(name(key))
    }

    fn missing(&self, key: ObjectKey) -> io::Error {
        let text = format!("the object {} is missing", self.location(key));
        io::Error::new(io::ErrorKind::NotFound, text)
    }

    fn damaged(&self, key: ObjectKey) -> io::Error {
        let text = format!("the object {} is damaged", self.location(key));
        // Whoever looks at suspects is told once.
        if self.suspect(key) {
            tracing::error!("{text}");
        }
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

fn name(key: ObjectKey) -> String {
    format!("{:016x}.object", key.0)
}

fn parse_name(text: &str) -> Option<ObjectKey> {
    let key = ObjectKey(u64::from_str_radix(text.strip_suffix(".object")?, 16).ok()?);
    (key.0 > 0 && name(key) == text).then_some(key)
}

/// Decodes `bytes` as parts of an object, for a fuzz target: must not panic.
#[doc(hidden)]
pub fn fuzz_object(bytes: &[u8]) {
    format::fuzz(bytes);
}
