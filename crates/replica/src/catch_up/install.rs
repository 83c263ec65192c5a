//! The side that pulls. See the module's page for what holds.
//!
//! The order of what becomes durable:
//! 1. the marker, with how far this node may have acknowledged entries
//! 2. the cut: what is not known to be committed goes, since it may be what no leader kept
//! 3. index files, then entries in ascending order: the log's end is how far the install is
//! 4. the purge mark, at the checkpoint: a log that ends before its checkpoint would count as damage
//! 5. the checkpoint's name
//! 6. the marker's removal

use std::io;

use base::planted::{Planted, is_planted};
use record::{FileNumber, LogIndex};
use shard::PlacedObject;
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::{InstallMarker, InstallStage, Installing, LogId, Refused, ShardLog, Vote};
use thiserror::Error;

use super::checkpoint::CheckpointIntake;
use super::entries::EntryWriter;
use super::progress::{InstallPhase, InstallProgress};
use super::pull::{Donor, Puller, later, unexpected};
use super::wire::{Answer, Ask, Later, Offer};
use crate::config::Config;
use crate::objects::bring_object;

/// What is installed into: what a replica is started on afterwards. Nothing else may use it meanwhile.
#[derive(Debug)]
pub struct InstallParts {
    /// The shard's part of the node's commit log.
    pub log: ShardLog,
    /// The shard's checkpoints.
    pub checkpoints: CheckpointStore,
    /// The shard's sealed indexes.
    pub index: IndexStore,
    /// The shard's marker: while it is there no replica is started.
    pub marker: InstallMarker,
}

