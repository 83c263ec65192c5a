//! How much is written, kept and allowed.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub const MIB: u64 = 1 << 20;
pub(super) const SHARDS: u64 = 2;
/// Bytes of a record's value; its key and the rest of it are little beside that.
pub(super) const VALUE_BYTES: usize = 1_000;
/// With its key and the rest.
const RECORD_BYTES: u64 = 1_020;
/// Topics that keep a size.
pub(super) const KEPT_TOPICS: u64 = 4;
pub(super) const COMPACTED_PARTITIONS: u64 = 2;
/// The share of all that lives at a time.
const LIVE_SHARE: u64 = 20;
/// Between two looks at what is to go.
const INTERVAL_MS: u64 = 500;

/// The sizes of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub home: Option<PathBuf>,
    pub seed: u64,
    /// To be written.
    pub total: u64,
    pub bytes_per_second: u64,
    pub segment_bytes: u64,
    pub log_hot_bytes: u64,
    pub batch_records: u32,
    /// Of each kept topic.
    pub kept_bytes: u64,
    /// Of each compacted partition.
    pub keys: u64,
    /// Of one life of the topic that is created anew.
    pub renewed_records: i64,
}

impl Plan {
    /// `TEST_SPACE_MB` megabytes below `TEST_SPACE_DIR`, or a few hundred in a temporary folder.
    pub fn from_environment() -> Result<Self> {
        let megabytes = match env::var("TEST_SPACE_MB") {
            Ok(text) => text.parse().context("TEST_SPACE_MB is a number")?,
            Err(_) => {
                if cfg!(debug_assertions) {
                    300
                } else {
                    600
                }
            }
        };
        let mut plan = Self::new(megabytes * 1_000_000)?;
        plan.home = env::var_os("TEST_SPACE_DIR").map(PathBuf::from);
        Ok(plan)
    }

    fn new(total: u64) -> Result<Self> {
        let live = total / LIVE_SHARE;
        let log_hot_bytes = (total / 48 / MIB * MIB).clamp(8 * MIB, 256 * MIB);
        Ok(Self {
            home: None,
            seed: 20_261_124,
            total,
            bytes_per_second: (total / 30).clamp(MIB, 60 * MIB),
            segment_bytes: (log_hot_bytes / 8 / MIB * MIB).max(4 * MIB),
            log_hot_bytes,
            batch_records: 200,
            // Six parts of ten; two are compacted, and two are the topic that is created anew.
            kept_bytes: live * 6 / 10 / KEPT_TOPICS,
            keys: live * 2 / 10 / COMPACTED_PARTITIONS / RECORD_BYTES,
            renewed_records: i64::try_from(live * 2 / 10 / RECORD_BYTES)?,
        })
    }

    /// Records that a kept topic has at least, once it has had so many.
    pub(super) fn kept_records(&self) -> i64 {
        i64::try_from(self.kept_bytes / RECORD_BYTES).unwrap_or(i64::MAX)
    }

    /// Records that a kept topic has at most, when retention came by: a value is not all of a record, and a batch stays whole.
    pub(super) fn kept_records_max(&self) -> i64 {
        let values = self.kept_bytes / VALUE_BYTES as u64;
        i64::try_from(values).unwrap_or(i64::MAX) + 2 * i64::from(self.batch_records)
    }

    pub(super) fn properties(&self) -> Vec<(String, String)> {
        let interval = INTERVAL_MS.to_string();
        [
            ("shards", SHARDS.to_string()),
            ("log_hot_bytes", format!("\"{}B\"", self.log_hot_bytes)),
            ("kafka.log.retention.check.interval.ms", interval.clone()),
            ("kafka.log.cleaner.backoff.ms", interval),
            ("kafka.auto.create.topics.enable", "false".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Bytes that live at a time: what is kept, of each key the newest record, one life of the topic that is created anew.
    fn live(&self) -> u64 {
        let batch = u64::from(self.batch_records) * RECORD_BYTES;
        let kept = KEPT_TOPICS * (self.kept_bytes + batch);
        let compacted = COMPACTED_PARTITIONS * self.keys * RECORD_BYTES;
        kept + compacted + self.renewed_records.unsigned_abs() * RECORD_BYTES + batch
    }

    /// What the directory may take, by what the settings promise:
    ///
    /// - the newest part of the log, `log_hot_bytes`; what is older waits to become an object until it is as much again;
    /// - a segment for each shard that a range of the log begins in, and another that it ends in, the one that is written, and the one that
    ///   is ready, with zeros ahead;
    /// - what went and waits for a checkpoint of its shard: so much is written between two of them as is hot;
    /// - what is written until somebody looks at what is to go, and a checkpoint is durable: four seconds on a busy machine;
    /// - of objects what lives, as much that is dead (then they are written anew), and the copy that is being written;
    /// - a sixteenth of that for indexes, and 16 MiB for checkpoints.
    pub fn bound(&self) -> u64 {
        let log = 2 * self.log_hot_bytes + (2 * SHARDS + 2) * self.segment_bytes;
        let waiting = SHARDS * self.log_hot_bytes + 4 * self.bytes_per_second;
        let objects = 3 * self.live();
        log + waiting + objects * 17 / 16 + 16 * MIB
    }
}
