//! Tasks of a node that go on until it stops.

use std::future::Future;

use base::task::{self, AbortHandle, JoinHandle};
use parking_lot::Mutex;

/// One of them; ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    abort: AbortHandle,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(crate) fn start(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = task::spawn(name, work);
        Self { abort: task.abort_handle(), task: Mutex::new(Some(task)) }
    }

    /// Returns when it has ended, and holds nothing of the cluster.
    pub(crate) async fn shutdown(&self) {
        self.abort.abort();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
