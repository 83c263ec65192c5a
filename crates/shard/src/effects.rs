//! What applying an entry changed that others wait for or must do something about. Local: the same entry applied again
//! after a restart has the same effects again.

use std::sync::Arc;

use record::{FileNumber, StreamId, StreamOffset};

use crate::objects::PlacedObject;
use crate::outcome::Outcome;
use crate::sealing::SealedIndex;

/// The result of applying one entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// One per command, in order.
    pub outcomes: Vec<Outcome>,
    pub effects: Effects,
}

/// What changed.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order; a stream may be named more than once.
    pub appended: Vec<Growth>,
    pub created: Vec<StreamId>,
    pub deleted: Vec<StreamId>,
    /// They go on on other shards.
    pub closed: Vec<StreamId>,
    /// Indexes to be written as files.
    pub sealed: Vec<Arc<SealedIndex>>,
    /// Index files that no stream needs any more; their ranges of the log are dead.
    pub dead_files: Vec<FileNumber>,
    /// Objects that came and went, in the order in which they did.
    pub objects: Vec<ObjectChange>,
    /// The leader's epoch rose in every stream.
    pub leader_changed: bool,
    /// Something of the metadata group's own state changed.
    pub metadata_changed: bool,
    /// Slots came to this shard or left it.
    pub slots_changed: bool,
    /// Groups whose record or offsets changed.
    pub groups: Vec<Arc<str>>,
}

/// An object came, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// It has the place of ranges, and of objects that had the place of some and are no more.
    Put(PlacedObject),
    /// Nothing in it is wanted any more.
    Gone(PlacedObject),
}

/// A stream has more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub stream: StreamId,
    /// Behind the last record.
    pub next_offset: StreamOffset,
    /// Bytes of the batches that came.
    pub bytes: u64,
}

impl Effects {
    pub(crate) fn appended(&mut self, stream: StreamId, next_offset: StreamOffset, bytes: u64) {
        match self.appended.last_mut() {
            Some(last) if last.stream == stream => {
                last.next_offset = next_offset;
                last.bytes += bytes;
            }
            _ => self.appended.push(Growth { stream, next_offset, bytes }),
        }
    }
}
