//! The groups that this node coordinates, and what their members ask.

use std::sync::Arc;

use base::task::AbortHandle;
use base::time::{self, Instant};
use base::{Env, task};
use cluster::Cluster;
use parking_lot::Mutex;
use record::{NodeId, Term};
use replica::Replica;
use shard::{GroupVersion, SlotMoveId};
use tokio::sync::Notify;

use super::api::{
    CoordinatorError, Heartbeat, HeartbeatError, JoinGroup, JoinGroupError, Joined, LeaveGroup, LeaveGroupError, Left,
    SyncGroup, SyncGroupError, Synced,
};
use super::group::{Group, coordinator_error, moment};
use super::in_use::InUse;
use super::leads::Leads;
use super::machine::{Event, Machine, Reply, Settings, Ticket, join_bytes};
use super::memory::GroupMemory;
use super::stored::Stored;
use super::tenure::tenure;
use super::watch;
use crate::Config;
use crate::topics::Cache;

/// What a command needs besides the members of a group.
const COMMAND_OVERHEAD_BYTES: usize = 64 << 10;
/// The longest group id.
const GROUP_ID_BYTES_MAX: usize = 1_024;
/// What a member's id repeats of the name that its client gave.
const NAME_BYTES_MAX: usize = 255;
/// Groups in use that have given out ids and have no members; the oldest make room.
const UNJOINED_MAX: usize = 10_000;

/// The groups that this node coordinates.
#[derive(Debug)]
pub struct Groups {
    pub(super) inner: Arc<Inner>,
    watching: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Inner {
    environment: Env,
    pub(super) cluster: Cluster,
    pub(super) config: Arc<Config>,
    pub(super) topics: Arc<Cache>,
    started: Instant,
    open: Mutex<InUse>,
    memory: Arc<GroupMemory>,
    pub(super) stored: Stored,
    leads: Leads,
    /// Offsets were refused because the node holds as many as it may.
    pub(super) offsets_refused: Arc<Notify>,
}

/// A group as it is stored.
struct Loaded {
    machine: Machine,
    version: GroupVersion,
    tenure: SlotMoveId,
}

/// A group as a request finds it.
pub(super) enum Found {
    /// In use: others may be at it at the same time.
    Open(Arc<Group>),
    /// Without members: what is durable is all there is, in this replica.
    Idle(Box<Machine>, Replica),
}

impl Groups {
    pub(crate) fn new(environment: Env, cluster: Cluster, config: Arc<Config>, topics: Arc<Cache>) -> Self {
        let started = time::now();
        let open = Mutex::new(InUse::new(config.groups_max, UNJOINED_MAX.min(config.groups_max)));
        let memory = GroupMemory::new(config.group_memory_bytes_max);
        let inner = Inner {
            environment,
            cluster,
            config,
            topics,
            started,
            open,
            memory,
            stored: Stored::default(),
            leads: Leads::default(),
            offsets_refused: Arc::new(Notify::new()),
        };
        let inner = Arc::new(inner);
        let watching = watch::start(&inner);
        Self { inner, watching }
    }

    /// Ends when the group's members have joined, which can take as long as the rebalance timeout.
    pub async fn join(&self, request: JoinGroup) -> Result<Joined, JoinGroupError> {
        if request.group_id.is_empty() || !is_storable(&request.group_id) {
            return Err(JoinGroupError::InvalidGroupId);
        }
        let config = &self.inner.config;
        let allowed = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(JoinGroupError::InvalidSessionTimeout);
        }
        // Groups that nobody has joined make room for others.
        let wanted = join_bytes(&request);
        while !self.inner.memory.has_room(wanted) && self.inner.open.lock().let_go_unjoined() {}
        let group = self.inner.open(&request.group_id).await?;
        let named_after = request.member.instance_id.as_deref().unwrap_or(&request.client_id);
        let uuid = uuid::Uuid::from_u128(self.inner.environment.random.uuid());
        let fresh_member_id = format!("{}-{uuid}", cut(named_after, NAME_BYTES_MAX));
        match group.request(|ticket| Event::Join { ticket, request, fresh_member_id }).await? {
            Reply::Join(result) => result,
            other => unreachable!("a join is answered as such, not {other:?}"),
        }
    }

    /// Ends when the leader's assignment is durable.
    pub async fn sync(&self, request: SyncGroup) -> Result<Synced, SyncGroupError> {
        if request.group_id.is_empty() {
            return Err(SyncGroupError::InvalidGroupId);
        }
        let answer = match self.inner.find(&request.group_id).await? {
            Found::Open(group) => group.request(|ticket| Event::Sync { ticket, request }).await?,
            Found::Idle(machine, _) => self.inner.alone(*machine, |ticket| Event::Sync { ticket, request }),
        };
        match answer {
            Reply::Sync(result) => result,
            other => unreachable!("a sync is answered as such, not {other:?}"),
        }
    }

