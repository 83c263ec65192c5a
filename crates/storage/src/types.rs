//! What the log stores, in words that no consensus library owns.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use record::{LogIndex, NodeId, Term};
use smallvec::SmallVec;

/// The place of an entry in the history of a shard. Ordered by term, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    pub term: Term,
    pub index: LogIndex,
}

/// Whom this node voted for in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    pub term: Term,
    pub node_id: NodeId,
    /// Whether a quorum is known to have granted it.
    pub committed: bool,
}

impl Vote {
    /// Votes only rise: by term, then from granted to committed.
    #[must_use]
    pub fn may_follow(&self, before: &Self) -> bool {
        (self.term, self.committed) >= (before.term, before.committed)
    }
}

/// What an entry is. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A leader's first entry; no payload.
    Blank = 0,
    /// A change of the shard's members.
    Membership = 1,
    /// Commands of the state machine.
    Commands = 2,
}

impl EntryKind {
    /// The kind that is stored as `number`.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blank),
            1 => Some(Self::Membership),
            2 => Some(Self::Commands),
            _ => None,
        }
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }
}

/// One entry of a shard's log. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: LogId,
    pub kind: EntryKind,
    pub payload: Payload,
}

/// What is known of an entry without reading its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMeta {
    pub id: LogId,
    pub kind: EntryKind,
    pub payload_bytes: u32,
}

/// The buffers of one payload.
pub type Buffers = SmallVec<[Bytes; 2]>;

/// Bytes in several buffers, so that what came from a socket reaches the file without being joined.
/// Cheap to clone. Equal when the bytes are, however they are cut.
///
/// Whoever keeps payloads counts their length. What a buffer keeps alive is not known to it, so
/// whoever makes one from slices of something larger sees to it that they are at least half of that,
/// or takes [`Payload::detached`]: then what is counted is at least half of the memory in use.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    buffers: Buffers,
    len: usize,
}

impl Payload {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn buffers(&self) -> &[Bytes] {
        &self.buffers
    }

    /// The same bytes in one buffer of their size: nothing larger is kept alive by it.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self.buffers.as_slice() {
            [only] => Self::from(Bytes::copy_from_slice(only)),
            _ => Self::from(self.to_bytes()),
        }
    }

    /// The part in `range`, without copying.
    ///
    /// # Panics
    /// When the range exceeds the payload.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "a slice lies within its payload");
        let mut buffers = Buffers::new();
        let mut start = 0;
        for buffer in &self.buffers {
            let end = start + buffer.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                buffers.push(buffer.slice(from - start..to - start));
            }
            start = end;
        }
        Self { buffers, len: range.len() }
    }

    /// All bytes in one buffer; copies only when there are several.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.buffers.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            several => {
                let mut joined = BytesMut::with_capacity(self.len);
                for buffer in several {
                    joined.extend_from_slice(buffer);
                }
                joined.freeze()
            }
        }
    }

    #[must_use]
    pub fn into_buffers(self) -> Buffers {
        self.buffers
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(buffers: I) -> Self {
        let buffers: Buffers = buffers.into_iter().filter(|buffer| !buffer.is_empty()).collect();
        let len = buffers.iter().map(Bytes::len).sum();
        Self { buffers, len }
    }
}

impl From<Bytes> for Payload {
    fn from(buffer: Bytes) -> Self {
        std::iter::once(buffer).collect()
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(buffers: Vec<Bytes>) -> Self {
        buffers.into_iter().collect()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.buffers.iter().flatten().eq(other.buffers.iter().flatten())
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_crosses_buffers() {
        let payload: Payload = [&b"abc"[..], b"", b"defg"].into_iter().map(Bytes::from_static).collect();
        assert_eq!(payload.len(), 7);
        assert_eq!(payload.slice(2..5).to_bytes(), "cde");
        assert_eq!(payload.slice(3..3).to_bytes(), "");
        assert_eq!(payload, Payload::from(Bytes::from_static(b"abcdefg")));
    }

    #[test]
    fn a_detached_payload_is_no_part_of_what_it_was_cut_from() {
        let large = Bytes::from(vec![7; 1_000]);
        let range = large.as_ptr_range();
        for payload in
            [Payload::from(large.slice(10..20)), [large.slice(1..3), large.slice(5..9)].into_iter().collect()]
        {
            let detached = payload.detached();
            assert_eq!(detached, payload);
            assert!(detached.buffers().iter().all(|buffer| !range.contains(&buffer.as_ptr())));
        }
    }

    #[test]
    fn votes_only_rise() {
        let vote = |term, committed| Vote { term: Term(term), node_id: NodeId(1), committed };
        assert!(vote(2, false).may_follow(&vote(1, true)));
        assert!(vote(1, true).may_follow(&vote(1, false)));
        assert!(!vote(1, false).may_follow(&vote(1, true)));
    }
}
