//! What clients ask of a broker in a run, one request each.

use crate::wire::FullRecord;
use crate::wire::changes::Operation;

/// One request, the same for every broker.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        topic: String,
        partitions: i32,
        copies: i16,
        configs: Vec<(String, String)>,
    },
    Delete {
        topic: String,
    },
    Alter {
        topic: String,
        operations: Vec<Operation>,
        is_asked: bool,
    },
    Produce {
        to: Place,
        records: Vec<FullRecord>,
        is_compressed: bool,
        by: Option<Writing>,
    },
    DeleteRecords {
        of: Place,
        before: i64,
    },
    /// By time, or -1, -2, -3 for the end, the beginning and the largest timestamp.
    Find {
        of: Place,
        timestamp: i64,
    },
    /// One fetch at an offset.
    Fetch {
        of: Place,
        offset: i64,
    },
    /// All records there are.
    Read {
        of: Place,
    },
    /// The keys that are set on a topic.
    Describe {
        topic: String,
    },
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
}

/// A batch of an idempotent producer; each broker has given it an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    pub(super) producer: usize,
    pub(super) sequence: i32,
}

/// What a broker answers; equal where clients can't tell one broker from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Error(i16),
    Done,
    /// Where a batch begins, how far a partition was deleted.
    Offset(i64),
    Found {
        timestamp: i64,
        offset: i64,
    },
    Records(Vec<FullRecord>),
    Configs(Vec<(String, String)>),
}

impl Answer {
    /// What belongs to it where nothing is wrong.
    pub(super) fn of(error: i16, answer: Self) -> Self {
        if error == 0 { answer } else { Self::Error(error) }
    }
}

impl Step {
    /// The topic that it is about.
    pub(super) fn topic(&self) -> Option<&str> {
        match self {
            Self::Create { topic, .. }
            | Self::Delete { topic }
            | Self::Alter { topic, .. }
            | Self::Describe { topic } => Some(topic),
            Self::Produce { to: place, .. }
            | Self::DeleteRecords { of: place, .. }
            | Self::Find { of: place, .. }
            | Self::Fetch { of: place, .. }
            | Self::Read { of: place } => Some(&place.topic),
        }
    }

    /// It asks for records or where they are.
    pub(super) fn is_look(&self) -> bool {
        matches!(self, Self::Find { .. } | Self::Fetch { .. } | Self::Read { .. })
    }
    /// It changes what a topic is, or begins with, or says so.
    pub(super) fn is_change(&self) -> bool {
        !self.is_look() && !matches!(self, Self::Produce { .. } | Self::Alter { .. })
    }
    /// It may change what is deleted from now on.
    pub(super) fn changes_retention(&self) -> bool {
        match self {
            Self::DeleteRecords { .. } => true,
            Self::Alter { operations, .. } => operations
                .iter()
                .any(|operation| operation.key.starts_with("retention") || operation.key == "cleanup.policy"),
            _ => false,
        }
    }
}
