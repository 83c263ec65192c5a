//! Scrubbing: what lies here is read again and again, at a limited rate, before somebody needs it; and repair of what is damaged.
//!
//! Objects in which something does not fit its checksum, whoever met that, are put together anew as those that are missing: of what
//! is whole here, and of what other members have. Until then, and where nobody has it, only what is damaged cannot be read. Entries
//! of the log are told by their read: the node brings the shard here anew then, if others have it.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use base::time::{Duration, Instant, now, sleep_until};
use record::{FileNumber, LogIndex, ObjectKey};
use shard::{PlacedObject, Spot};
use storage::{is_lasting, is_unreadable};

use super::work::{WorkKind, Working};
use super::{Brought, stop_node};
use crate::catch_up::{InstallError, InstallProgress, Puller};
use crate::core::Core;
use crate::raft::network::Transport;

/// The first pass begins so long after a start, or earlier if passes are more frequent.
const FIRST_PASS: Duration = Duration::from_secs(10 * 60);
/// After so long it is tried again to repair an object: twice as long each time.
const REPAIR_PAUSE_MIN: Duration = Duration::from_secs(30);
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// So much is read of the log at a time.
const LOG_BYTES: usize = 1 << 20;
/// Where something of that is damaged, so many entries are read one by one.
const SINGLE_ENTRIES: u32 = 4_096;

struct Scrubber {
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    /// Objects that could not be repaired.
    damaged: BTreeMap<ObjectKey, Failed>,
    /// When the next pass begins; none without passes.
    next_pass: Option<Instant>,
}

/// What came of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Done,
    NotYet,
    /// The object is not read any more.
    Gone,
}

/// How fast an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    Now,
    AtRate,
}

/// A repair that is tried again.
struct Failed {
    at: Instant,
    tries: u32,
}

/// What a pass came to.
#[derive(Debug, Default)]
struct Counts {
    objects: u64,
    files: u64,
    entries: u64,
    bytes: u64,
    damaged: u64,
    /// Of a pass.
    work: Option<Working>,
}

impl Counts {
    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(work) = &self.work {
            work.add(bytes);
        }
    }
}

/// Looks for damage, and repairs what it or somebody else meets. Ends when it is aborted.
pub(crate) async fn scrub(core: Arc<Core>, transport: Arc<dyn Transport>) {
    let next_pass = core.pace.scrub_interval().map(|interval| now() + interval.min(FIRST_PASS));
    let mut scrubber = Scrubber { core, transport, damaged: BTreeMap::new(), next_pass };
    loop {
        scrubber.rest().await;
        scrubber.repair_some().await;
        if scrubber.core.is_failed() {
            return;
        }
        if let (Some(at), Some(interval)) = (scrubber.next_pass, scrubber.core.pace.scrub_interval())
            && at <= now()
        {
            scrubber.next_pass = Some(at.max(now()) + interval);
            scrubber.pass().await;
        }
    }
}

impl Scrubber {
    /// Waits until there is something to do.
    async fn rest(&self) {
        let objects = self.core.index.objects();
        let next = self.damaged.values().map(|failed| failed.at).chain(self.next_pass).min();
        match next {
            Some(next) => tokio::select! {
                () = objects.suspected() => {}
                () = sleep_until(next) => {}
            },
            None => objects.suspected().await,
        }
    }

    /// Also within a pass, which may take days.
    async fn repair_some(&mut self) {
        self.look_at_suspects().await;
        self.try_again().await;
    }

    /// Verifies what somebody could not read.
    async fn look_at_suspects(&mut self) {
        let mut suspects = self.core.index.objects().take_suspects();
        // While it is known to be damaged, each further read of it says so.
        suspects.retain(|key| !self.damaged.contains_key(key));
        // Somebody waits for these.
        for key in suspects {
            self.verify(key, Haste::Now, &mut Counts::default()).await;
        }
    }

