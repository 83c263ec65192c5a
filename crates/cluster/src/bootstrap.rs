//! The start of a node: whose directory it is, the commit log, the metadata group, what a first start
//! writes into it, then the data shards.
//!
//! A first start that was interrupted is gone on with: each step is taken when its result is not there
//! yet. A node of several answers the others from the moment when its log is open, because none of them
//! can start without the others.

use std::sync::Arc;

use base::Env;
use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use record::NodeId;
use replica::{Founding, Replica};
use shard::commands::Configure;
use shard::{Command, NodeAddress, Outcome, Settings};
use storage::data_dir::{Claim, Contact, DataDir, covered};
use storage::{CommitLog, Options};
use tokio::sync::watch;

use crate::announce::{contact_addresses, follow_addresses, keep_announcing, named_by};
use crate::belonging::{Look, in_the_way, is_alone, removed, sole, stay_sole, told_soon};
use crate::cluster::{INTERNAL_LISTENER, Inner, METADATA};
use crate::config::{self, Config};
use crate::errors::StartError;
use crate::features::{check_features, keep_features};
use crate::found::found;
use crate::giving_up::settle_giving_up;
use crate::hampered::watch;
use crate::host::Host;
use crate::host::keeping::keep_hosting;
use crate::join::{self, Settled};
use crate::lost::keep_removing;
use crate::members::keep_members;
use crate::messages::Join;
use crate::moves::keep_moving;
use crate::node::Node;
use crate::peers::{Gate, Listener, Me, Peers, Service};
use crate::placement::keep_placing;
use crate::serving::Serving;
use crate::slots::keep_moving_slots;
use crate::statuses::{exchange, tell_leaders};
use crate::switch::look_elsewhere;
use crate::work::Work;

