//! What breaks, drawn from the seed: one file per kind of thing. Every fault ends by itself; several may
//! be there at once.

mod clocks;
mod disks;
mod members;
mod network;
mod processes;

use std::sync::Arc;

use base::random::{Random, SeededRandom};
use base::task::JoinSet;
use base::time::{Duration, sleep};

use crate::machine::Machine;
use crate::plan::{between, fork, pick};
use crate::world::World;

/// Pause between the beginnings of two faults.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(7));
/// So many faults are there at once.
const AT_ONCE_MAX: usize = 3;

/// The kinds, by the names under which they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kill,
    PowerOff,
    PowerOffAtOperation,
    Restart,
    Partition,
    OneWay,
    Isolate,
    Reset,
    Swallow,
    Delay,
    SlowDisk,
    FullDisk,
    FailedDisk,
    FlippedBits,
    ClockJump,
    AllPowerOff,
    Move,
    Drain,
    Replace,
}

/// All kinds; those that stand here several times are drawn as often. Bits flip only while all copies are whole.
const KINDS: [Kind; 25] = [
    Kind::Kill,
    Kind::PowerOff,
    Kind::PowerOffAtOperation,
    Kind::PowerOffAtOperation,
    Kind::Restart,
    Kind::Restart,
    Kind::Partition,
    Kind::Partition,
    Kind::OneWay,
    Kind::Isolate,
    Kind::Reset,
    Kind::Swallow,
    Kind::Delay,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::FailedDisk,
    Kind::FlippedBits,
    Kind::FlippedBits,
    Kind::FlippedBits,
    Kind::ClockJump,
    Kind::AllPowerOff,
    Kind::Move,
    Kind::Move,
    Kind::Drain,
    Kind::Replace,
];

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerOff => "power off",
            Self::PowerOffAtOperation => "power off at an operation",
            Self::Restart => "restart",
            Self::Partition => "partition",
            Self::OneWay => "one way",
            Self::Isolate => "isolate",
            Self::Reset => "reset",
            Self::Swallow => "swallow",
            Self::Delay => "delay",
            Self::SlowDisk => "slow disk",
            Self::FullDisk => "full disk",
            Self::FailedDisk => "failed disk",
            Self::FlippedBits => "flipped bits",
            Self::ClockJump => "clock jump",
            Self::AllPowerOff => "all power off",
            Self::Move => "move",
            Self::Drain => "drain",
            Self::Replace => "replace",
        }
    }

    /// Every kind once.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut kinds = KINDS.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// Breaks things until the task is aborted.
pub async fn run(world: Arc<World>) {
    let random = Arc::new(fork(world.plan.seed, "faults"));
    let mut underway = JoinSet::new();
    loop {
        sleep(between(&*random, PAUSE.0, PAUSE.1)).await;
        while underway.try_join_next().is_some() {}
        if underway.len() >= AT_ONCE_MAX {
            continue;
        }
        let kind = *pick(&*random, &KINDS);
        let own = Arc::new(SeededRandom::new(random.next_u64()));
        underway.spawn(one(Arc::clone(&world), kind, own));
    }
}

async fn one(world: Arc<World>, kind: Kind, random: Arc<SeededRandom>) {
    let random = &*random;
    match kind {
        Kind::Kill => processes::kill(&world, random).await,
        Kind::PowerOff => processes::power_off(&world, random).await,
        Kind::PowerOffAtOperation => processes::power_off_at_operation(&world, random).await,
        Kind::Restart => processes::restart(&world, random).await,
        Kind::AllPowerOff => processes::all_power_off(&world, random).await,
        Kind::Move => members::move_shard(&world, random).await,
        Kind::Drain => members::drain(&world, random),
        Kind::Replace => members::replace(&world, random),
        Kind::Partition => network::partition(&world, random).await,
        Kind::OneWay => network::one_way(&world, random).await,
        Kind::Isolate => network::isolate(&world, random).await,
        Kind::Reset => network::reset(&world, random).await,
        Kind::Swallow => network::swallow(&world, random).await,
        Kind::Delay => network::delay(&world, random).await,
        Kind::SlowDisk => disks::slow(&world, random).await,
        Kind::FullDisk => disks::full(&world, random).await,
        Kind::FailedDisk => disks::failed(&world, random).await,
        Kind::FlippedBits => members::flip_bits(&world, random),
        Kind::ClockJump => clocks::jump(&world, random).await,
    }
}

/// Ends all faults that are there, after [`run`] was aborted.
pub fn heal(world: &World) {
    network::heal(world);
    disks::heal(world);
}

/// Goes on with changes of members until they are done.
pub async fn finish(world: &Arc<World>) {
    loop {
        let Some(change) = world.changes.lock().pop() else { return };
        let _ = change.await;
    }
}

fn some_machine<'a>(world: &'a World, random: &dyn Random) -> &'a Arc<Machine> {
    pick(random, &world.machines)
}

/// Whether one more machine may be down without the cluster losing its majority.
fn may_go_down(world: &World, machine: &Machine) -> bool {
    let others = world.machines.iter().filter(|other| other.place != machine.place);
    let up = others.filter(|other| other.running().is_some()).count();
    machine.running().is_some() && up > world.machines.len() / 2
}
