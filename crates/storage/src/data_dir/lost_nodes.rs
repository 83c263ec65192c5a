//! The nodes that this one was recovered without: its shards went on as if these were gone for good.
//!
//! `LOST-NODES` is durable before the first log is changed, so that there is no moment in which this node has gone on
//! without the others and would still listen to them. It goes when the cluster's metadata says that they are removed.
//!
//! ```text
//! RosettaMQ lost nodes
//! stage begun | done    whether all logs are changed
//! node ID               one or more of these, in ascending order
//! crc32c HEX            of all that stands before it
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use base::disk::Disk;
use record::NodeId;

use super::checked_text::{opened, sealed};
use super::{DataDirError, joining};

pub(super) const FILE: &str = "LOST-NODES";
const NEW_FILE: &str = "LOST-NODES.new";
const TITLE: &str = "RosettaMQ lost nodes";
/// A cluster with far more nodes than any has.
const BYTES_MAX: u32 = 64 << 10;

/// What stands in `LOST-NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostNodes {
    /// At least one.
    pub nodes: BTreeSet<NodeId>,
    /// Whether every log is changed that was to be.
    pub done: bool,
}

impl LostNodes {
    fn text(&self) -> String {
        let stage = if self.done { "done" } else { "begun" };
        let mut text = format!("{TITLE}\nstage {stage}\n");
        for node in &self.nodes {
            writeln!(text, "node {node}").expect("writing to a string succeeds");
        }
        sealed(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = opened(text)?.lines();
        lines.next().filter(|title| *title == TITLE)?;
        let done = match lines.next()? {
            "stage begun" => false,
            "stage done" => true,
            _ => return None,
        };
        let node = |line: &str| line.strip_prefix("node ")?.parse().ok().map(NodeId);
        let nodes: BTreeSet<NodeId> = lines.map(node).collect::<Option<_>>()?;
        (!nodes.is_empty()).then_some(Self { nodes, done })
    }
}

pub(super) async fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<LostNodes>, DataDirError> {
    let refused = || DataDirError::LostNodes { path: dir.join(FILE) };
    let text = joining::read_file(disk, dir, FILE, BYTES_MAX).await?;
    text.map(|text| text.as_deref().and_then(LostNodes::parse).ok_or_else(refused)).transpose()
}

pub(super) async fn write(disk: &Arc<dyn Disk>, dir: &Path, lost: &LostNodes) -> Result<(), DataDirError> {
    assert!(!lost.nodes.is_empty(), "nothing is recovered without a node that is lost");
    joining::replace(disk, dir, FILE, NEW_FILE, lost.text()).await
}

pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), DataDirError> {
    joining::remove_file(disk, dir, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(nodes: &[u64], done: bool) -> LostNodes {
        LostNodes { nodes: nodes.iter().copied().map(NodeId).collect(), done }
    }

    #[test]
    fn what_is_written_is_read() {
        for lost in [lost(&[1], false), lost(&[1, 2, 40], true)] {
            assert_eq!(LostNodes::parse(&lost.text()), Some(lost));
        }
    }

    #[test]
    fn whatever_is_torn_off_or_changed_is_seen() {
        let whole = lost(&[1, 12], true).text();
        for end in 0..whole.len() {
            assert_eq!(LostNodes::parse(&whole[..end]), None, "{end}");
        }
        for place in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[place] ^= 1;
            let read = std::str::from_utf8(&bytes).ok().and_then(LostNodes::parse);
            assert_eq!(read, None, "{place}");
        }
        let nobody = lost(&[], true).text();
        assert_eq!(LostNodes::parse(&nobody), None);
    }
}
