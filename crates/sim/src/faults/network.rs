//! Ways that close, connections that end or swallow, and time that pieces lose.

use std::net::IpAddr;

use base::random::Random;
use base::time::{Duration, sleep};

use super::some_machine;
use crate::machine::host;
use crate::plan::{between, chance, pick};
use crate::world::World;

/// How long a way is closed or slow.
const LASTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));
/// What a slow way adds at most.
const DELAY_MAX: Duration = Duration::from_millis(800);

fn nodes(world: &World) -> Vec<IpAddr> {
    world.machines.iter().map(|machine| machine.address).collect()
}

fn everybody(world: &World) -> Vec<IpAddr> {
    nodes(world).into_iter().chain(world.client_addresses()).collect()
}

/// Nodes, sometimes with clients, fall into two halves that do not hear each other.
pub(super) async fn partition(world: &World, random: &dyn Random) {
    let all = if chance(random, 2) { everybody(world) } else { nodes(world) };
    let (one, other): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(|_| chance(random, 2));
    if one.is_empty() || other.is_empty() {
        return;
    }
    world.fault("partition", || format!("{one:?} from {other:?}"));
    let ways: Vec<(IpAddr, IpAddr)> =
        one.iter().flat_map(|one| other.iter().flat_map(|other| [(*one, *other), (*other, *one)])).collect();
    close(world, random, &ways).await;
}

/// Some ways between nodes are closed in one direction.
pub(super) async fn one_way(world: &World, random: &dyn Random) {
    let nodes = nodes(world);
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to);
    let ways: Vec<(IpAddr, IpAddr)> = pairs.filter(|_| chance(random, 3)).collect();
    world.fault("one way", || format!("{ways:?}"));
    close(world, random, &ways).await;
}

/// One node hears nobody, is not heard, or both.
pub(super) async fn isolate(world: &World, random: &dyn Random) {
    let machine = some_machine(world, random);
    let (hears, is_heard) = *pick(random, &[(false, false), (true, false), (false, true)]);
    world.fault("isolate", || format!("{} hears: {hears}, is heard: {is_heard}", host(machine.place)));
    let others = if chance(random, 2) { everybody(world) } else { nodes(world) };
    let mut ways = Vec::new();
    for other in others.into_iter().filter(|other| *other != machine.address) {
        if !hears {
            ways.push((other, machine.address));
        }
        if !is_heard {
            ways.push((machine.address, other));
        }
    }
    close(world, random, &ways).await;
}

async fn close(world: &World, random: &dyn Random, ways: &[(IpAddr, IpAddr)]) {
    for (from, to) in ways {
        world.network.block(*from, *to);
    }
    sleep(between(random, LASTS.0, LASTS.1)).await;
    for (from, to) in ways {
        world.network.open(*from, *to);
    }
}

fn pair(world: &World, random: &dyn Random) -> (IpAddr, IpAddr) {
    let (nodes, everybody) = (nodes(world), everybody(world));
    let one = *pick(random, &nodes);
    loop {
        let other = *pick(random, &everybody);
        if other != one {
            return (one, other);
        }
    }
}

pub(super) async fn reset(world: &World, random: &dyn Random) {
    world.fault("reset", String::new);
    for _ in 0..1 + random.below(10) {
        let (one, other) = pair(world, random);
        world.network.reset(one, other);
        sleep(between(random, Duration::ZERO, Duration::from_millis(300))).await;
    }
}

pub(super) async fn swallow(world: &World, random: &dyn Random) {
    world.fault("swallow", String::new);
    for _ in 0..1 + random.below(4) {
        let (one, other) = pair(world, random);
        world.network.swallow(one, other);
        sleep(between(random, Duration::ZERO, Duration::from_secs(1))).await;
    }
}

pub(super) async fn delay(world: &World, random: &dyn Random) {
    let by = between(random, Duration::from_millis(5), DELAY_MAX);
    let nodes = nodes(world);
    let ways: Vec<(IpAddr, IpAddr)> = nodes
        .iter()
        .flat_map(|from| nodes.iter().map(|to| (*from, *to)))
        .filter(|(from, to)| from != to && chance(random, 2))
        .collect();
    world.fault("delay", || format!("{by:?} on {} ways", ways.len()));
    for (from, to) in &ways {
        world.network.delay(*from, *to, by);
    }
    sleep(between(random, LASTS.0, LASTS.1)).await;
    for (from, to) in &ways {
        world.network.delay(*from, *to, Duration::ZERO);
    }
}

/// Opens all ways.
pub(super) fn heal(world: &World) {
    let all = everybody(world);
    for from in &all {
        for to in &all {
            world.network.open(*from, *to);
            world.network.delay(*from, *to, Duration::ZERO);
        }
    }
}
