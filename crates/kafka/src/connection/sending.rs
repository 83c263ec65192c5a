//! A response on its way: it is counted while it is large, and no client may take it without end.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use base::memory::Permit;
use base::time::{Duration, now, sleep_until, timeout};

use super::{Ended, TICK};
use crate::context::Shared;
use crate::handlers::produce::Produce;
use crate::limits::COUNTED_BYTES_MIN;

/// The slowest reader that is waited for, in bytes a second, beyond the time that a connection may be idle.
const READER_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Memory for a response that is made already. Few may wait for it, and not for long: they hold what they wait for.
pub(super) async fn counted(shared: &Shared, bytes: usize) -> Result<Permit, Ended> {
    if bytes < COUNTED_BYTES_MIN {
        return Ok(Permit::empty());
    }
    let answers = shared.broker.memory().answers();
    if let Some(permit) = answers.try_acquire(bytes) {
        return Ok(permit);
    }
    let Ok(_turn) = shared.memory.answerers.try_acquire() else { return Err(Ended::NoMemory(bytes)) };
    timeout(shared.limits.answerer_max, answers.acquire(bytes)).await.map_err(|_| Ended::NoMemory(bytes))
}

/// Writes `bytes` to a client that may be slow, but not without end; the less so, the less memory is left for answers.
/// Requests behind that become complete give back their memory meanwhile.
pub(super) async fn write(
    shared: &Shared,
    bytes: u64,
    in_flight: &mut VecDeque<Produce>,
    writing: impl Future<Output = io::Result<()>>,
) -> Result<(), Ended> {
    let mut writing = pin!(writing);
    // Most sockets take everything at once.
    if let Poll::Ready(written) = poll_fn(|task| Poll::Ready(writing.as_mut().poll(task))).await {
        return written.map_err(Ended::Write);
    }
    let started = now();
    let last = started + shared.limits.idle_max + Duration::from_secs(bytes / READER_BYTES_PER_SECOND_MIN);
    let at_rate = Duration::from_secs(bytes / shared.limits.reader_short_rate_min.max(1));
    let short = started + shared.limits.reader_short_max + at_rate;
    let mut look = last.min(short);
    loop {
        tokio::select! {
            biased;
            written = &mut writing => return written.map_err(Ended::Write),
            () = sleep_until(look) => {}
            () = poll_fn(|task| {
                for produce in in_flight.iter_mut() {
                    produce.settle(task);
                }
                Poll::Pending
            }) => {}
        }
        let now = now();
        if now >= last || (now >= short && are_answers_short(shared)) {
            return Err(Ended::SlowReader);
        }
        look = last.min(now + TICK);
    }
}

fn are_answers_short(shared: &Shared) -> bool {
    let answers = shared.broker.memory().answers();
    answers.used() >= answers.bytes_max() / 4 * 3
}