    pub async fn heartbeat(&self, request: Heartbeat) -> Result<(), HeartbeatError> {
        if request.group_id.is_empty() {
            return Err(HeartbeatError::InvalidGroupId);
        }
        let Heartbeat { group_id, member, generation } = request;
        match self.inner.find(&group_id).await? {
            Found::Open(group) => {
                let answer = group.ask(|machine, now| Reply::Heartbeat(machine.heartbeat(now, &member, generation)));
                match answer.await? {
                    Reply::Heartbeat(result) => result,
                    other => unreachable!("a heartbeat is answered as such, not {other:?}"),
                }
            }
            Found::Idle(mut machine, _) => machine.heartbeat(moment(self.inner.started), &member, generation),
        }
    }

    pub async fn leave(&self, request: LeaveGroup) -> Result<Left, LeaveGroupError> {
        if request.group_id.is_empty() {
            return Err(LeaveGroupError::InvalidGroupId);
        }
        let LeaveGroup { group_id, members } = request;
        let answer = match self.inner.find(&group_id).await? {
            Found::Open(group) => group.request(|ticket| Event::Leave { ticket, members }).await?,
            Found::Idle(machine, _) => self.inner.alone(*machine, |ticket| Event::Leave { ticket, members }),
        };
        match answer {
            Reply::Leave(left) => Ok(left),
            other => unreachable!("a leave is answered as such, not {other:?}"),
        }
    }

    /// The node that coordinates the group, as far as this one knows.
    pub fn coordinator(&self, group_id: &str) -> Result<NodeId, CoordinatorError> {
        let cluster = &self.inner.cluster;
        let leader = cluster.leader(cluster.slot_shard(group_id));
        leader.ok_or(CoordinatorError::Unavailable("the group's shard has no leader"))
    }

    /// Who waits is sent away; nobody is let in any more.
    pub(crate) async fn shutdown(&self) {
        self.watching.abort();
        let groups: Vec<Arc<Group>> = {
            let mut open = self.inner.open.lock();
            open.stopped = true;
            open.all()
        };
        for group in groups {
            group.close(CoordinatorError::NotCoordinator { leader: None });
        }
    }
}

impl Inner {
    /// The shard of the group, if this node has it.
    pub(super) fn replica(&self, group_id: &str) -> Result<Replica, CoordinatorError> {
        let shard = self.cluster.slot_shard(group_id);
        let elsewhere = || CoordinatorError::NotCoordinator { leader: self.cluster.leader(shard) };
        self.cluster.replica(shard).ok_or_else(elsewhere)
    }

    /// The shard of the group, which this node leads and where the group's slot is, with everything applied that was
    /// committed before the call.
    pub(super) async fn coordinate(&self, group_id: &str) -> Result<(Replica, Term), CoordinatorError> {
        if self.open.lock().stopped {
            return Err(CoordinatorError::NotCoordinator { leader: None });
        }
        let (replica, term) = self.led(group_id)?;
        replica.read_barrier().await.map_err(|error| coordinator_error(&error))?;
        tenure(&replica.state(), group_id)?;
        Ok((replica, term))
    }

    /// The group, if it is in use.
    fn in_use(&self, group_id: &str) -> Result<Option<Arc<Group>>, CoordinatorError> {
        let found = self.open.lock().find(group_id);
        if matches!(found, Err(CoordinatorError::Loading)) {
            // It was closed and is loaded anew when its proposals have come to their end: where its shard is led.
            self.led(group_id)?;
        }
        found
    }

    /// The shard of the group with the term in which this node leads it.
    fn led(&self, group_id: &str) -> Result<(Replica, Term), CoordinatorError> {
        let replica = self.replica(group_id)?;
        let leadership = *replica.leadership().borrow();
        if !leadership.is_self {
            return Err(CoordinatorError::NotCoordinator { leader: leadership.leader });
        }
        tenure(&replica.state(), group_id)?;
        Ok((replica, leadership.term))
    }

    /// The group, in use or not.
    pub(super) async fn find(self: &Arc<Self>, group_id: &str) -> Result<Found, CoordinatorError> {
        if let Some(group) = self.in_use(group_id)? {
            self.leads.confirm(&group.replica).await?;
            self.check_held(&group)?;
            return Ok(Found::Open(group));
        }
        let (replica, term) = self.coordinate(group_id).await?;
        let loaded = self.load(group_id, &replica)?;
        if loaded.machine.is_idle() {
            return Ok(Found::Idle(Box::new(loaded.machine), replica));
        }
        self.put_in_use(group_id, replica, term, loaded).map(Found::Open)
    }

    /// The group, in use from now on.
    async fn open(self: &Arc<Self>, group_id: &str) -> Result<Arc<Group>, CoordinatorError> {
        if let Some(group) = self.in_use(group_id)? {
            self.leads.confirm(&group.replica).await?;
            self.check_held(&group)?;
            return Ok(group);
        }
        let (replica, term) = self.coordinate(group_id).await?;
        let loaded = self.load(group_id, &replica)?;
        if !loaded.machine.exists() {
            self.check_room_for_new(group_id, &replica)?;
        }
        self.put_in_use(group_id, replica, term, loaded)
    }

