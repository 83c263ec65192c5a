//! The shard's objects: what lives of old ranges of the log, sorted by stream and offset.
//!
//! The leader builds an object of ranges that are old, from its own copy, and proposes it. The other members put the same
//! bytes together from theirs, by the object's index. What an object replaces stays on each node until its own object is whole
//! there, all are done who read it, and a durable checkpoint refers to it no more: at no step a crash leaves neither.

mod bring;
mod build;
mod choice;
mod compaction;
mod gather;
mod here;
mod inner;
mod looks;
mod merge;
mod opening;
mod pace;
mod placing;
mod readers;
mod room;
mod scrub;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base::time::{Duration, sleep, timeout};
use record::{FileNumber, LogIndex, NodeId, ObjectKey, StreamId};
use shard::PlacedObject;
use storage::index_file::Source;
use storage::is_lasting;

pub(crate) use bring::{Brought, bring_object};
use build::Run;
use choice::PassedOver;
pub(crate) use choice::STREAMS_PER_LOOK;
use compaction::Compaction;
pub use compaction::CompactionPolicy;
pub use here::ObjectCounts;
pub(crate) use here::{Here, Needed, Settled};
pub use pace::Pace;
use placing::Proposed;
pub(crate) use readers::Reader;
use room::Freeing;
pub(crate) use scrub::scrub;
pub use work::{Work, WorkKind};

use crate::catch_up::{InstallError, InstallProgress, Puller};
use crate::core::Core;
use crate::errors::OutOfService;
use crate::proposer::Gate;
use crate::raft::network::Transport;
use crate::replica::Replica;

/// Pause before an object is asked for again that nobody had, and before something is built again that could not be.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks at what has become old.
const LOOK_PAUSE: Duration = Duration::from_secs(30);
/// One failure in so many is reported while they last.
const FAILURES_PER_REPORT: u64 = 60;
/// A leader builds anew what nobody has after so many rounds in which all said so.
const ROUNDS_MAX: u32 = 3;

/// What one round led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    Done,
    /// Something is to be tried again soon.
    Later,
    /// There may be more to do.
    Again,
}

struct Keeper {
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    /// The objects that all members lack who were asked, and how often all were, one behind the other.
    lost: BTreeMap<ObjectKey, u32>,
    /// What could not be built lately.
    passed_over: PassedOver,
    /// The last file of the object that was looked at last.
    looked: FileNumber,
    compaction: Compaction,
    /// What is rewritten while the disk is full.
    freeing: Freeing,
    /// Compaction and all else take turns.
    cleans_first: bool,
}

