//! Wall clocks that jump, fewer than half of them at a time: where most are wrong, their time counts.

use base::random::Random;
use base::time::{Duration, sleep};

use super::some_machine;
use crate::machine::{CLOCK_REMEMBERED, host};
use crate::plan::{between, chance, pick};
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;
const JUMPS_MS: [i64; 6] = [1_000, 10_000, HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS, -365 * 24 * HOUR_MS];

pub(super) async fn jump(world: &World, random: &dyn Random) {
    let machine = some_machine(world, random);
    let by_ms = *pick(random, &JUMPS_MS);
    let returns = !chance(random, 4);
    world.fault("clock jump", || format!("{} by {by_ms} ms, returns: {returns}", host(machine.place)));
    // Of those that were wrong before, somebody has seen to so many; what they said is soon forgotten.
    let others_max = (world.machines.len() - 1) / 2 - 1;
    loop {
        let others = world.machines.iter().filter(|other| other.place != machine.place && other.clock_may_mislead());
        let others: Vec<_> = others.collect();
        if others.len() <= others_max {
            break;
        }
        others[others_max..].iter().for_each(|other| other.set_clock_right());
        sleep(CLOCK_REMEMBERED).await;
    }
    machine.jump_clock(by_ms);
    if returns {
        sleep(between(random, Duration::from_secs(1), Duration::from_secs(20))).await;
        machine.set_clock_right();
    }
}
