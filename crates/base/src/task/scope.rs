//! The tasks of one simulated process, which can be killed between any two of their steps.
//!
//! What a task of a scope spawns is of the same scope, so nothing of a killed process goes on.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// So many handles are kept before those of ended tasks are let go of.
const HANDLES_MIN: usize = 64;

/// A simulated process. Clones are the same.
#[derive(Clone)]
pub struct Scope {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    killed: bool,
    tasks: Vec<AbortHandle>,
    prune_at: usize,
}

impl Scope {
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let state = State { killed: false, tasks: Vec::new(), prune_at: HANDLES_MIN };
        Self { inner: Arc::new(Inner { name: name.into(), state: Mutex::new(state) }) }
    }

    /// The process whose task is being polled.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `future` as a task of the process.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.adopt(name, future)
    }

    #[expect(clippy::disallowed_methods, reason = "the replacement that the ban names")]
    pub(super) fn adopt<F>(&self, _: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = tokio::spawn(self.of(future));
        self.note(handle.abort_handle());
        handle
    }

    pub(super) fn adopt_into<F>(&self, set: &mut JoinSet<F::Output>, future: F) -> AbortHandle
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = set.spawn(self.of(future));
        self.note(handle.clone());
        handle
    }

    /// Ends all tasks of the process where they wait, and those that are spawned later at once. A task
    /// that runs right now ends at its next await.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.inner.state.lock();
            state.killed = true;
            std::mem::take(&mut state.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
    }

    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.inner.state.lock().killed
    }

    fn of<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped { scope: self.clone(), future: Some(Box::pin(future)) }
    }

    fn note(&self, task: AbortHandle) {
        let mut state = self.inner.state.lock();
        if state.killed {
            drop(state);
            task.abort();
            return;
        }
        state.tasks.push(task);
        if state.tasks.len() >= state.prune_at {
            state.tasks.retain(|task| !task.is_finished());
            state.prune_at = HANDLES_MIN.max(2 * state.tasks.len());
        }
    }

    /// Runs `call` as a step of the process.
    fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        let _left = Entered(CURRENT.replace(Some(self.clone())));
        call()
    }
}

struct Entered(Option<Scope>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.inner.name)
    }
}

struct Scoped<F> {
    scope: Scope,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { scope, future } = &mut *self;
        let future = future.as_mut().expect("it is taken only when this is dropped");
        scope.enter(|| future.as_mut().poll(context))
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        // Destructors are steps of the process, too.
        let future = self.future.take();
        self.scope.enter(|| drop(future));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::task::spawn;
    use crate::time::{Duration, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_does_nothing_more_nor_do_its_descendants() {
        let scope = Scope::new("process");
        let steps = Arc::<AtomicU64>::default();
        let count = |steps: &Arc<AtomicU64>| {
            let steps = Arc::clone(steps);
            async move {
                loop {
                    steps.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let (child, grandchild) = (count(&steps), count(&steps));
        drop(scope.spawn("process", async move {
            drop(spawn("child", child));
            let mut set = crate::task::JoinSet::new();
            set.spawn(async move {
                drop(spawn("grandchild", grandchild));
                std::future::pending::<()>().await;
            });
            set.join_next().await;
        }));
        sleep(Duration::from_millis(10)).await;
        assert!(steps.load(Ordering::Relaxed) > 15);
        scope.kill();
        let then = steps.load(Ordering::Relaxed);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(steps.load(Ordering::Relaxed), then);
        let late = scope.spawn("late", async { std::future::pending::<()>().await });
        assert!(late.await.unwrap_err().is_cancelled());
    }
}
