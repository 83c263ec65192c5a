//! Changes that operators make under load: shards move, nodes are emptied and take part again, and a
//! machine gets a new disk and comes back as another node. What is begun is ended, if need be after the
//! faults: an operator does not go home in between.

use std::sync::Arc;

use base::random::Random;
use base::task::spawn;
use base::time::{Duration, now, sleep, sleep_until, timeout};
use record::{NodeId, ShardId};
use replica::Replica;
use shard::Standing;

use super::some_machine;
use crate::machine::{Machine, host};
use crate::plan::{between, chance, pick};
use crate::watch::unsettled;
use crate::world::World;

/// How long an emptied node is left so.
const DRAINED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// One that is to be empty before has so long for it.
const EMPTIED_MAX: Duration = Duration::from_secs(40);
/// A shard that was moved is there within this time, or went elsewhere.
const MOVED_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at what comes of a change.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long a machine goes on with flipped bits.
const DAMAGED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// An answer of a machine that has another disk by now may be so late.
const TOLD_FOR: Duration = Duration::from_secs(5);
/// So many bits flip at once.
const FLIPS_MAX: u64 = 4;
/// So many places are looked at for one where something stands.
const PLACES_MAX: u64 = 50;
/// Pause between two tries of one command.
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// An answer to a command is waited for so long.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A node that is not empty after so many looks is kept, while there are faults.
const LOOKS_MAX: u32 = 40;