/// What one shard can have queued at the commit log at most: its entries in flight, each as large
/// as an entry may be. The log's own bound is never met, so that no append is refused there.
const QUEUED_BYTES_PER_SHARD: usize = 8 * (5 << 20);
pub(crate) async fn start(env: Env, config: Config) -> Result<Inner, StartError> {
    replica::act_together();
    let mut claim = Claim::take(&env, &config.data_dir).await?;
    if claim.gives_up() {
        settle_giving_up(&env, &config, claim).await?;
        claim = Claim::take(&env, &config.data_dir).await?;
    }
    let lost = claim.lost().cloned();
    if lost.as_ref().is_some_and(|lost| !lost.done) {
        return Err(StartError::RecoveryInterrupted { path: config.data_dir });
    }
    let lost = lost.map(|lost| lost.nodes).unwrap_or_default();
    // Before anything is recovered: an address in use is told at once.
    let listener = match config.listen {
        Some(address) => {
            let bound = Listener::bind(&env, address).await;
            Some(bound.map_err(|source| StartError::Listen { address, source })?)
        }
        None => None,
    };
    let listening = listener.as_ref().and_then(|listener| listener.local_address().ok());
    let identity = claim.identity();
    let me = Me {
        cluster: identity.and_then(|identity| identity.cluster).unwrap_or(0),
        node: identity.map_or(NodeId(0), |identity| identity.node_id),
        life: env.random.next_u64(),
        features: config.features_known,
    };
    let peers = Peers::new(env.clone(), me);
    peers.set_lost(lost.clone());
    let wished = u32::try_from(config.data_shards()).expect("at most 64 shards");
    let node = Arc::new(Node::new(env.clone(), peers.clone(), wished));
    // Dropped, and so ended, when the start fails.
    let mut tasks = Tasks::default();
    if let Some(listener) = listener {
        tracing::info!(address = ?listening, "listening for other nodes");
        let serving = Arc::new(Serving::new(Arc::clone(&node)));
        let gate: Arc<dyn Gate> = Arc::<Serving>::clone(&serving);
        let service: Arc<dyn Service> = serving;
        tasks.0.push(listener.serve(gate, service));
    }
    let addresses = addresses(&config, listening);
    let data_dir = claim_identity(&env, claim, &config, &peers, &addresses).await?;
    let identity = data_dir.identity();
    peers.set_me(identity.cluster.unwrap_or(0), identity.node_id);
    let (log, payload_bytes_max) = open_log(&env, &config, &data_dir).await?;
    let first = node.data_dir.set(Arc::clone(&data_dir)).is_ok();
    assert!(first, "a node has one directory");
    let host = Arc::new(Host::new(Arc::clone(&node), config, Arc::clone(&data_dir), log, payload_bytes_max));
    let look = Look::start(&peers, &host.config.join);
    let (metadata, cluster_id) = tokio::select! {
        known = metadata(&host, &mut tasks, &addresses) => known?,
        error = in_the_way(&host, &look) => return Err(error),
    };
    data_dir.set_cluster(cluster_id).await?;
    data_dir.end_joining()?;
    peers.set_me(cluster_id, identity.node_id);
    let alone = is_alone(&metadata, identity.node_id);
    // A shard that this node founded with its cluster is founded by nobody else. One that it is to found
    // is left to the task that does that.
    let founding = if alone { Founding::Alone } else { Founding::Invited };
    // What is not here is brought while the node serves, but for what a lone node founds with its cluster: that it does before
    // the first topic is there. What it was recovered without is lost, and not founded again.
    let is_founded = metadata.state().topic_count() > 0;
    let mut here = Vec::new();
    for shard in host.to_run().await? {
        let is_in_use = metadata.state().founder(shard).is_none();
        if is_in_use && (host.has(shard) || alone && !is_founded) {
            here.push(shard);
        }
    }
    let from = &host;
    let starts = here.into_iter().map(|shard| async move {
        match from.start(shard, founding).await {
            Ok(replica) => Ok(Some(replica)),
            // It is brought here anew while the node serves.
            Err(StartError::SetAside { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let replicas: Vec<Replica> = try_join_all(starts).await?.into_iter().flatten().collect();
    let failure = watch::Sender::new(None);
    if !alone {
        let (stranger, is_removed) = tokio::join!(look.found_soon(), told_soon(&peers));
        if let Some(stranger) = stranger {
            return Err(stranger.refuses_host(&host));
        }
        if is_removed {
            return Err(removed(&host));
        }
        tasks.0.push(look.go_on(&host, failure.clone()));
    } else if !peers.known().is_empty() {
        // It decides alone, and others know whether it does so twice.
        told_soon(&peers).await;
    }
    sole(&host).await?;
    if alone {
        // One that is out of service was reported; the others serve.
        for replica in replicas.iter().filter(|replica| replica.failure().borrow().is_none()) {
            configure(replica, &host.config).await?;
        }
    }
    tasks.0.extend([
        tell_leaders(&node),
        keep_members(&node),
        keep_placing(&node, host.config.balance_wait),
        keep_moving(&node),
        keep_moving_slots(&node),
        keep_hosting(&host, failure.clone()),
        keep_announcing(&node, host.config.rack.clone(), addresses, alone, failure.clone()),
        keep_configuring(&host),
        watch(&host),
        stay_sole(&host, failure.clone()),
        keep_features(&node, failure.clone()),
    ]);
    if !lost.is_empty() {
        tasks.0.push(keep_removing(&host, lost));
    }
    if alone && !host.config.join.is_empty() {
        tasks.0.push(look_elsewhere(&node, host.config.join.clone(), failure.clone()));
    }
    Ok(Inner {
        node,
        host,
        metadata,
        listening,
        cluster_id,
        work: Work::default(),
        new_partitions: Arc::default(),
        failure,
        tasks: Mutex::new(std::mem::take(&mut tasks.0)),
    })
}

/// Tasks of a start, which end with it when it fails.
#[derive(Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Where this node is reached, by clients and by other nodes.
fn addresses(config: &Config, listening: Option<std::net::SocketAddr>) -> Vec<NodeAddress> {
    let mut addresses = config.addresses.clone();
    if let Some(bound) = listening {
        let (host, port) = config.advertised.clone().unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
        let port = if port == 0 { bound.port() } else { port };
        addresses.push(NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host, port });
    }
    addresses.sort_by(|left, right| left.listener.cmp(&right.listener));
    addresses
}

/// Whose the directory is: the node's that was here before, the first one's of a new cluster, or that of
/// one more node of a cluster that is found.
async fn claim_identity(
    env: &Env,
    mut claim: Claim,
    config: &Config,
    peers: &Peers,
    addresses: &[NodeAddress],
) -> Result<Arc<DataDir>, StartError> {
    // What an operator said when the node gave up its own cluster counts more than what is configured.
    let told = claim.joining().map(|joining| joining.addresses.clone()).filter(|addresses| !addresses.is_empty());
    let wanted = told.unwrap_or_else(|| config.join.clone());
    if claim.identity().is_some() || wanted.is_empty() {
        return Ok(Arc::new(claim.founded(env).await?));
    }
    if config.listen.is_none() {
        return Err(StartError::NoListener);
    }
    let birth = claim.birth(env).await?;
    let join = Join { birth, rack: config.rack.clone(), addresses: addresses.to_vec() };
    let data_dir = match join::settle(peers, &wanted, &join).await {
        Settled::Found => claim.founded(env).await?,
        Settled::Joined(joined) => {
            tracing::info!(node = joined.node.0, cluster = format!("{:032x}", joined.cluster), "joined a cluster");
            let contact =
                |place: crate::messages::Place| Contact { node: place.node, host: place.host, port: place.port };
            let members = joined.members.into_iter().map(contact).collect();
            claim.joined(env, joined.node, joined.cluster, members).await?
        }
    };
    Ok(Arc::new(data_dir))
}

pub(crate) async fn open_log(
    env: &Env,
    config: &Config,
    data_dir: &DataDir,
) -> Result<(Arc<CommitLog>, usize), StartError> {
    let options = Options {
        segment_bytes: config.segment_bytes,
        ready_segments: config.ready_segments,
        memory_bytes: config.log_memory_bytes,
        read_cache_bytes: config.read_cache_bytes,
        reserve_bytes: config.reserve_bytes,
        queue_bytes: QUEUED_BYTES_PER_SHARD * (config::SHARDS_MAX + 1),
        // Known to nobody outside of the directory.
        salt: data_dir.identity().salt(),
        covered: covered(&*env.disk, &config.data_dir).await.map_err(StartError::Checkpoints)?,
        ..Options::default()
    };
    let payload_bytes_max = options.entry_bytes_max();
    let (log, recovered) = CommitLog::open(Arc::clone(&env.disk), &data_dir.log_dir(), options).await?;
    for shard in &recovered {
        for damage in &shard.damage {
            tracing::error!(
                shard = shard.shard.0,
                file = %damage.file.display(),
                position = damage.position,
                bytes = damage.bytes,
                "the commit log is damaged here; what lies in the damage is not served"
            );
        }
    }
    Ok((Arc::new(log), payload_bytes_max))
}

/// This node's copy of the metadata, which names the node, and the cluster's id.
async fn metadata(
    host: &Arc<Host>,
    tasks: &mut Tasks,
    addresses: &[NodeAddress],
) -> Result<(Replica, u128), StartError> {
    let node = &host.node;
    let joining = host.data_dir.joining().await?;
    let identity = host.data_dir.identity();
    // Only the first start of a cluster's first node founds the group.
    let founding = if identity.cluster.is_none() { Founding::Alone } else { Founding::Invited };
    let had = host.log.shard(METADATA).log_state();
    if founding == Founding::Invited {
        if had.last.is_none() && had.purged.is_none() && joining.is_none() {
            return Err(StartError::Emptied { path: host.data_dir.path().to_owned(), node: identity.node_id });
        }
        // Somebody has to be known who can give the metadata.
        node.peers.set_addresses(contact_addresses(joining.iter().flat_map(|joining| &joining.members)));
        tasks.0.push(exchange(node));
    }
    let started = host.start(METADATA, founding).await;
    let mut replica = started.map_err(|error| match error {
        StartError::SetAside { .. } => {
            StartError::MetadataDamaged { path: host.data_dir.path().to_owned(), node: identity.node_id }
        }
        error => error,
    })?;
    check_features(host.data_dir.path(), &replica, host.config.features_known)?;
    if let Some(failure) = &*replica.failure().borrow() {
        return Err(StartError::Metadata { reason: failure.to_string() });
    }
    if founding == Founding::Alone {
        tasks.0.push(exchange(node));
    }
    let contacts = joining.map(|joining| joining.members).unwrap_or_default();
    loop {
        let mut following = Tasks(vec![follow_addresses(node, &replica, contacts.clone())]);
        let known = if is_alone(&replica, identity.node_id) {
            node.clock.starts_alone();
            let cluster_id = found(host, &replica, addresses).await?;
            node.peers.set_me(cluster_id, identity.node_id);
            Some(cluster_id)
        } else {
            named_by(host, &replica).await?
        };
        if let Some(cluster_id) = known {
            tasks.0.append(&mut following.0);
            return Ok((replica, cluster_id));
        }
        drop((following, replica));
        host.renew(METADATA).await?;
        replica = host.start(METADATA, Founding::Invited).await?;
    }
}

/// The bounds of a shard where they are not the configured ones.
fn wanted_settings(replica: &Replica, config: &Config) -> Option<Settings> {
    let state = replica.state();
    let settings = Settings {
        producers_max: config.producers_per_shard_max,
        producer_expiry_ms: config.producer_expiration_ms,
        ..*state.settings()
    };
    (settings != *state.settings()).then_some(settings)
}

async fn configure(replica: &Replica, config: &Config) -> Result<(), StartError> {
    if let Some(settings) = wanted_settings(replica, config) {
        propose(replica, Configure { settings }.into()).await?;
    }
    Ok(())
}

/// Tells the shards that this node comes to lead their bounds, until the task is aborted.
fn keep_configuring(host: &Arc<Host>) -> JoinHandle<()> {
    let weak = Arc::downgrade(host);
    spawn("settings of shards", async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            let Some(host) = weak.upgrade() else { return };
            let led = host.node.shards.replicas().into_iter();
            for replica in led.filter(|replica| replica.shard_id() != METADATA && replica.is_leader()) {
                if let Err(error) = configure(&replica, &host.config).await {
                    tracing::debug!(shard = replica.shard_id().0, %error, "settings are told later");
                }
            }
        }
    })
}

pub(crate) async fn propose(replica: &Replica, command: Command) -> Result<Outcome, StartError> {
    replica.propose(command).await.map_err(|error| StartError::Metadata { reason: error.to_string() })
}