    /// Looks again at what could not be repaired.
    async fn try_again(&mut self) {
        let due: Vec<ObjectKey> =
            self.damaged.iter().filter(|(_, failed)| failed.at <= now()).map(|(key, _)| *key).collect();
        for key in due {
            self.verify(key, Haste::AtRate, &mut Counts::default()).await;
        }
    }

    /// Reads all that lies here.
    async fn pass(&mut self) {
        let core = Arc::clone(&self.core);
        let work = core.begin_work(WorkKind::Scrub, core.bytes_to_scrub());
        let mut counts = Counts { work: Some(work), ..Counts::default() };
        let mut behind: Option<Spot> = None;
        while let Some((spot, key)) = core.here.next_placed(behind) {
            behind = Some(spot);
            self.verify(key, Haste::AtRate, &mut counts).await;
            // Whoever reads waits for its repair.
            self.repair_some().await;
            if core.is_failed() {
                return;
            }
        }
        for file in core.index.files() {
            self.verify_index(file, &mut counts).await;
            self.repair_some().await;
        }
        let (mut from, mut singly) = (LogIndex(0), 0);
        while let ControlFlow::Continue(next) = self.verify_log(from, &mut singly, &mut counts).await {
            from = next;
            self.repair_some().await;
        }
        if counts.bytes == 0 && counts.damaged == 0 {
            return;
        }
        let Counts { objects, files, entries, bytes, damaged, .. } = counts;
        let shard = core.config.shard.0;
        tracing::info!(
            shard,
            objects,
            files,
            entries,
            bytes,
            damaged,
            "all that lies here of the shard was read and compared"
        );
    }

    /// Reads an object, and repairs it if it is damaged.
    async fn verify(&mut self, key: ObjectKey, haste: Haste, counts: &mut Counts) {
        let core = Arc::clone(&self.core);
        let read = self.read(key, haste, counts).await;
        counts.objects += 1;
        core.index.objects().forget_suspect(key);
        if !core.here.reads(key) {
            // It went meanwhile.
            self.damaged.remove(&key);
            return;
        }
        match read {
            Ok(()) => {
                self.damaged.remove(&key);
                core.here.note_damage(key, false);
            }
            Err(error) if is_damage(&error) => {
                counts.damaged += 1;
                core.here.note_damage(key, true);
                let repair = self.repair(key).await;
                if repair != Repair::NotYet {
                    self.damaged.remove(&key);
                    core.here.note_damage(key, false);
                } else if self.try_later(key) {
                    let shard = core.config.shard.0;
                    tracing::error!(
                        shard,
                        object = %key,
                        %error,
                        "an object is damaged, and was not repaired from another node yet: what is damaged of it cannot be read"
                    );
                }
            }
            Err(error) => {
                let shard = core.config.shard.0;
                tracing::warn!(shard, object = %key, %error, "an object cannot be compared with its checksums");
                self.try_later(key);
            }
        }
    }

    /// An object is looked at again after a pause; whether that is the first time.
    fn try_later(&mut self, key: ObjectKey) -> bool {
        let failed = self.damaged.entry(key).or_insert_with(|| Failed { at: now(), tries: 0 });
        failed.at = now() + (REPAIR_PAUSE_MIN * 2_u32.pow(failed.tries.min(10))).min(REPAIR_PAUSE_MAX);
        failed.tries += 1;
        failed.tries == 1
    }

    async fn read(&self, key: ObjectKey, haste: Haste, counts: &mut Counts) -> io::Result<()> {
        let (objects, pace) = (self.core.index.objects(), &self.core.pace);
        let mut check = objects.check(key).await?;
        let mut bytes = check.index_bytes();
        loop {
            counts.read(bytes);
            if haste == Haste::AtRate {
                pace.spend_scrubbing(bytes).await;
            }
            match check.step().await? {
                Some(more) => bytes = more,
                None => return Ok(()),
            }
        }
    }

