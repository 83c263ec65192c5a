//! A task of a replica that panics takes the replica out of service: nobody may wait for what it does
//! no more.

use std::sync::Arc;

use crate::core::Core;
use crate::errors::OutOfService;

/// `run`, until it ends or panics.
pub(crate) async fn guarded(core: Arc<Core>, task: &'static str, run: impl Future<Output = ()> + Send) {
    let _guard = Guard { core, task };
    run.await;
}

struct Guard {
    core: Arc<Core>,
    task: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shard = self.core.config.shard;
            self.core.fail(OutOfService::Panicked { shard, task: self.task });
        }
    }
}
