//! SIGTERM and SIGINT stop the broker, SIGHUP makes it read its configuration again.

use std::time::Duration;

use anyhow::Context as _;
use base::time::now;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Signals to stop that come closer together than this are one: who stops a process and its group, or a service manager
/// and its wrapper, sends several.
const REPEATED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("signals cannot be received");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = self.hangup.recv() => Request::Reload,
        }
    }

    /// Waits for a signal to stop.
    pub(super) async fn stop(&mut self) {
        while !matches!(self.next().await, Request::Stop(_)) {}
    }

    /// Waits for a signal to stop that was not sent along with the one that just came.
    pub(super) async fn stop_again(&mut self) {
        let counts_from = now() + REPEATED;
        loop {
            self.stop().await;
            if now() >= counts_from {
                return;
            }
            info!("another signal at once counts as the same; a later one does not wait for requests in flight");
        }
    }
}
