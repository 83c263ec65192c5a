//! Disks that are slow, full, or fail.

use base::random::Random;
use base::time::{Duration, sleep};

use super::{may_go_down, some_machine};
use crate::machine::{host, is_by_itself};
use crate::plan::between;
use crate::world::World;

/// How long a disk is slow or full.
const LASTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// A slow disk takes up to so long for a write or a sync.
const SLOW: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));
/// What a full disk still takes.
const LEFT_BYTES_MAX: u64 = 2 << 20;
/// A disk fails within so many writes and syncs.
const OPERATIONS_MAX: u64 = 200;
/// If it does by then.
const FAILS_MAX: Duration = Duration::from_secs(30);

pub(super) async fn slow(world: &World, random: &dyn Random) {
    let machine = some_machine(world, random);
    let latency_max = between(random, SLOW.0, SLOW.1);
    world.fault("slow disk", || format!("{} {latency_max:?}", host(machine.place)));
    machine.disk.set_options(|options| {
        options.latency_max = latency_max;
        options.read_latency = latency_max / 10;
    });
    sleep(between(random, LASTS.0, LASTS.1)).await;
    machine.disk.set_options(|options| {
        options.latency_max = world.plan.disk_latency_max;
        options.read_latency = Duration::ZERO;
    });
}

pub(super) async fn full(world: &World, random: &dyn Random) {
    let machine = some_machine(world, random);
    let used: u64 = machine.disk.files().iter().map(|(_, len)| len).sum();
    let capacity = used + random.below(LEFT_BYTES_MAX);
    world.fault("full disk", || format!("{} at {capacity} bytes", host(machine.place)));
    machine.disk.set_options(|options| options.capacity_bytes = capacity);
    sleep(between(random, LASTS.0, LASTS.1)).await;
    machine.disk.set_options(|options| options.capacity_bytes = world.plan.disk_bytes);
}

/// A write or a sync fails: the process must end by itself, and is started again on a disk that is well. It is a fault
/// when the process has ended by that, not by something else before.
pub(super) async fn failed(world: &World, random: &dyn Random) {
    let machine = some_machine(world, random);
    if !may_go_down(world, machine) {
        return;
    }
    let operations = random.below(OPERATIONS_MAX);
    let failures = machine.disk.failures();
    world.tries("failed disk", || format!("{} after {operations}", host(machine.place)));
    machine.disk.fail_after(operations);
    let ended = machine.ended(FAILS_MAX).await;
    let exit = machine.exit();
    let by_itself = ended && machine.disk.failures() > failures && exit.as_deref().is_some_and(is_by_itself);
    if by_itself {
        world.fault("failed disk", || format!("{} ended: {exit:?}", host(machine.place)));
    } else {
        world.refused("failed disk", || format!("{} ended: {ended}, {exit:?}", host(machine.place)));
    }
    if !ended {
        machine.disk.fail_after(u64::MAX);
        return;
    }
    sleep(between(random, Duration::from_millis(100), Duration::from_secs(5))).await;
    machine.start();
}

pub(super) fn heal(world: &World) {
    for machine in &world.machines {
        machine.disk.set_options(|options| {
            options.capacity_bytes = world.plan.disk_bytes;
            options.latency_max = world.plan.disk_latency_max;
            options.read_latency = Duration::ZERO;
        });
        machine.disk.fail_after(u64::MAX);
        machine.disk.crash_after(u64::MAX, || {});
    }
}
