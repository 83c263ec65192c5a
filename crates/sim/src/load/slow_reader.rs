//! Asks for much and takes it a bit at a time, of the oldest topic and of one that is about to be deleted: what it is
//! given lies in old segments, and is still to be read from them while others let go of it.

use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, timeout};
use tokio::sync::watch;

use super::reader::{is_gone, look_at};
use super::{index, settled};
use crate::client::PARTITIONS_MAX;
use crate::plan::{between, chance, fork, up_to};
use crate::world::World;

/// How long it rests before it asks again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long it rests after each bit.
const BIT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(600));
/// How long it rests before the first bit of a topic that is about to be deleted: what held it is used again meanwhile.
const LEAVING_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// Mostly it begins at the beginning.
const ELSEWHERE_ONE_IN: u64 = 3;

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let name = format!("slow{number}");
    let random = fork(world.plan.seed, &format!("{name} choices"));
    let mut client = world.client(&name);
    let mut stopping = stop.clone();
    let mut leaving = world.leaving_topics();
    while !*stop.borrow() {
        let told = timeout(up_to(&random, PAUSE_MAX), leaving.changed()).await;
        let is_leaving = matches!(told, Ok(Ok(())));
        let topic = if is_leaving { *leaving.borrow_and_update() } else { world.topics().0 };
        let partition = topic * PARTITIONS_MAX + index(&random, &world);
        let known = u64::try_from(world.known(|invariants| invariants.end_now(partition))).unwrap_or(0);
        let position = if chance(&random, ELSEWHERE_ONE_IN) { random.below(known.max(1)) } else { 0 };
        let begins = world.known(|invariants| invariants.gone_before(partition));
        let position = i64::try_from(position).expect("an offset").max(begins);
        let pause = between(&random, BIT_PAUSE.0, BIT_PAUSE.1);
        let first = if is_leaving { between(&random, LEAVING_PAUSE.0, LEAVING_PAUSE.1) } else { pause };
        let answer = tokio::select! {
            biased;
            // What it has read by then may be anything.
            _ = stopping.wait_for(|stopping| *stopping) => return,
            answer = client.fetch_slowly(partition, position, first, pause) => answer,
        };
        if is_gone(&world, partition, position, &answer) {
            continue;
        }
        match settled(&world, &name, "a slow fetch", answer) {
            Some((seen, high_watermark)) => {
                look_at(&world, &name, partition, position, &seen, high_watermark);
                world.count(|counts| counts.slow_reads += 1);
            }
            None => client.back_off().await,
        }
        // One that was told of meanwhile is gone.
        leaving.mark_unchanged();
    }
}
