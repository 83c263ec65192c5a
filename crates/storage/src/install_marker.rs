//! The file that says that a shard is being brought here from another node.
//!
//! While it is there, what lies here of the shard is no state that may be started from. It is
//! durable before anything is changed and is removed when all that was brought is durable.
//!
//! ```text
//! RosettaMQ install
//! stage set-aside | cut | pull
//! keep TERM INDEX | keep none
//! reach INDEX
//! ```

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, OpenOptions, read_exact_at};
use base::task::offload;
use record::{LogIndex, Term};

use crate::passing::{failed_write, remove_file};
use crate::types::LogId;

const TITLE: &str = "RosettaMQ install";
/// The file is a few lines; more is not one.
const BYTES_MAX: u64 = 4096;

/// How far an install has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallStage {
    /// What is here is damaged. It stays until others are known to lead the group without it.
    SetAside,
    /// What is not known to be committed here is being cut off.
    Cut,
    /// Everything in the log came from the group or is committed: its end is how far the install is.
    Pull,
}

/// What an install must not forget over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installing {
    pub stage: InstallStage,
    /// The last entry that was here and known to be committed.
    pub keep: Option<LogId>,
    /// This node may have acknowledged entries up to here: what is installed reaches as far.
    pub reach: LogIndex,
}

/// The marker of one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InstallMarker {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl InstallMarker {
    /// The marker at `path`, see [`crate::data_dir::DataDir::installing_file`].
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_owned() }
    }

    /// Where the file is, or would be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an install is under way.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.disk.exists(&self.path)
    }

    /// What stands in the marker; none when there is no install under way.
    ///
    /// # Errors
    /// `InvalidData` when it is no marker; as reading a file otherwise.
    pub async fn read(&self) -> io::Result<Option<Installing>> {
        let file = match self.disk.open(&self.path, OpenOptions::read()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("at most 4096");
        let bytes = read_exact_at(&*file, 0, len).await?;
        match std::str::from_utf8(&bytes).ok().and_then(parse) {
            Some(installing) => Ok(Some(installing)),
            None => {
                let text = format!("{} does not say how far an install is", self.path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    /// Makes the marker or replaces it. Durable when it returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn write(&self, installing: Installing) -> io::Result<()> {
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        offload(async move {
            let new = path.with_extension("new");
            let file = disk.open(&new, OpenOptions::replace())?;
            let text = text(installing);
            file.write_at(0, &[IoSlice::new(text.as_bytes())]).await.map_err(failed_write)?;
            file.sync_data().await.map_err(failed_write)?;
            disk.rename(&new, &path)?;
            sync_dir_of(&*disk, &path)
        })
        .await
    }

    /// Removes the marker, if it is there. Durable when it returns.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub async fn remove(&self) -> io::Result<()> {
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        offload(async move {
            remove_file(&*disk, &path)?;
            sync_dir_of(&*disk, &path)
        })
        .await
    }
}

fn sync_dir_of(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let dir = path.parent().expect("the marker lies in its shard's folder");
    disk.sync_dir(dir).map_err(failed_write)
}

fn text(Installing { stage, keep, reach }: Installing) -> String {
    let stage = match stage {
        InstallStage::SetAside => "set-aside",
        InstallStage::Cut => "cut",
        InstallStage::Pull => "pull",
    };
    let keep = keep.map_or_else(|| "none".to_owned(), |id| format!("{} {}", id.term.0, id.index.0));
    format!("{TITLE}\nstage {stage}\nkeep {keep}\nreach {}\n", reach.0)
}

fn parse(text: &str) -> Option<Installing> {
    let mut lines = text.lines();
    lines.next().filter(|title| *title == TITLE)?;
    let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
    let stage = match value("stage")? {
        "set-aside" => InstallStage::SetAside,
        "cut" => InstallStage::Cut,
        "pull" => InstallStage::Pull,
        _ => return None,
    };
    let keep = match value("keep")? {
        "none" => None,
        id => {
            let (term, index) = id.split_once(' ')?;
            Some(LogId { term: Term(term.parse().ok()?), index: LogIndex(index.parse().ok()?) })
        }
    };
    let reach = LogIndex(value("reach")?.parse().ok()?);
    Some(Installing { stage, keep, reach })
}

#[cfg(test)]
mod tests {
    use base::Env;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let marker = InstallMarker::new(Env::real().disk, &dir.path().join("INSTALLING"));
        assert_eq!(marker.read().await.unwrap(), None);
        let keep = Some(LogId { term: Term(3), index: LogIndex(41) });
        for installing in [
            Installing { stage: InstallStage::SetAside, keep: None, reach: LogIndex(9) },
            Installing { stage: InstallStage::Cut, keep, reach: LogIndex(55) },
            Installing { stage: InstallStage::Pull, keep: None, reach: LogIndex(0) },
        ] {
            marker.write(installing).await.unwrap();
            assert_eq!(marker.read().await.unwrap(), Some(installing));
        }
        marker.remove().await.unwrap();
        assert!(!marker.exists());
        marker.remove().await.unwrap();
    }

    #[test]
    fn only_a_whole_marker_is_one() {
        let whole = text(Installing { stage: InstallStage::Pull, keep: None, reach: LogIndex(7) });
        assert!(parse(&whole).is_some());
        for text in ["", "RosettaMQ install\n", &whole.replace("pull", "push"), &whole.replace("reach 7", "reach")] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
