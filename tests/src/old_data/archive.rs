//! The archives, what is known of them, and how they are unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Producer, VERSION};
use crate::broker::rosettamq_binary;
use crate::{places, process};

const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// When an archive was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Log without checkpoints, after crashes.
    Early,
    /// Checkpoints, index files, and a log behind them, after stops and crashes.
    Late,
}

impl Stage {
    pub const ALL: [Self; 2] = [Self::Early, Self::Late];

    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Late => "late",
        }
    }

    /// Batches in each partition of `orders`.
    pub(super) fn orders(self) -> i32 {
        match self {
            Self::Early => 40,
            Self::Late => 60,
        }
    }

    /// What the group `alone` committed last, of a partition of `orders`.
    pub(super) fn committed(self, partition: i32) -> i64 {
        i64::from(self.orders() + partition)
    }
}

/// What was written down when the archives were made.
#[derive(Clone, Debug)]
pub struct Expected {
    pub producer: Producer,
    /// By shard: last entry and the digest of the state, as the old version computes it.
    pub digests: BTreeMap<u64, (u64, String)>,
}

impl Expected {
    pub fn of(stage: Stage) -> Result<Self> {
        let text = fs::read_to_string(folder().join("expected.json")).context("expected.json")?;
        let value: Value = serde_json::from_str(&text)?;
        let number = |value: &Value| value.as_i64().context("a number");
        let producer = Producer {
            id: number(&value["producer"]["id"])?,
            epoch: i16::try_from(number(&value["producer"]["epoch"])?)?,
        };
        Ok(Self { producer, digests: read_digests(&value[stage.name()])? })
    }
}

/// Where archives lie.
pub fn folder() -> PathBuf {
    places::workspace().join("tests").join("fixtures").join(VERSION)
}

/// Unpacks an archive; the data directory is `data` in `home`.
pub fn unpack(stage: Stage, home: &Path) -> Result<PathBuf> {
    let archive = folder().join(format!("{}.tar.gz", stage.name()));
    let mut tar = Command::new("tar");
    process::run(tar.arg("-xzf").arg(archive).arg("-C").arg(home), COMMAND_LIMIT)?;
    Ok(home.join("data"))
}

/// Packs a data directory of `home` so that the archive is as small as it can be.
pub fn pack(stage: Stage, home: &Path, into: &Path) -> Result<()> {
    let archive = into.join(format!("{}.tar.gz", stage.name()));
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "--owner=0", "--group=0", "--use-compress-program=gzip -9n", "-cf"]).arg(archive);
    process::run(tar.arg("-C").arg(home).arg("data"), COMMAND_LIMIT)?;
    Ok(())
}

/// What `rosettamq log digest` says of a data directory: by shard, last entry and digest.
pub fn digests(data: &Path) -> Result<BTreeMap<u64, (u64, String)>> {
    let mut command = Command::new(rosettamq_binary()?);
    let finished = process::run(command.args(["log", "digest", "--json"]).arg(data), COMMAND_LIMIT)?;
    read_digests(&serde_json::from_str(&finished.text())?)
}

fn read_digests(value: &Value) -> Result<BTreeMap<u64, (u64, String)>> {
    let mut digests = BTreeMap::new();
    for shard in value["shards"].as_array().context("a list of shards")? {
        let number = |name: &str| shard[name].as_u64().with_context(|| format!("{name} in {shard}"));
        let digest = shard["digest"].as_str().with_context(|| format!("no digest in {shard}"))?;
        digests.insert(number("shard")?, (number("index")?, digest.to_owned()));
    }
    ensure!(!digests.is_empty(), "no shards in {value}");
    Ok(digests)
}
