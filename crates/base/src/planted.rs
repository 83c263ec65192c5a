//! Faults that are planted on purpose, so that a test can show that it finds them. Without the feature
//! `planted` none is ever there, which the compiler sees.

#[cfg(feature = "planted")]
use std::cell::Cell;

/// What may be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The commit log says that entries are durable before they are synced.
    AckBeforeSync,
    /// A vote is told before it is written.
    VoteNotPersisted,
    /// A segment does not begin with the votes: they go with the segment in which they stand.
    VoteInRecycledSegment,
    /// What a segment holds counts in whatever life of its file it was written.
    FormerLifeAccepted,
    /// A follower's entries that its leader does not have stay, and count as the leader's.
    TruncationSkipped,
    /// A leader answers without asking whether it still leads.
    StaleRead,
    /// An entry that is not committed soon is proposed again.
    EntryProposedTwice,
    /// A replica that was brought here runs before the data is here that its state refers to.
    SnapshotBeforeData,
    /// A segment is used again although somebody still reads it.
    RecycledUnderReader,
    /// An object has its name, and what it replaced goes, before it is synced.
    ObjectNotSynced,
    /// What an object replaced goes on every node as soon as the state names the object, which may not be there yet.
    RangeFreedEarly,
    /// Compaction drops a record without a value as soon as it meets it, when what that deletes may still be there.
    DeleteDroppedEarly,
    /// The change of the list of objects that a command makes is applied twice.
    ObjectPutTwice,
}

impl Planted {
    /// All of them, with the names by which they are asked for.
    pub const ALL: [(&'static str, Self); 13] = [
        ("ack-before-sync", Self::AckBeforeSync),
        ("vote-not-persisted", Self::VoteNotPersisted),
        ("vote-in-recycled-segment", Self::VoteInRecycledSegment),
        ("former-life-accepted", Self::FormerLifeAccepted),
        ("truncation-skipped", Self::TruncationSkipped),
        ("stale-read", Self::StaleRead),
        ("entry-proposed-twice", Self::EntryProposedTwice),
        ("snapshot-before-data", Self::SnapshotBeforeData),
        ("recycled-under-reader", Self::RecycledUnderReader),
        ("object-not-synced", Self::ObjectNotSynced),
        ("range-freed-early", Self::RangeFreedEarly),
        ("delete-dropped-early", Self::DeleteDroppedEarly),
        ("object-put-twice", Self::ObjectPutTwice),
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Plants a fault in everything that runs on the calling thread.
#[cfg(feature = "planted")]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}

/// Whether that fault is there.
#[must_use]
#[inline]
pub fn is_planted(fault: Planted) -> bool {
    #[cfg(feature = "planted")]
    return PLANTED.get() == Some(fault);
    #[cfg(not(feature = "planted"))]
    {
        let _ = fault;
        false
    }
}
