//! What clients do all the time: write numbers, read them, commit offsets, ask how far things are, and go on with
//! another topic.

mod committer;
mod deleter;
mod keyed;
mod reader;
mod slow_reader;
mod topics;
mod writer;

use std::sync::Arc;

use base::random::Random;
use base::task::{JoinHandle, spawn};
use base::trace;
use tokio::sync::watch;

use crate::client::{CallError, Meaning, meaning};
use crate::world::World;

/// What was stored is damaged.
const CORRUPT: i16 = 2;

/// Starts all clients. They end when `stop` says true, and when they have no more open question.
#[must_use]
pub fn start(world: &Arc<World>, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for number in 0..world.plan.writers {
        tasks.push(spawn("writer", writer::run(Arc::clone(world), number, stop.clone())));
    }
    for number in 0..world.plan.readers {
        tasks.push(spawn("reader", reader::run(Arc::clone(world), number, stop.clone())));
    }
    for number in 0..world.plan.committers {
        tasks.push(spawn("committer", committer::run(Arc::clone(world), number, stop.clone())));
    }
    for number in 0..world.plan.slow_readers {
        tasks.push(spawn("slow reader", slow_reader::run(Arc::clone(world), number, stop.clone())));
    }
    if world.plan.deletes {
        tasks.push(spawn("deleter", deleter::run(Arc::clone(world), stop.clone())));
    }
    if world.plan.keyed {
        tasks.push(spawn("keyed", keyed::run(Arc::clone(world), stop.clone())));
    }
    if let Some(lasts) = world.plan.topic_lasts {
        tasks.push(spawn("topics", topics::run(Arc::clone(world), lasts, stop.clone())));
    }
    tasks
}

pub use keyed::check as check_keyed;
pub use reader::check_topic;
pub(crate) use writer::WITHOUT_ID;

/// A partition's number in its topic.
fn index(random: &dyn Random, world: &World) -> i32 {
    i32::try_from(random.below(u64::try_from(world.plan.partitions).expect("some"))).expect("few")
}

/// An answer that is there and means that it is done; everything else is counted, and told when no client
/// may be told so.
fn settled<T>(world: &World, who: &str, what: &'static str, answer: Result<Result<T, i16>, CallError>) -> Option<T> {
    let failed = match answer {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(code)) => {
            // Damage is told, whoever reads there.
            let is_told = code == CORRUPT && world.is_damaged();
            if let Meaning::Fatal(code) = meaning(code)
                && !is_told
            {
                world.fail(format!("{who}: {what} is answered with code {code}"));
            }
            i64::from(code)
        }
        Err(CallError::Malformed(text)) => {
            world.fail(format!("{who}: {what}: {text}"));
            -2
        }
        Err(CallError::Damaged) => {
            // What a node has checked once it does not check again while it runs: as with Kafka, clients do.
            if !world.is_damaged_while_it_runs() {
                world.fail(format!("{who}: {what}: a batch whose checksum is wrong"));
            }
            -4
        }
        Err(_) => -3,
    };
    trace::note("again", || format!("{who} {what} {failed}"));
    world.count(|counts| counts.retries += 1);
    None
}
