//! Goes on with another topic now and then: the one before is read to its end, compared, and deleted, so that the log
//! has segments in which nothing lives.

use std::sync::Arc;

use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::check_topic;
use crate::client::{CallError, Client};
use crate::plan::{between, fork, up_to};
use crate::world::World;

/// Pause between two looks at whether the writers have gone on.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a topic is left that nobody writes to.
const LEFT_MAX: Duration = Duration::from_secs(8);
/// How long it is still there when slow readers were told that it goes.
const LEAVING_MAX: Duration = Duration::from_secs(1);
/// There is none of that name.
const NO_TOPIC: i16 = 3;
/// There is one of that name.
const TOPIC_EXISTS: i16 = 36;

pub(super) async fn run(world: Arc<World>, lasts: Duration, stop: watch::Receiver<bool>) {
    let random = fork(world.plan.seed, "topics choices");
    let mut client = world.client("topics");
    let mut stopping = stop.clone();
    for topic in 1.. {
        let before = topic - 1;
        let lasts = if topic == 1 { Duration::ZERO } else { between(&random, lasts / 2, lasts) };
        let stopped = stopping.wait_for(|stopping| *stopping);
        if base::time::timeout(lasts, stopped).await.is_ok() {
            return;
        }
        while !done(client.create_topic(topic, world.plan.partitions).await, TOPIC_EXISTS) {
            if *stop.borrow() {
                return;
            }
            client.back_off().await;
        }
        world.begin_topic(topic);
        while world.is_written_before(topic) {
            if *stop.borrow() {
                return;
            }
            sleep(PAUSE).await;
        }
        // The first one is where offsets are committed for: it stays.
        if before == 0 {
            continue;
        }
        sleep(up_to(&random, LEFT_MAX)).await;
        if *stop.borrow() {
            return;
        }
        check_topic(&world, &mut client, before, false).await;
        world.end_topics_before(topic);
        world.leave_topic(before);
        sleep(up_to(&random, LEAVING_MAX)).await;
        delete(&mut client, before).await;
        trace::event("deleted", &[u64::try_from(before).expect("some")]);
        world.count(|counts| counts.topics += 1);
    }
}

async fn delete(client: &mut Client, topic: i32) {
    while !done(client.delete_topic(topic).await, NO_TOPIC) {
        client.back_off().await;
    }
}

/// Done now, or by a try before.
fn done(answer: Result<i16, CallError>, before: i16) -> bool {
    matches!(answer, Ok(code) if code == 0 || code == before)
}
