//! Bodies on their way from the log, or from other objects, into an object: they are wanted stream by stream, and lie in the log
//! as they came.
//!
//! As many as fit a window are taken together, and read in the order of the log, each entry once for all of them. So the log
//! behind an object of so many windows is read so many times, however many streams share it. What lies in objects is in the
//! right order already.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use record::{BatchEntry, Extent, LogIndex, ObjectKey};
use storage::Slice;

use crate::core::Core;

/// Bytes of a window, unless a single body has more.
const WINDOW_BYTES: usize = 64 << 20;
/// Pieces of bodies in a window.
const WINDOW_PIECES: usize = 128 << 10;
/// Entries that are read at the same time.
const READS_IN_FLIGHT: usize = 4;

/// What is read together.
#[derive(Debug, Default)]
pub(super) struct Window {
    wanted: Vec<Wanted>,
    bytes: usize,
}

/// A piece of a body, and where it is put.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// It lies in a block of this object, not in an entry of the log.
    object: Option<ObjectKey>,
    extent: Extent,
    at: usize,
}

impl Wanted {
    /// What is read together.
    fn whole(&self) -> (Option<ObjectKey>, LogIndex) {
        (self.object, self.extent.log_index)
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Gathered {
    /// All bodies; zeros stand for what could not be read.
    pub(super) bytes: Bytes,
    /// Why something could not be read.
    pub(super) error: Option<io::Error>,
}

impl Window {
    /// Adds a body; where it will be.
    pub(super) fn add(&mut self, batch: &BatchEntry) -> Range<usize> {
        let from = self.bytes;
        for extent in batch.extents() {
            self.wanted.push(Wanted { object: batch.object, extent, at: self.bytes });
            self.bytes += extent.bytes as usize;
        }
        from..self.bytes
    }

    /// Leaves room for what is not here.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.wanted.len() >= WINDOW_PIECES
    }

    /// Whether so much more is too much.
    pub(super) fn would_overflow(&self, bytes: usize) -> bool {
        self.bytes > 0 && self.bytes + bytes > WINDOW_BYTES
    }

    /// Reads all that was added.
    ///
    /// # Errors
    /// When there is no room to write it anywhere.
    pub(super) async fn read(&mut self, core: &Core) -> io::Result<Gathered> {
        core.check_room()?;
        let Self { mut wanted, bytes } = std::mem::take(self);
        wanted.sort_unstable_by_key(|wanted| (wanted.whole(), wanted.extent.position));
        let mut entries = wanted.chunk_by(|one, two| one.whole() == two.whole());
        let mut gathered = vec![0; bytes];
        let mut error = None;
        let mut reads = FuturesUnordered::new();
        loop {
            while reads.len() < READS_IN_FLIGHT
                && let Some(pieces) = entries.next()
            {
                reads.push(read_entry(core, pieces));
            }
            let Some((pieces, read)) = reads.next().await else { break };
            match read {
                Ok((from, slice)) => {
                    for Wanted { extent, at, .. } in pieces {
                        let position = (extent.position - from) as usize;
                        let length = extent.bytes as usize;
                        gathered[*at..at + length].copy_from_slice(&slice.bytes()[position..position + length]);
                    }
                }
                Err(failed) => error = Some(failed),
            }
        }
        Ok(Gathered { bytes: Bytes::from(gathered), error })
    }
}

/// Reads what of one entry, or of one block, has all of `pieces`, which are in order; and where in the entry that begins.
async fn read_entry<'a>(core: &Core, pieces: &'a [Wanted]) -> (&'a [Wanted], io::Result<(u32, Slice)>) {
    let end = |extent: &Extent| extent.position.checked_add(extent.bytes);
    let from = pieces[0].extent.position;
    let to = pieces.iter().map(|wanted| end(&wanted.extent)).max().flatten();
    let read = async {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the log gave fewer bytes than the index names");
        let index: LogIndex = pieces[0].extent.log_index;
        let to = to.ok_or_else(damaged)?;
        if let Some(key) = pieces[0].object {
            let block = u32::try_from(index.0).ok().filter(|block| *block < u32::MAX).ok_or_else(damaged)?;
            let block = core.index.objects().blocks(key, block..block + 1).await?.swap_remove(0);
            let is_inside = to as usize <= block.bytes().len();
            return is_inside.then_some((0, block)).ok_or_else(damaged);
        }
        let _reading = core.log.reading().await;
        let slice = core.log.read(index, from..to).await?.into_slice().await?;
        if slice.bytes().len() == (to - from) as usize { Ok((from, slice)) } else { Err(damaged()) }
    };
    (pieces, read.await)
}
