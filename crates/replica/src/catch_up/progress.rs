//! How far an install is, to be looked at while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What an install does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallPhase {
    /// It prepares what is here, and looks for a checkpoint over there.
    Preparing = 0,
    /// It pulls index files.
    Index = 1,
    /// It pulls entries of the log.
    Entries = 2,
    /// It pulls the checkpoint.
    Checkpoint = 3,
    /// All is here and durable.
    Done = 4,
}

/// The counters of one install. What is left to pull of the log is an estimate.
#[derive(Debug, Default)]
pub struct InstallProgress {
    phase: AtomicU8,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl InstallProgress {
    #[must_use]
    pub fn phase(&self) -> InstallPhase {
        match self.phase.load(Ordering::Relaxed) {
            1 => InstallPhase::Index,
            2 => InstallPhase::Entries,
            3 => InstallPhase::Checkpoint,
            4 => InstallPhase::Done,
            _ => InstallPhase::Preparing,
        }
    }

    /// Bytes pulled, of the last attempt.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// About what there is to pull, in all.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed).max(self.bytes())
    }

    pub(super) fn begin(&self) {
        self.set_phase(InstallPhase::Preparing);
        self.bytes.store(0, Ordering::Relaxed);
        self.bytes_total.store(0, Ordering::Relaxed);
    }

    pub(super) fn set_phase(&self, phase: InstallPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn set_total(&self, bytes: u64) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