/// Makes the objects of the state that are missing here, and new ones while this node leads. Ends when it is aborted.
pub(crate) async fn keep(core: Arc<Core>, transport: Arc<dyn Transport>) {
    let mut keeper = Keeper {
        core,
        transport,
        lost: BTreeMap::new(),
        passed_over: PassedOver::default(),
        looked: FileNumber(0),
        compaction: Compaction::default(),
        freeing: Freeing::default(),
        cleans_first: false,
    };
    let mut failures = 0_u64;
    loop {
        let round = keeper.round().await;
        if round.is_ok() {
            failures = 0;
        }
        let pause = match round {
            Ok(Round::Again) => continue,
            Ok(Round::Later) => RETRY_PAUSE,
            Ok(Round::Done) => LOOK_PAUSE,
            Err(error) => {
                let core = &keeper.core;
                if is_lasting(&error) {
                    stop_node(core, error);
                    return;
                }
                if failures.is_multiple_of(FAILURES_PER_REPORT) {
                    tracing::error!(shard = core.config.shard.0, %error, failures, "an object cannot be made, trying on");
                }
                failures += 1;
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        // At first what was applied last may be what is waited for.
        let _ = timeout(pause, keeper.core.objects_wanted.notified()).await;
    }
}

impl Keeper {
    async fn round(&mut self) -> io::Result<Round> {
        let core = Arc::clone(&self.core);
        let mut round = Round::Done;
        let mut behind = None;
        // Whoever did not answer is not asked again for the next one.
        let mut members = core.others();
        while let Some(missing) = core.here.next_missing(behind) {
            if core.is_failed() {
                return Ok(Round::Later);
            }
            behind = Some(missing.spot());
            if missing.bytes > core.room() || !self.make(&missing, &mut members).await? {
                round = Round::Later;
            }
        }
        self.lost.retain(|key, _| core.here.is_missing(*key));
        if core.is_failed() || !core.may_make_objects() {
            return Ok(round);
        }
        if !matches!(core.proposals.gate(), Gate::Open { .. }) {
            self.compaction = Compaction::default();
            return Ok(round);
        }
        self.cleans_first = !self.cleans_first;
        if self.cleans_first
            && let Some(cleaned) = self.clean().await?
        {
            return Ok(cleaned);
        }
        let built = self.build_some().await?;
        if !self.cleans_first
            && built != Round::Again
            && let Some(cleaned) = self.clean().await?
        {
            return Ok(cleaned);
        }
        Ok(built.max(round))
    }

    /// Builds an object of what is old, small, or mostly dead.
    async fn build_some(&mut self) -> io::Result<Round> {
        let core = Arc::clone(&self.core);
        let is_full = core.full_disk.refuses_data();
        if let Some(run) = core.choose_dying(&mut self.freeing, &mut self.passed_over).await? {
            return self.build(run).await;
        }
        if is_full {
            return Ok(Round::Later);
        }
        if let Some(run) = core.choose(&mut self.passed_over).await? {
            return self.build(run).await;
        }
        if let Some(run) = core.choose_small(&self.passed_over) {
            return self.build(run).await;
        }
        let Some(object) = core.next_read(self.looked) else {
            self.looked = FileNumber(0);
            return Ok(Round::Done);
        };
        // Whatever comes of it: the next look is at the next one.
        self.looked = object.last;
        if let Some(run) = core.look_at_life(&object).await?
            && !self.passed_over.has_any(run.first, run.last)
        {
            return self.build(run).await;
        }
        Ok(Round::Done)
    }

    /// Makes an object of the state that is not here; whether it is here, or not wanted any more.
    async fn make(&mut self, object: &PlacedObject, members: &mut Vec<NodeId>) -> io::Result<bool> {
        let core = Arc::clone(&self.core);
        if core.here.only_waits(object) {
            return Ok(false);
        }
        let mut are_without = members.len() == core.others().len();
        for member in members.clone() {
            let turn = core.turn_for(WorkKind::Fetch, object.stream, object.bytes).await;
            let donor = self.transport.donor(core.config.shard, member);
            let progress = InstallProgress::default();
            let mut puller = Puller::new(&*donor, &progress, None);
            let made = core.make_as_there(&mut puller, object).await;
            drop(turn);
            match made {
                Ok(Brought::Here) => {
                    core.here.made(object);
                    core.maintenance.notify_one();
                    tracing::debug!(shard = core.config.shard.0, object = %object.key, "an object is here");
                    return Ok(true);
                }
                Ok(Brought::NotThere) => {}
                Err(InstallError::Files(error)) => return Err(error),
                Err(error) => {
                    let shard = core.config.shard.0;
                    tracing::debug!(shard, object = %object.key, from = member.0, %error, "an object is not here yet");
                    members.retain(|other| *other != member);
                    are_without = false;
                }
            }
        }
        if !are_without {
            self.lost.remove(&object.key);
            return Ok(false);
        }
        let rounds = self.lost.entry(object.key).or_insert(0);
        *rounds += 1;
        if *rounds < ROUNDS_MAX || !matches!(core.proposals.gate(), Gate::Open { .. }) {
            return Ok(false);
        }
        self.build_anew(object).await
    }

    /// Builds what nobody has from what it was to replace, which is here as long as it is not.
    async fn build_anew(&mut self, object: &PlacedObject) -> io::Result<bool> {
        if let Some(stream) = object.stream {
            return self.copy_anew(object, stream).await;
        }
        let core = &self.core;
        let sources = core.here.sources(object);
        if self.passed_over.has_any(object.first, object.last) || !core.covers(object, &sources) {
            return Ok(false);
        }
        tracing::warn!(shard = core.config.shard.0, object = %object.key, "nobody has an object: it is built anew");
        let parts = core.streams_with_parts(object.first, object.last);
        let run = Run { first: object.first, last: object.last, sources, replaces: vec![object.key], parts };
        Ok(self.build(run).await? == Round::Again)
    }

    /// Builds an object and makes it one of the state.
    async fn build(&mut self, run: Run) -> io::Result<Round> {
        let core = Arc::clone(&self.core);
        let shard = core.config.shard.0;
        let key = core.new_key();
        core.here.claim(key);
        core.here.hold(run.first..=run.last, core.log_of(run.first, run.last));
        let built = {
            let (kind, bytes) = core.extent_of(&run);
            let _turn = core.turn_for(kind, None, bytes).await;
            core.build(key, &run).await
        };
        core.here.let_go();
        let put = match built {
            Ok(Some(put)) => put,
            other => {
                core.here.give_up(key, None);
                // Nothing is wrong with what is read while there is no room for what is written.
                if !matches!(&other, Err(error) if error.kind() == io::ErrorKind::StorageFull) {
                    self.passed_over.note(run.first, run.last);
                }
                return other.map(|_| Round::Later);
            }
        };
        let (first, last, bytes) = (run.first.0, run.last.0, put.bytes);
        match self.place(key, put.into()).await {
            Proposed::Put => {
                tracing::info!(shard, object = %key, first, last, bytes, "old data became an object");
                return Ok(Round::Again);
            }
            Proposed::Refused => self.passed_over.note(run.first, run.last),
            Proposed::Lost => {}
        }
        Ok(Round::Later)
    }
}

impl Replica {
    /// How streams are to be compacted as long as this node leads, until the next call; others are not.
    pub fn compact(&self, policies: BTreeMap<StreamId, CompactionPolicy>) {
        self.inner.core.wish_compaction(policies);
    }

    /// Every node of the cluster knows what objects are: from now on what is old is put into some.
    pub fn allow_objects(&self) {
        self.inner.core.allow_objects();
    }

    /// What takes long and is under way for the shard.
    #[must_use]
    pub fn long_work(&self) -> Vec<Work> {
        let core = &self.inner.core;
        core.pace.works().of(core.config.shard)
    }

    /// The objects of the shard, as far as they are here.
    #[must_use]
    pub fn objects(&self) -> ObjectCounts {
        self.inner.core.here.counts()
    }
}

impl Core {
    /// Whether `sources` have all that streams name of what is in the place of an object.
    fn covers(&self, object: &PlacedObject, sources: &[Source]) -> bool {
        let is_covered = |file: FileNumber| sources.iter().any(|source| source.files().contains(&file));
        let mut next = Some(0);
        while let Some(from) = next {
            let state = self.state.read();
            let (named, behind) = state.shard.names_within(object.first, object.last, from, STREAMS_PER_LOOK);
            if named.into_iter().any(|file| !is_covered(file)) {
                return false;
            }
            next = behind;
        }
        true
    }

    /// The part of the log for which what is in the place of these ranges stands.
    fn log_of(&self, first: FileNumber, last: FileNumber) -> Option<RangeInclusive<LogIndex>> {
        let state = self.state.read();
        let ranges = state.shard.sealed_ranges().into_iter().filter(|range| (first..=last).contains(&range.file));
        let objects = state.shard.objects().into_iter().filter(|object| object.overlaps(first, last));
        let log =
            ranges.map(|range| (range.from, range.through)).chain(objects.map(|object| (object.from, object.through)));
        let log = log.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        log.map(|(from, through)| from..=through)
    }

    fn new_key(&self) -> ObjectKey {
        loop {
            let key = ObjectKey(self.env.random.next_u64());
            if key.0 > 0 && !self.index.objects().contains(key) {
                return key;
            }
        }
    }

    /// The other members, the leader first.
    fn others(&self) -> Vec<NodeId> {
        let leader = self.leadership.borrow().leader;
        let state = self.state.read();
        let members = state.membership.membership().nodes().map(|(id, _)| NodeId(*id));
        let mut others: Vec<NodeId> = members.filter(|id| *id != self.config.node).collect();
        others.sort_by_key(|id| (Some(*id) != leader, id.0));
        others
    }
}

/// After a failed write or sync nobody can say what is on the disk: trying again would be a lie.
fn stop_node(core: &Core, error: io::Error) {
    let (operation, dir) = ("write an object beside", core.index.dir().to_owned());
    let kind = error.kind();
    core.log.fail(operation, &dir, io::Error::new(kind, error.to_string()));
    core.fail(OutOfService::Files { shard: core.config.shard, operation, path: dir, source: Arc::new(error) });
}
