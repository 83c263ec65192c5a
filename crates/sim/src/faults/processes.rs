//! Processes that end and machines that lose power.

use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, sleep};

use super::{may_go_down, some_machine};
use crate::machine::{Machine, host};
use crate::plan::{between, chance};
use crate::world::World;

/// How long a machine is down.
const DOWN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// A process that stops in order has so long.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Now and then the majority is gone, too.
const MAJORITY_ONE_IN: u64 = 8;
/// A machine loses power within so many writes and syncs, or so many files that are begun.
const OPERATIONS_MAX: u64 = 300;
const BEGINNINGS_MAX: u64 = 4;

fn machine<'a>(world: &'a World, random: &dyn Random) -> Option<&'a Arc<Machine>> {
    let machine = some_machine(world, random);
    let goes = machine.running().is_some() && (may_go_down(world, machine) || chance(random, MAJORITY_ONE_IN));
    goes.then_some(machine)
}

pub(super) async fn kill(world: &World, random: &dyn Random) {
    let Some(machine) = machine(world, random) else { return };
    world.fault("kill", || host(machine.place));
    machine.kill();
    sleep(between(random, DOWN.0, DOWN.1)).await;
    machine.start();
}

pub(super) async fn power_off(world: &World, random: &dyn Random) {
    let Some(machine) = machine(world, random) else { return };
    world.fault("power off", || host(machine.place));
    machine.power_off();
    sleep(between(random, DOWN.0, DOWN.1)).await;
    machine.start();
}

pub(super) async fn power_off_at_operation(world: &World, random: &dyn Random) {
    let Some(machine) = machine(world, random) else { return };
    if chance(random, 3) {
        let files = random.below(BEGINNINGS_MAX);
        world.fault("power off at an operation", || format!("{} after {files} beginnings", host(machine.place)));
        machine.power_off_after_beginning(files);
    } else {
        let operations = random.below(OPERATIONS_MAX);
        world.fault("power off at an operation", || format!("{} after {operations}", host(machine.place)));
        machine.power_off_after(operations);
    }
    if !machine.ended(STOP_MAX).await {
        machine.power_off();
    }
    // Often at once, so that recoveries are interrupted, too.
    let down = if chance(random, 3) { Duration::from_millis(1) } else { between(random, DOWN.0, DOWN.1) };
    sleep(down).await;
    machine.start();
    if chance(random, 3) {
        let operations = random.below(OPERATIONS_MAX);
        world.fault("power off at an operation", || format!("{} after {operations}, again", host(machine.place)));
        machine.power_off_after(operations);
        machine.ended(STOP_MAX).await;
        machine.start();
    }
}

/// Stops in order and starts again; sometimes all machines one after the other.
pub(super) async fn restart(world: &World, random: &dyn Random) {
    if chance(random, 3) {
        world.fault("restart", || "all, one after the other".to_owned());
        for machine in &world.machines {
            restart_one(machine, random).await;
            let ready = async {
                while machine.running().is_none() {
                    sleep(Duration::from_millis(100)).await;
                }
            };
            let _ = base::time::timeout(STOP_MAX, ready).await;
        }
    } else if let Some(machine) = machine(world, random) {
        world.fault("restart", || host(machine.place));
        restart_one(machine, random).await;
    }
}

async fn restart_one(machine: &Arc<Machine>, random: &dyn Random) {
    if machine.stop() && !machine.ended(STOP_MAX).await {
        machine.kill();
    }
    sleep(between(random, Duration::ZERO, Duration::from_secs(3))).await;
    machine.start();
}

/// The whole room is dark.
pub(super) async fn all_power_off(world: &World, random: &dyn Random) {
    if !chance(random, 2) {
        return;
    }
    world.fault("all power off", String::new);
    world.machines.iter().for_each(|machine| machine.power_off());
    sleep(between(random, Duration::from_millis(200), Duration::from_secs(5))).await;
    for machine in &world.machines {
        sleep(between(random, Duration::ZERO, Duration::from_millis(500))).await;
        machine.start();
    }
}