    /// Puts an object together anew.
    async fn repair(&self, key: ObjectKey) -> Repair {
        let core = &self.core;
        let shard = core.config.shard;
        for member in core.others() {
            let _turn = core.pace.turn().await;
            // Whatever leaves from now on stays until this is done.
            let _reader = core.here.enter();
            if !core.here.reads(key) {
                return Repair::Gone;
            }
            let object: Option<PlacedObject> = {
                let state = core.state.read();
                state.shard.all_objects().into_iter().find(|object| object.key == key).cloned()
            };
            // It is read in the place of one that is missing.
            let Some(object) = object else { return Repair::NotYet };
            if core.is_failed() || core.full_disk.is_full() {
                return Repair::NotYet;
            }
            let work = core.begin_work(WorkKind::Repair, object.bytes);
            let donor = self.transport.donor(shard, member);
            let progress = InstallProgress::default();
            let mut puller = Puller::new(&*donor, &progress, None);
            match core.make_as_there(&mut puller, &object, &work).await {
                Ok(Brought::Here) => {
                    tracing::warn!(shard = shard.0, object = %key, from = member.0, "a damaged object was repaired");
                    return Repair::Done;
                }
                Ok(Brought::NotThere) => {}
                Err(InstallError::Files(error)) if is_lasting(&error) => {
                    stop_node(core, error);
                    return Repair::NotYet;
                }
                Err(InstallError::Files(error)) => {
                    tracing::warn!(shard = shard.0, object = %key, %error, "a damaged object cannot be written anew");
                    return Repair::NotYet;
                }
                Err(error) => {
                    tracing::debug!(shard = shard.0, object = %key, from = member.0, %error, "an object is not repaired yet");
                }
            }
        }
        Repair::NotYet
    }

    /// Reads an index file that something of the state is found with.
    async fn verify_index(&self, file: FileNumber, counts: &mut Counts) {
        let core = &self.core;
        let is_live = || core.state.read().shard.is_live_file(file) && core.index.contains(file);
        if core.is_failed() || !is_live() {
            return;
        }
        match core.index.verify(file).await {
            Ok(bytes) => {
                counts.files += 1;
                counts.read(bytes);
                core.pace.spend_scrubbing(bytes).await;
            }
            // It went meanwhile.
            Err(_) if !is_live() => {}
            Err(error) => {
                counts.damaged += u64::from(is_damage(&error));
                tracing::warn!(shard = core.config.shard.0, file = file.0, %error, "an index file cannot be read");
            }
        }
    }

    /// Reads what is next of the log from an entry on that something of the state lies in; where to go on.
    async fn verify_log(&self, from: LogIndex, singly: &mut u32, counts: &mut Counts) -> ControlFlow<(), LogIndex> {
        let core = &self.core;
        if core.is_failed() {
            return ControlFlow::Break(());
        }
        let range = {
            let state = core.state.read();
            let ranges = state.shard.sealed_ranges();
            ranges.into_iter().filter(|range| range.through >= from).min_by_key(|range| range.from)
        };
        let Some(range) = range else { return ControlFlow::Break(()) };
        let from = from.max(range.from);
        let is_single = *singly > 0;
        *singly = singly.saturating_sub(1);
        let to = if is_single { from.next() } else { range.through.next() };
        ControlFlow::Continue(match core.log.entries(from..to, LOG_BYTES).await {
            Ok(entries) => {
                let bytes = entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
                counts.entries += entries.len() as u64;
                counts.read(bytes);
                core.pace.spend_scrubbing(bytes).await;
                // What died meanwhile may be gone.
                entries.last().map_or(to, |last| last.id.index.next())
            }
            // One of those that were read together.
            Err(_) if !is_single => {
                *singly = SINGLE_ENTRIES;
                from
            }
            Err(error) => {
                counts.damaged += u64::from(is_damage(&error));
                let shard = core.config.shard.0;
                tracing::warn!(shard, index = from.0, %error, "an entry of the log cannot be read");
                core.pace.spend_scrubbing(LOG_BYTES as u64).await;
                to
            }
        })
    }
}

/// Whether what was read is not what was written, is gone, or the device cannot read it.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) || is_unreadable(error)
}
