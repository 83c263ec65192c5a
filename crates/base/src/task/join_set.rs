//! Tasks that end with their owner.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use super::AbortHandle;

/// tokio's set of tasks; what is spawned here belongs to the simulated process of the caller, as with
/// [`super::spawn`].
#[derive(Debug)]
pub struct JoinSet<T>(tokio::task::JoinSet<T>);

impl<T: Send + 'static> JoinSet<T> {
    #[must_use]
    pub fn new() -> Self {
        Self(tokio::task::JoinSet::new())
    }

    /// Runs `future` as a task of the set.
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
    {
        #[cfg(feature = "simulation")]
        if let Some(scope) = super::Scope::current() {
            return scope.adopt_into(&mut self.0, future);
        }
        self.0.spawn(future)
    }
}

impl<T: Send + 'static> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for JoinSet<T> {
    type Target = tokio::task::JoinSet<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for JoinSet<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
