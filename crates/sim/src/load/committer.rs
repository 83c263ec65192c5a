//! Commits rising offsets for a group without members, and reads them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::{index, settled};
use crate::plan::{chance, fork, up_to};
use crate::world::World;

/// A committer rests up to so long between two steps.
const PAUSE_MAX: Duration = Duration::from_millis(150);

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let name = format!("c{number}");
    let group = format!("group-{number}");
    let random = fork(world.plan.seed, &format!("{name} choices"));
    let mut client = world.client(&name);
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    while !*stop.borrow() {
        let partition = index(&random, &world);
        let id = u64::try_from(partition).expect("some");
        let answered = if chance(&random, 3) {
            let least = world.known(|invariants| invariants.commit_now(&group, partition));
            let answer = client.committed(&group, partition).await;
            let read = settled(&world, &name, "a committed offset", answer);
            if let Some(offset) = read {
                trace::event("committed", &[number as u64, id, offset.cast_unsigned()]);
                world.observe(|invariants| invariants.commit_read(&group, partition, least, offset));
                world.count(|counts| counts.questions += 1);
            }
            read.is_some()
        } else {
            let offset = offsets.entry(partition).or_default();
            *offset += 1;
            world.known(|invariants| invariants.committing(&group, partition, *offset));
            let answer = client.commit(&group, partition, *offset).await;
            let answer = answer.map(|code| if code == 0 { Ok(()) } else { Err(code) });
            let done = settled(&world, &name, "a commit", answer).is_some();
            if done {
                trace::event("commit", &[number as u64, id, offset.cast_unsigned()]);
                world.known(|invariants| invariants.committed(&group, partition, *offset));
                world.count(|counts| counts.acked_commits += 1);
            } else {
                world.known(|invariants| invariants.commit_unanswered(&group, partition, *offset));
            }
            done
        };
        if !answered {
            client.back_off().await;
        }
        sleep(up_to(&random, PAUSE_MAX)).await;
    }
}
