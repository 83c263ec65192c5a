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
mod place;
mod readers;
mod scrub;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base::time::{Duration, sleep, timeout};
use record::{FileNumber, NodeId, ObjectKey, StreamId, Term};
use shard::{Command, Outcome, PlacedObject};
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
pub(crate) use readers::Reader;
pub(crate) use scrub::scrub;
pub use work::{Work, WorkKind};

use crate::catch_up::{InstallError, InstallProgress, Puller};
use crate::core::Core;
use crate::errors::{OutOfService, ProposeError};
use crate::leadership::Leadership;
use crate::pending::Pending;
use crate::proposer::{Gate, Item};
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

/// What came of the proposal of an object.
enum Proposed {
    Put,
    /// The state does not want it any more.
    Refused,
    /// It was not proposed, or nobody knows yet.
    Lost,
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
            if core.is_failed() || core.full_disk.is_full() {
                return Ok(Round::Later);
            }
            behind = Some(missing.spot());
            if !self.make(&missing, &mut members).await? {
                round = Round::Later;
            }
        }
        self.lost.retain(|key, _| core.here.is_missing(*key));
        if core.is_failed() || core.full_disk.is_full() || !core.may_make_objects() {
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
            let turn = core.pace.turn().await;
            let work = core.begin_work(WorkKind::Bring, object.bytes);
            let donor = self.transport.donor(core.config.shard, member);
            let progress = InstallProgress::default();
            let mut puller = Puller::new(&*donor, &progress, None);
            let made = core.make_as_there(&mut puller, object, &work).await;
            drop((work, turn));
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
            let _turn = core.pace.turn().await;
            let kind =
                if run.sources.len() > 1 && !run.replaces.is_empty() { WorkKind::Merge } else { WorkKind::Build };
            let work = core.begin_work(kind, core.bytes_of_sources(&run.sources));
            core.build(key, &run, &work).await
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

    /// Proposes the command by which an object that was built here becomes one of the state.
    async fn place(&self, key: ObjectKey, command: Command) -> Proposed {
        let (core, shard) = (&self.core, self.core.config.shard.0);
        match core.propose_object(command).await {
            Ok(Outcome::PutObject(Ok(())) | Outcome::PutCompacted(Ok(()))) => {
                core.maintenance.notify_one();
                Proposed::Put
            }
            Ok(other) => {
                tracing::debug!(shard, object = %key, ?other, "an object was not wanted any more");
                core.here.give_up(key, None);
                Proposed::Refused
            }
            Err(ProposeError::Unknown) => {
                // It was proposed in a term in which this node led.
                let Leadership { term, leader, .. } = *core.leadership.borrow();
                let is_led_by_another = leader.is_some_and(|leader| leader != core.config.node);
                let last = if is_led_by_another { Term(term.0.saturating_sub(1)) } else { term };
                core.here.give_up(key, Some(last));
                Proposed::Lost
            }
            Err(error) => {
                tracing::debug!(shard, object = %key, %error, "an object was not proposed");
                core.here.give_up(key, None);
                Proposed::Lost
            }
        }
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

    /// The long work of the shard that is under way on this node.
    #[must_use]
    pub fn work(&self) -> Vec<Work> {
        self.inner.core.pace.work_of(self.inner.core.config.shard)
    }

    /// The objects of the shard, as far as they are here.
    #[must_use]
    pub fn objects(&self) -> ObjectCounts {
        self.inner.core.here.counts()
    }
}

impl Core {
    /// The other members, the leader first.
    fn others(&self) -> Vec<NodeId> {
        let leader = self.leadership.borrow().leader;
        let state = self.state.read();
        let members = state.membership.membership().nodes().map(|(id, _)| NodeId(*id));
        let mut others: Vec<NodeId> = members.filter(|id| *id != self.config.node).collect();
        others.sort_by_key(|id| (Some(*id) != leader, id.0));
        others
    }

    async fn propose_object(&self, put: Command) -> Result<Outcome, ProposeError> {
        let (answer, pending) = Pending::new();
        let item = Item::without_body(put, self.config.command_bytes_max, answer)?;
        // Past the queue's bound: writers that keep it full must not keep out what makes room.
        self.proposals.queue.push_over(item)?;
        pending.await
    }
}

/// After a failed write or sync nobody can say what is on the disk: trying again would be a lie.
fn stop_node(core: &Core, error: io::Error) {
    let (operation, dir) = ("write an object beside", core.index.dir().to_owned());
    let kind = error.kind();
    core.log.fail(operation, &dir, io::Error::new(kind, error.to_string()));
    core.fail(OutOfService::Files { shard: core.config.shard, operation, path: dir, source: Arc::new(error) });
}
