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
    /// A segment's frame counts in whatever life of the segment it was written.
    FormerLifeAccepted,
    /// A follower's entries that its leader does not have stay on disk.
    TruncationSkipped,
    /// A leader answers without asking whether it still leads.
    StaleRead,
}

impl Planted {
    /// All of them, with the names by which they are asked for.
    pub const ALL: [(&'static str, Self); 5] = [
        ("ack-before-sync", Self::AckBeforeSync),
        ("vote-not-persisted", Self::VoteNotPersisted),
        ("former-life-accepted", Self::FormerLifeAccepted),
        ("truncation-skipped", Self::TruncationSkipped),
        ("stale-read", Self::StaleRead),
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