/// Why an install did not come to its end. It is to be called again; only what [`InstallError::is_lasting`] stops the
/// node.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The donor could not be asked.
    #[error("the donor cannot be asked")]
    Donor(#[source] io::Error),
    /// The donor has nothing to give now.
    #[error("the donor gives nothing now: {0}")]
    Later(Later),
    /// The donor's answer is none, or is damaged.
    #[error("the donor's answer is not to be used: {0}")]
    Answer(String),
    /// The log takes nothing now.
    #[error("the log takes nothing")]
    Refused(#[source] Refused),
    /// The log could not be written.
    #[error("the log cannot be written")]
    Log(#[source] io::Error),
    /// A file beside the log could not be read or written.
    #[error("a file beside the log cannot be read or written")]
    Files(#[source] io::Error),
}

impl InstallError {
    /// Whether nobody can say what is on this node's disk: the node must stop.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Files(error) => storage::is_lasting(error),
            Self::Log(_) | Self::Refused(Refused::Failed) => true,
            Self::Donor(_) | Self::Later(_) | Self::Answer(_) | Self::Refused(_) => false,
        }
    }
}

/// Brings the shard here from `donor`, so that a replica can be started on `parts` afterwards. To be called for a new
/// replica, for one whose log ends before its leader's purge mark, and at a start that finds the marker. Dropped or
/// failed, it goes on with the next call, with whatever donor. At most `bytes_per_second` are asked for.
///
/// # Errors
/// See [`InstallError`].
pub async fn install(
    config: &Config,
    parts: &InstallParts,
    donor: &dyn Donor,
    progress: &InstallProgress,
    bytes_per_second: Option<u64>,
) -> Result<(), InstallError> {
    progress.begin();
    let reach = prepare(parts).await?;
    let mut puller = Puller::new(donor, progress, bytes_per_second);
    let have = parts.log.log_state().last;
    let reach = reach.max(parts.checkpoints.chain().map_or(LogIndex(0), |chain| chain.at.index));
    let offer = match puller.ask(Ask::Begin { node: config.node, have, reach }).await? {
        Answer::Offer(offer) => offer,
        Answer::Later(reason) => return Err(later(reason)),
        _ => return Err(unexpected()),
    };
    check_offer(&offer, have, reach)?;
    progress.set_total(offer.index_bytes + offer.entry_bytes + offer.checkpoint_bytes);
    let shard = config.shard.0;
    tracing::info!(
        shard,
        at = offer.at.index.0,
        have = have.map_or(0, |have| have.index.0),
        "the shard is brought here"
    );
    progress.set_phase(InstallPhase::Index);
    pull_files(parts, &mut puller, &offer).await?;
    progress.set_phase(InstallPhase::Entries);
    if !is_planted(Planted::SnapshotBeforeData) {
        pull_entries(parts, &mut puller, &offer).await?;
    }
    progress.set_phase(InstallPhase::Checkpoint);
    pull_checkpoint(config, parts, &mut puller, &offer).await?;
    parts.marker.remove().await.map_err(InstallError::Files)?;
    progress.set_phase(InstallPhase::Done);
    tracing::info!(shard, at = offer.at.index.0, "the shard is here");
    // The donor would let go by itself, later.
    let _ = puller.ask(Ask::End { pin: offer.pin }).await;
    Ok(())
}

/// Makes the marker and cuts off what is not known to be committed, unless that was done before. Returns what the
/// checkpoint has to reach.
///
/// A voter may have acknowledged entries that are cut off here. It votes again only behind a checkpoint that covers
/// them, and until then it is the marker that keeps it from voting.
async fn prepare(parts: &InstallParts) -> Result<LogIndex, InstallError> {
    let InstallParts { log, marker, .. } = parts;
    let state = log.log_state();
    let installing = match marker.read().await.map_err(InstallError::Files)? {
        Some(installing) => installing,
        None => {
            let keep = known_committed(parts);
            let reach = state.last.map_or(LogIndex(0), |last| last.index);
            let installing = Installing { stage: InstallStage::Cut, keep, reach };
            marker.write(installing).await.map_err(InstallError::Files)?;
            installing
        }
    };
    if installing.stage == InstallStage::Cut {
        if state.last > installing.keep {
            log.truncate_after(installing.keep).await.map_err(InstallError::Log)?;
        }
        let pull = Installing { stage: InstallStage::Pull, ..installing };
        marker.write(pull).await.map_err(InstallError::Files)?;
    }
    Ok(installing.reach)
}

/// Notes that what is here is damaged, durably: no replica is started on it, and the group goes on without this member's
/// vote until [`give_way`].
///
/// # Errors
/// When the marker cannot be written.
pub async fn set_aside(parts: &InstallParts) -> io::Result<()> {
    let reach = parts.log.log_state().last.map_or(LogIndex(0), |last| last.index);
    parts.marker.write(Installing { stage: InstallStage::SetAside, keep: None, reach }).await
}

/// Lets go of what was set aside, once another member leads: `leads_to` is the last entry of its log, behind all that this
/// member can have acknowledged of what is committed. An [`install`] follows.
///
/// # Errors
/// See [`InstallError`].
pub async fn give_way(parts: &InstallParts, leads_to: LogIndex) -> Result<(), InstallError> {
    let noted = parts.marker.read().await.map_err(InstallError::Files)?;
    let reach = noted.map_or(LogIndex(0), |noted| noted.reach).max(leads_to);
    let cut = Installing { stage: InstallStage::Cut, keep: known_committed(parts), reach };
    parts.marker.write(cut).await.map_err(InstallError::Files)?;
    let_go(parts).await
}

/// The last entry that is here and known to be committed.
fn known_committed(parts: &InstallParts) -> Option<LogId> {
    let state = parts.log.log_state();
    let committed = state.committed.filter(|committed| Some(*committed) <= state.last);
    let covered = parts.checkpoints.chain().map(|chain| chain.at).filter(|at| Some(*at) <= state.last);
    committed.max(state.purged).max(covered)
}

/// Lets go of all that is here of a shard whose group has let go of this node. The marker stays: whoever takes
/// part again begins with an [`install`]. Dropped or failed, it is to be called again.
///
/// # Errors
/// See [`InstallError`].
pub async fn let_go(parts: &InstallParts) -> Result<(), InstallError> {
    prepare(parts).await?;
    parts.checkpoints.clear().await.map_err(InstallError::Files)?;
    for file in parts.index.files() {
        parts.index.remove(file).await.map_err(InstallError::Files)?;
    }
    for object in parts.index.objects().keys() {
        parts.index.objects().remove(object).await.map_err(InstallError::Files)?;
    }
    parts.log.forget().await.map_err(InstallError::Log)
}

fn check_offer(offer: &Offer, have: Option<LogId>, reach: LogIndex) -> Result<(), InstallError> {
    let at = offer.at;
    let behind_here = have.is_none_or(|have| at == have || (at.index > have.index && at.term >= have.term));
    if behind_here && at.index >= reach {
        return Ok(());
    }
    Err(InstallError::Answer(format!("a checkpoint at {} was offered, which is not far enough", at.index)))
}

async fn pull_files(parts: &InstallParts, puller: &mut Puller<'_>, offer: &Offer) -> Result<(), InstallError> {
    let mut behind = FileNumber(0);
    loop {
        let (more, files) = match puller.ask(Ask::Files { pin: offer.pin, behind }).await? {
            Answer::Files { more, files } => (more, files),
            Answer::Later(reason) => return Err(later(reason)),
            _ => return Err(unexpected()),
        };
        if files.first().is_some_and(|(first, _)| *first <= behind) || (more && files.is_empty()) {
            return Err(InstallError::Answer("the list of index files does not go on".to_owned()));
        }
        for (file, bytes) in files {
            behind = file;
            if parts.index.size(file) != Some(bytes) {
                pull_file(parts, puller, offer.pin, file, bytes).await?;
            }
        }
        if !more {
            return Ok(());
        }
    }
}

async fn pull_file(
    parts: &InstallParts,
    puller: &mut Puller<'_>,
    pin: u64,
    file: FileNumber,
    bytes: u64,
) -> Result<(), InstallError> {
    let mut import = parts.index.import(file, bytes).await.map_err(InstallError::Files)?;
    while import.position() < bytes {
        let part = match puller.ask(Ask::File { pin, file, position: import.position() }).await? {
            Answer::Part(part) if !part.is_empty() => part,
            // What it named died meanwhile.
            Answer::Gone => return Ok(()),
            Answer::Later(reason) => return Err(later(reason)),
            _ => return Err(InstallError::Answer(format!("the index file {} ends early", file.0))),
        };
        import.part(part).await.map_err(damaged_or_files)?;
    }
    import.finish().await.map_err(damaged_or_files)
}

/// Data that is not right came from the donor.
pub(crate) fn damaged_or_files(error: io::Error) -> InstallError {
    match error.kind() {
        io::ErrorKind::InvalidData if !storage::is_lasting(&error) => InstallError::Answer(error.to_string()),
        _ => InstallError::Files(error),
    }
}

async fn pull_entries(parts: &InstallParts, puller: &mut Puller<'_>, offer: &Offer) -> Result<(), InstallError> {
    let mut writer = EntryWriter::new(&parts.log, offer.at);
    loop {
        let (from, byte) = writer.next();
        if from > offer.at.index {
            return writer.finish().await;
        }
        let (end, pieces) = match puller.ask(Ask::Entries { pin: offer.pin, from, byte }).await? {
            Answer::Entries { end, pieces } => (end, pieces),
            Answer::Later(reason) => return Err(later(reason)),
            _ => return Err(unexpected()),
        };
        if !end && pieces.is_empty() {
            return Err(InstallError::Answer("no entries, and not the end of them".to_owned()));
        }
        writer.take(pieces).await?;
        if end {
            return writer.finish().await;
        }
    }
}

async fn pull_checkpoint(
    config: &Config,
    parts: &InstallParts,
    puller: &mut Puller<'_>,
    offer: &Offer,
) -> Result<(), InstallError> {
    let at = offer.at;
    let writer = parts.checkpoints.write_base(at).await.map_err(InstallError::Files)?;
    let mut intake = CheckpointIntake::new(config.shard, writer, at);
    let mut position = 0;
    loop {
        let (end, bytes) = match puller.ask(Ask::Checkpoint { pin: offer.pin, position }).await? {
            Answer::Chunks { end, bytes } => (end, bytes),
            Answer::Later(reason) => return Err(later(reason)),
            _ => return Err(unexpected()),
        };
        if !end && bytes.is_empty() {
            return Err(InstallError::Answer("nothing of the checkpoint, and not its end".to_owned()));
        }
        intake.take(&bytes).await?;
        position += bytes.len() as u64;
        if end {
            break;
        }
    }
    let (writer, shard) = intake.finish()?;
    // Those that are not at the donor either came as the index files and entries that they are made of.
    let is_here = |object: &PlacedObject| parts.index.objects().size(object.key) == Some(object.bytes);
    for object in shard.all_objects().into_iter().filter(|object| !is_here(object)) {
        bring_object(parts.index.objects(), puller, Some(offer.pin), config.shard, object).await?;
    }
    for file in shard.live_files().into_iter().filter(|file| !parts.index.contains(*file)) {
        tracing::info!(shard = config.shard.0, file = file.0, "an index file died while the shard was brought here");
    }
    // Whoever has entries of a term knows of the term.
    if parts.log.log_state().vote.is_none_or(|vote| vote.term < at.term) {
        let vote = Vote { term: at.term, node_id: config.node, committed: false };
        parts.log.save_vote(vote).await.map_err(InstallError::Log)?;
    }
    if parts.log.log_state().purged < Some(at) {
        parts.log.purge(at).await.map_err(InstallError::Log)?;
    }
    writer.finish().await.map_err(InstallError::Files)?;
    Ok(())
}
