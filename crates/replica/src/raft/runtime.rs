//! Where consensus runs its tasks: through `base`, like everything else of the node.

use std::future::Future;
use std::io;

use base::time::{Duration, now, sleep_until};
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;

use super::grid::aligned;

/// What waits until a moment is a group's look at its timers: all look at once, so far from each other, and every second
/// time when heartbeats leave.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// What is over sooner is none.
const SHORT: Duration = Duration::from_micros(10);

/// The runtime of the consensus tasks. Its randomness (election timeouts, the seeds of its tasks)
/// follows from one seed per replica, so that a simulation repeats itself.
pub(crate) type Runtime = DeterministicRng<Tasks>;

/// tokio's runtime, whose tasks are those of `base`.
#[derive(Debug)]
pub(crate) struct Tasks(TokioRuntime);

impl AsyncRuntime for Tasks {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        base::task::spawn("consensus", future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let at = <Self::Instant as openraft::Instant>::now();
        if deadline <= at + SHORT {
            return TokioRuntime::sleep_until(deadline);
        }
        sleep_until(aligned(now() + (deadline - at), LOOK_PAUSE))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    #[expect(clippy::manual_async_fn, reason = "the trait wants the future to be Send")]
    fn spawn_blocking<F, T>(call: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        async move { Ok(base::task::blocking(call).await) }
    }
}
