//! Tasks, threads that run one future, and calls that block.
//!
//! Under a simulation (feature `simulation`, [`simulate`]) everything here runs as a task of the
//! one runtime of the calling thread, so that a seed decides the order of all of it.

mod join_set;
#[cfg(feature = "simulation")]
mod scope;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
pub use tokio::task::{AbortHandle, JoinError, JoinHandle, yield_now};

pub use join_set::JoinSet;
#[cfg(feature = "simulation")]
pub use scope::Scope;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static OWN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Runs `future` as a task. The name is for logs and traces.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    debug_assert!(!name.is_empty());
    #[cfg(feature = "simulation")]
    if let Some(scope) = Scope::current() {
        return scope.adopt(name, future);
    }
    tokio::spawn(future)
}

/// Runs `future` to its end on a thread of its own, where blocking calls are allowed and a wake-up
/// costs one futex. Timers work when the caller is inside a runtime. The operating system shows
/// the first 15 bytes of the name.
///
/// # Errors
/// When the operating system refuses a thread.
pub fn spawn_thread<F>(name: &str, future: F) -> io::Result<ThreadHandle>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, finished) = oneshot::channel();
    if simulated() {
        drop(spawn("simulated thread", async move {
            future.await;
            let _ = sender.send(());
        }));
        return Ok(ThreadHandle { finished });
    }
    let runtime = Handle::try_current().ok();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        OWN_THREAD.set(true);
        let _guard = runtime.as_ref().map(Handle::enter);
        block_on(future);
        // The one that joins may be gone.
        let _ = sender.send(());
    })?;
    Ok(ThreadHandle { finished })
}

/// A thread started by [`spawn_thread`]. Dropping it detaches the thread.
#[derive(Debug)]
pub struct ThreadHandle {
    finished: oneshot::Receiver<()>,
}

/// The thread's future panicked.
#[derive(Debug, thiserror::Error)]
#[error("the thread panicked")]
pub struct ThreadPanicked;

impl ThreadHandle {
    /// Waits until the future has ended.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn join(self) -> Result<(), ThreadPanicked> {
        self.finished.await.map_err(|_| ThreadPanicked)
    }
}

/// Runs a blocking call on the pool of blocking threads; in place on a thread of
/// [`spawn_thread`], outside a runtime and in a simulation.
///
/// # Panics
/// When `call` panics.
#[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
pub async fn blocking<T, F>(call: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if simulated() || OWN_THREAD.get() || Handle::try_current().is_err() {
        return call();
    }
    match tokio::task::spawn_blocking(call).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down and no task of it will run again.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs a future that makes blocking calls (file writes, syncs) away from the async workers, by
/// the rules of [`blocking`]; a simulation awaits it in place.
pub async fn offload<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if simulated() {
        return future.await;
    }
    blocking(move || block_on(future)).await
}

/// Runs `future` on the calling thread, which is parked while the future waits.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !unpark.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Whether the calling thread belongs to a simulation.
#[must_use]
pub fn simulated() -> bool {
    cfg!(feature = "simulation") && SIMULATED.get()
}

/// Makes the calling thread a simulation's until the guard is dropped.
#[cfg(feature = "simulation")]
#[must_use]
pub fn simulate() -> SimulationGuard {
    SimulationGuard { before: SIMULATED.replace(true) }
}

/// See [`simulate`].
#[cfg(feature = "simulation")]
#[derive(Debug)]
pub struct SimulationGuard {
    before: bool,
}

#[cfg(feature = "simulation")]
impl Drop for SimulationGuard {
    fn drop(&mut self) {
        SIMULATED.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thread_runs_a_future_with_timers_to_its_end() {
        let (sender, receiver) = oneshot::channel();
        let thread = spawn_thread("test", async move {
            crate::time::sleep(Duration::from_millis(1)).await;
            let _ = sender.send(thread::current().name().map(str::to_owned));
        })
        .unwrap();
        thread.join().await.unwrap();
        assert_eq!(receiver.await.unwrap().as_deref(), Some("test"));
    }

    #[tokio::test]
    async fn a_panic_in_a_thread_is_seen_by_the_one_that_joins() {
        let thread = spawn_thread("test", async { panic!("on purpose") }).unwrap();
        assert!(thread.join().await.is_err());
    }

    #[test]
    fn block_on_wakes_from_another_thread() {
        let (sender, receiver) = oneshot::channel();
        let other = spawn_thread("test", async move { sender.send(7).unwrap() }).unwrap();
        assert_eq!(block_on(receiver).unwrap(), 7);
        block_on(other.join()).unwrap();
    }

    #[tokio::test]
    async fn a_simulated_thread_is_a_task() {
        let _guard = simulate();
        let here = thread::current().id();
        let (sender, receiver) = oneshot::channel();
        let thread = spawn_thread("test", async move {
            let _ = sender.send(thread::current().id());
        })
        .unwrap();
        thread.join().await.unwrap();
        assert_eq!(receiver.await.unwrap(), here);
    }
}