/// What some node that runs answers to a command.
async fn operate(world: &World, words: &[&str]) -> Result<String, String> {
    let running: Vec<_> = world.machines.iter().filter_map(|machine| machine.running()).collect();
    let Some(first) = running.first() else { return Err("no node runs".to_owned()) };
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let cluster = first.cluster.clone();
    drop(running);
    // As a task of its own: a node that is killed never answers.
    let asked = async move { cluster.operate(&words).await };
    timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// Tells a command again and again until it is done.
async fn insist(world: &World, words: &[&str]) {
    while let Err(error) = operate(world, words).await {
        tracing::debug!("{words:?}: {error}");
        sleep(TRY_PAUSE).await;
    }
}

/// A shard goes to other nodes, or prefers another leader.
pub(super) async fn move_shard(world: &Arc<World>, random: &dyn Random) {
    let mut nodes: Vec<NodeId> = Vec::new();
    for machine in &world.machines {
        nodes.extend(machine.running().map(|running| running.cluster.node_id()));
    }
    while nodes.len() > 3 {
        let place = usize::try_from(random.below(nodes.len() as u64)).expect("an index");
        nodes.remove(place);
    }
    if nodes.len() < 3 {
        return;
    }
    let first = usize::try_from(random.below(3)).expect("an index");
    nodes.rotate_left(first);
    let shard = ShardId(u32::try_from(1 + random.below(world.plan.shards as u64)).expect("few shards"));
    if placements(world, shard).contains(&nodes) {
        // It would stay where it is.
        nodes.rotate_left(1);
    }
    let voters = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    world.tries("move", || format!("shard {shard} to {voters}"));
    let is_new = !placements(world, shard).contains(&nodes);
    let answer = operate(world, &["move", &shard.to_string(), &voters]).await;
    if let Err(why) = &answer {
        return world.refused("move", || format!("shard {shard} to {voters}: {why}"));
    }
    let of = Arc::clone(world);
    drop(spawn("move", async move {
        let is_there = || placements(&of, shard).contains(&nodes) && votes_of(&of, shard) == Some(sorted(&nodes));
        if is_new && comes_true(MOVED_MAX, is_there).await {
            of.fault("move", || format!("shard {shard} is at {voters}"));
        } else {
            of.refused("move", || format!("shard {shard} to {voters}: {answer:?}, and it is not there"));
        }
    }));
}

/// Where a shard is to be, as each node that runs knows it.
fn placements(world: &World, shard: ShardId) -> Vec<Vec<NodeId>> {
    let running = world.machines.iter().filter_map(|machine| machine.running());
    running.filter_map(|running| Some(running.cluster.metadata().shard_record(shard)?.voters.clone())).collect()
}

/// Who decides in a shard, as its leader says; none while there is no leader or votes are changing.
fn votes_of(world: &World, shard: ShardId) -> Option<Vec<NodeId>> {
    let running = world.machines.iter().filter_map(|machine| machine.running());
    let mut replicas = running.filter_map(|running| running.cluster.replica(shard));
    let members = replicas.find(Replica::is_leader)?.members();
    (!members.is_changing()).then(|| members.voters.iter().flatten().copied().collect())
}

fn sorted(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

/// Whether something comes true within a time.
async fn comes_true(wait_max: Duration, is_true: impl Fn() -> bool) -> bool {
    let looks = async {
        while !is_true() {
            sleep(LOOK_PAUSE).await;
        }
    };
    timeout(wait_max, looks).await.is_ok()
}

/// Others than `machine` that run.
fn others(world: &World, machine: &Machine) -> usize {
    world.machines.iter().filter(|other| other.place != machine.place && other.running().is_some()).count()
}

/// A node is emptied and takes part again.
pub(super) fn drain(world: &Arc<World>, random: &dyn Random) {
    let machine = some_machine(world, random);
    let Some(running) = machine.running() else { return };
    if world.changes.lock().iter().any(|change| !change.is_finished()) || others(world, machine) < 2 {
        return;
    }
    let node = running.cluster.node_id().to_string();
    drop(running);
    world.tries("drain", || format!("{} as node {node}", host(machine.place)));
    let lasts = between(random, DRAINED.0, DRAINED.1);
    // Half of them are interrupted, wherever they are.
    let is_awaited = chance(random, 2);
    let of = Arc::clone(world);
    let change = spawn("drain", async move {
        let answer = operate(&of, &["drain", &node]).await;
        let emptied = async {
            let wait_max = if is_awaited { EMPTIED_MAX } else { lasts };
            let until = now() + lasts;
            let emptied = answer.is_ok() && comes_true(wait_max, || is_empty(&of, &node)).await;
            sleep_until(until).await;
            emptied
        };
        if emptied.await {
            of.fault("drain", || format!("node {node} is empty"));
        } else {
            of.refused("drain", || format!("node {node}: {answer:?}, and it is not empty"));
        }
        insist(&of, &["resume", &node]).await;
    });
    note(world, change);
}

/// Whether a node is to be emptied and no shard counts on it any more, as their leaders say.
fn is_empty(world: &World, node: &str) -> bool {
    let Ok(node) = node.parse().map(NodeId) else { return false };
    let running = world.machines.iter().filter_map(|machine| machine.running());
    let shards = running.map(|running| {
        let metadata = running.cluster.metadata();
        let drains = metadata.standing(node) == Some(Standing::Draining);
        drains.then(|| metadata.shard_records().iter().map(|record| record.id).collect::<Vec<_>>())
    });
    let shards: Vec<ShardId> = shards.flatten().flatten().collect();
    let lacks = |shard: &ShardId| votes_of(world, *shard).is_some_and(|voters| !voters.contains(&node));
    !shards.is_empty() && shards.iter().all(lacks)
}

/// A node is emptied and removed, and its machine comes back with an empty disk as another node.
pub(super) fn replace(world: &Arc<World>, random: &dyn Random) {
    let machine = Arc::clone(pick(random, &world.machines));
    let Some(running) = machine.running() else { return };
    if world.changes.lock().iter().any(|change| !change.is_finished())
        || others(world, &machine) < 2
        || (world.machines.len() == 3 && chance(random, 2))
    {
        return;
    }
    let node = running.cluster.node_id().to_string();
    drop(running);
    world.tries("replace", || format!("{} as node {node}", host(machine.place)));
    let of = Arc::clone(world);
    let change = spawn("replace", async move {
        if take_out(&of, &node, LOOKS_MAX).await {
            of.fault("replace", || format!("{}, node {node} is removed", host(machine.place)));
            machine.replace();
        } else {
            of.refused("replace", || format!("{}, node {node} is not empty", host(machine.place)));
            insist(&of, &["resume", &node]).await;
        }
    });
    note(world, change);
}

/// Empties a node and removes it; whether that was done, after at most so many looks.
async fn take_out(world: &World, node: &str, looks_max: u32) -> bool {
    let _ = operate(world, &["drain", node]).await;
    let mut looks = 0;
    loop {
        sleep(TRY_PAUSE).await;
        match operate(world, &["remove", node]).await {
            Ok(_) => return true,
            // Done by a try that was not answered.
            Err(error) if error.contains("there is no such node") => return true,
            Err(error) => tracing::debug!("remove {node}: {error}"),
        }
        looks += 1;
        if looks >= looks_max && !is_removed(world, node) {
            return false;
        }
    }
}

/// Some bits of what a machine has on its disk flip, while it runs or is off. Whatever it makes of that, nobody may be
/// told anything wrong; then it gets another disk. Only while all copies are whole: a second one that is damaged, or
/// a disk that is replaced meanwhile, would be more than what a cluster bears.
pub(super) fn flip_bits(world: &Arc<World>, random: &dyn Random) {
    let machine = Arc::clone(some_machine(world, random));
    let Some(running) = machine.running() else { return };
    if world.changes.lock().iter().any(|change| !change.is_finished()) || unsettled(world).is_some() {
        return;
    }
    let node = running.cluster.node_id().to_string();
    drop(running);
    let is_off = chance(random, 2);
    if is_off {
        machine.kill();
    }
    let flipped: Vec<String> = (0..1 + random.below(FLIPS_MAX)).filter_map(|_| flip(&machine, random)).collect();
    world.fault("flipped bits", || format!("{} as node {node}: {flipped:?}, off: {is_off}", host(machine.place)));
    world.set_damaged(true, !is_off);
    machine.start();
    let lasts = between(random, DAMAGED.0, DAMAGED.1);
    let of = Arc::clone(world);
    let change = spawn("flipped bits", async move {
        sleep(lasts).await;
        while !take_out(&of, &node, LOOKS_MAX).await {}
        machine.replace();
        // Until then a client may still be asking whoever it was.
        sleep(TOLD_FOR).await;
        of.set_damaged(false, false);
    });
    note(world, change);
}

/// Flips a bit of a byte that is not zero; in which file and where.
fn flip(machine: &Machine, random: &dyn Random) -> Option<String> {
    let files: Vec<_> = machine.disk.files().into_iter().filter(|(_, len)| *len > 0).collect();
    if files.is_empty() {
        return None;
    }
    let (path, len) = pick(random, &files);
    let contents = machine.disk.contents(path);
    let mut places = (0..PLACES_MAX).map(|_| random.below(*len));
    let position = places.find(|position| contents[usize::try_from(*position).expect("it fits memory")] != 0)?;
    machine.disk.flip(path, position, 1 << random.below(8));
    Some(format!("{} at {position}", path.display()))
}

/// Whether some node knows that the other one was removed.
fn is_removed(world: &World, node: &str) -> bool {
    let Ok(node) = node.parse().map(NodeId) else { return false };
    world
        .machines
        .iter()
        .filter_map(|machine| machine.running())
        .any(|running| running.cluster.metadata().node(node).is_none())
}

fn note(world: &World, change: base::task::JoinHandle<()>) {
    let mut changes = world.changes.lock();
    changes.retain(|change| !change.is_finished());
    changes.push(change);
}