    /// Whether a group that is nowhere yet may come to be.
    pub(super) fn check_room_for_new(&self, group_id: &str, replica: &Replica) -> Result<(), CoordinatorError> {
        let stored = replica.state().group(group_id).is_some();
        if !stored && !self.stored.has_room(replica, self.config.groups_per_shard_max) {
            return Err(CoordinatorError::Unavailable("the shard holds as many groups as it may"));
        }
        Ok(())
    }

    /// A group without members is about to be stored.
    pub(super) fn note_added(&self, replica: &Replica) {
        self.stored.note_added(replica.shard_id());
    }

    /// Puts a group in use as it is stored, if it has members and is not in use.
    pub(super) fn put_stored_in_use(
        self: &Arc<Self>,
        group_id: &str,
        replica: &Replica,
        term: Term,
    ) -> Result<(), CoordinatorError> {
        if self.open.lock().find(group_id)?.is_some() {
            return Ok(());
        }
        let loaded = self.load(group_id, replica)?;
        if !loaded.machine.is_idle() {
            self.put_in_use(group_id, replica.clone(), term, loaded)?;
        }
        Ok(())
    }

    fn load(&self, group_id: &str, replica: &Replica) -> Result<Loaded, CoordinatorError> {
        let settings = self.settings(replica);
        let state = replica.state();
        let tenure = tenure(&state, group_id)?;
        let view = state.group(group_id);
        let version = view.map(|view| view.version).unwrap_or_default();
        let machine = match view.and_then(|view| view.record) {
            Some(record) => Machine::restore(record, moment(self.started), settings),
            None => Machine::new(group_id.to_owned(), settings),
        };
        Ok(Loaded { machine, version, tenure })
    }

    fn settings(&self, replica: &Replica) -> Settings {
        Settings {
            initial_rebalance_delay_ms: self.config.group_initial_rebalance_delay_ms,
            members_max: usize::try_from(self.config.group_size_max).unwrap_or(0),
            record_bytes_max: replica.command_bytes_max().saturating_sub(COMMAND_OVERHEAD_BYTES),
        }
    }

    fn put_in_use(
        self: &Arc<Self>,
        group_id: &str,
        replica: Replica,
        term: Term,
        Loaded { machine, version, tenure }: Loaded,
    ) -> Result<Arc<Group>, CoordinatorError> {
        let mut open = self.open.lock();
        // Another request may have been first; what it made is as good.
        if let Some(group) = open.find(group_id)? {
            return Ok(group);
        }
        let held = self.memory.hold(machine.bytes());
        let group = Group::new(machine, held, version, group_id.to_owned(), replica, (term, tenure), self.started);
        open.insert(&group)?;
        drop(open);
        let inner = Arc::clone(self);
        drop(task::spawn("group", inner.drive(Arc::clone(&group))));
        Ok(group)
    }

    /// Drives a group to its end. A driver that panics takes its group along: nobody may wait for it for ever.
    async fn drive(self: Arc<Self>, group: Arc<Group>) {
        struct Guard<'a>(&'a Inner, &'a Group);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    tracing::error!(group = self.1.id, "the driver of a group panicked: the group is loaded anew");
                    self.1.abandon();
                    self.0.open.lock().remove(self.1);
                }
            }
        }
        let _guard = Guard(&self, &group);
        Arc::clone(&group).drive(|group| self.retire(group)).await;
    }

    /// Takes a group out of use if nothing is left to do for it.
    fn retire(&self, group: &Group) -> bool {
        let mut open = self.open.lock();
        if !group.close_if_idle() {
            return false;
        }
        open.remove(group);
        true
    }

    /// An event for a group without members: it changes nothing and is answered at once.
    fn alone(&self, mut machine: Machine, event: impl FnOnce(Ticket) -> Event) -> Reply {
        let mut outputs = machine.step(moment(self.started), event(Ticket(0)));
        assert!(!outputs.persist, "a group without members is not changed by its members");
        let (_, reply) = outputs.replies.pop().expect("there is nobody to wait for");
        reply
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn wall_clock_ms(&self) -> i64 {
        self.environment.wall_clock.now_ms()
    }

    /// The groups in use, by id.
    pub(super) fn all_in_use(&self) -> Vec<Arc<Group>> {
        self.open.lock().all()
    }

    /// Lets go of a group that was deleted, if it is in use.
    pub(super) fn close_in_use(&self, group_id: &str) {
        if let Some(group) = self.open.lock().get(group_id) {
            group.close(CoordinatorError::Loading);
        }
    }
}

/// Whether a group of this name can be stored.
pub(super) fn is_storable(group_id: &str) -> bool {
    group_id.len() <= GROUP_ID_BYTES_MAX
}

/// The beginning of the text, at most so many bytes of it.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
